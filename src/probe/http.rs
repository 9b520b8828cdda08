//! Asks by HTTP. Redirects are not followed: a target answers for itself, and leads nowhere else.

use std::time::{Duration, Instant};

use reqwest::{Client, Response, redirect};

/// How much of an answer is read, so that its connection can be kept. Of a longer one the connection is closed.
const MOST_OF_A_BODY: usize = 16 * 1024;
const IDLE_FOR: Duration = Duration::from_secs(75);

#[derive(Clone)]
pub struct HttpProbe {
    client: Client,
    time_out: Duration,
}

#[derive(Clone, Debug)]
pub struct Observation {
    pub healthy: bool,
    pub latency: Duration,
    /// What was wrong.
    pub output: Option<String>,
}

impl HttpProbe {
    pub fn new(time_out: Duration) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .timeout(time_out)
                .pool_idle_timeout(IDLE_FOR)
                .pool_max_idle_per_host(2)
                .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
        };
        // A machine without root certificates can still ask by plain HTTP.
        let client = builder().build().or_else(|error| {
            tracing::warn!(
                error = crate::telemetry::chain(&error),
                "no root certificates were found: health checks by https will fail"
            );
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { client, time_out })
    }

    pub async fn ask(&self, url: &str) -> Observation {
        let began = Instant::now();
        let (healthy, output) = match self.client.get(url).send().await {
            Ok(response) => {
                let status = response.status();
                finish(response).await;
                let output = (!status.is_success()).then(|| format!("answered {status}"));
                (status.is_success(), output)
            }
            Err(error) if error.is_timeout() => {
                (false, Some(format!("no answer within {:?}", self.time_out)))
            }
            Err(error) => (false, Some(root_cause(&error))),
        };
        Observation { healthy, latency: began.elapsed(), output }
    }
}

async fn finish(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MOST_OF_A_BODY {
            return;
        }
    }
}

/// The innermost error says what happened; the outer ones say where in the client.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
