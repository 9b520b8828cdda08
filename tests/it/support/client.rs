//! Requests as a client writes them, and answers with what a test asks of them.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    pub fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_mins(1))
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .unwrap();
        Self::over(base, http)
    }

    /// With a way of its own to make connections.
    pub fn over(base: &str, http: reqwest::Client) -> Self {
        Self { base: base.to_owned(), http }
    }

    pub fn request(&self, method: Method, path: &str) -> Call {
        Call(self.http.request(method, format!("{}{path}", self.base)))
    }

    pub fn get(&self, path: &str) -> Call {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.request(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.request(Method::PUT, path)
    }

    /// With the media type of a merge patch, when the body is JSON.
    pub fn patch(&self, path: &str, changes: &Value) -> Call {
        self.request(Method::PATCH, path).body("application/merge-patch+json", changes.to_string())
    }

    pub fn delete(&self, path: &str) -> Call {
        self.request(Method::DELETE, path)
    }

    /// None as long as nobody answers.
    pub async fn try_get(&self, path: &str) -> Option<Reply> {
        self.get(path).tried().await
    }

    pub fn register(&self, service: &Value) -> Call {
        self.post("/api/v1/services/register").json(service)
    }

    pub async fn registered(&self, service: &Value) -> Value {
        self.register(service).await.answered(201).json()
    }

    /// Registers, and gives the path of the service.
    pub async fn path_of(&self, service: &Value) -> String {
        format!("/api/v1/services/{}", id_of(&self.registered(service).await))
    }

    /// Reports a result of the health check of the service at a path.
    pub fn report(&self, path: &str, healthy: bool) -> Call {
        self.post(&format!("{path}/health?healthy={healthy}"))
    }

    /// The body of a GET that succeeds.
    pub async fn body(&self, path: &str) -> Value {
        self.get(path).await.answered(200).json()
    }

    /// The body of a GET that succeeds with a bare array.
    pub async fn array(&self, path: &str) -> Vec<Value> {
        match self.body(path).await {
            Value::Array(items) => items,
            other => panic!("GET {path} gives no array: {other}"),
        }
    }

    /// The names in a list or a discovery, in their order.
    pub async fn names(&self, path: &str) -> Vec<String> {
        let items = self.array(path).await;
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The value of one series in the metrics.
    pub async fn metric(&self, series: &str) -> u64 {
        let metrics = self.get("/metrics").await.answered(200).text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in {metrics}")).parse().unwrap()
    }

    /// All events of a service, oldest first.
    pub async fn events(&self, service: &str) -> Vec<Value> {
        let page = self.body(&format!("/api/v1/events?service={service}&limit=1000")).await;
        page["events"].as_array().expect("a page of events").clone()
    }
}

/// A request under way: awaited, it gives the answer.
pub struct Call(RequestBuilder);

impl Call {
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(self, media_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header(CONTENT_TYPE, media_type).body(body))
    }

    /// Only if the resource still has this version.
    pub fn if_match(self, version: &Value) -> Self {
        self.header("if-match", &format!("\"{}\"", version.as_u64().expect("a version")))
    }

    /// None when nobody answers.
    pub async fn tried(self) -> Option<Reply> {
        self.sent().await.ok()
    }

    async fn sent(self) -> reqwest::Result<Reply> {
        let answer = self.0.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Reply { status, headers, body: answer.bytes().await?.to_vec() })
    }
}

impl IntoFuture for Call {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.sent().await.expect("an answer") })
    }
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn answered(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the body: {}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in: {}", self.text()))
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    /// The revision that the answer rests on.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        self.header("x-rollcall-revision").parse().expect("a decimal integer")
    }

    #[track_caller]
    pub fn is_empty(&self) {
        assert!(self.body.is_empty(), "no body was expected: {}", self.text());
    }

    /// A problem as RFC 9457 has it, with all that ours adds.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "the body: {}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        for field in ["type", "title", "detail", "instance", "code", "request_id"] {
            let text = problem[field].as_str().unwrap_or_else(|| panic!("no {field} in {problem}"));
            assert!(!text.is_empty(), "an empty {field} in {problem}");
        }
        assert_eq!(problem["status"], json!(status), "in {problem}");
        assert_eq!(problem["request_id"], json!(self.header("x-request-id")), "in {problem}");
        problem
    }

    /// A 400 that names the guilty field, or something within it.
    #[track_caller]
    pub fn blames(&self, field: &str) -> Value {
        let problem = self.problem(400);
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
        let mut named = Vec::new();
        for error in errors {
            assert!(
                error["message"].as_str().is_some_and(|text| !text.is_empty()),
                "no message in {problem}"
            );
            named.push(error["field"].as_str().unwrap_or_else(|| panic!("no field in {problem}")));
        }
        let within = |name: &&str| {
            let rest = name.strip_prefix(field);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        assert!(named.iter().any(within), "{field} is not named in {problem}");
        problem
    }

    /// A 412 that tells the version to try again with.
    #[track_caller]
    pub fn refused_for(&self, current: &Value) {
        let problem = self.problem(412);
        assert_eq!(problem["current_version"], *current, "in {problem}");
        assert_eq!(self.header("etag"), format!("\"{current}\""));
    }
}

#[track_caller]
pub fn id_of(service: &Value) -> &str {
    service["id"].as_str().unwrap_or_else(|| panic!("no id in {service}"))
}

/// UTC with exactly six decimals and Z, so that times sort as text.
pub fn is_time(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000Z" && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}
