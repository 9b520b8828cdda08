//! What browsers are told: which pages may call, and what not to do with an answer.

use reqwest::Method;
use rollcall::settings::Origins;

use crate::support::{Reply, TestApp, static_service};

const OURS: &str = "https://console.example";
const ALLOWED: &str = "access-control-allow-origin";

async fn start_for(origins: Origins) -> TestApp {
    let app = TestApp::start_for(origins).await;
    app.registered(&static_service("shop", 1)).await;
    app
}

fn has_none(reply: &Reply) -> bool {
    reply.headers.keys().all(|name| !name.as_str().starts_with("access-control-"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_named_origin_may_call_and_read_what_they_need() {
    let app = start_for(Origins::These(vec![OURS.to_owned()])).await;
    for (path, status) in [
        ("/discover/shop", 200),
        ("/discover/shop/", 200),
        ("/api/v1/services", 200),
        ("/api/v1/services/names?consistency=odd", 400),
        ("/nowhere", 404),
        ("/discover/%ff", 400),
    ] {
        let ours = app.get(path).header("origin", OURS).await.answered(status);
        assert_eq!(ours.header(ALLOWED), OURS, "{path}");
        let shown = ours.header("access-control-expose-headers").to_lowercase();
        for name in ["etag", "link", "location", "retry-after", "x-request-id", "x-rollcall-revision"] {
            assert!(shown.split(',').any(|shown| shown.trim() == name), "{name} is not in {shown}");
        }
        assert!(!ours.headers.contains_key("access-control-allow-credentials"));
        for origin in ["https://evil.example", "http://console.example", "null"] {
            let theirs = app.get(path).header("origin", origin).await.answered(status);
            assert!(!theirs.headers.contains_key(ALLOWED), "{path} {origin}");
            assert_eq!(theirs.header("vary"), "origin", "{path}");
        }
        // a cache must not give one page what another was answered
        assert_eq!(app.get(path).await.answered(status).header("vary"), "origin", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_asks_beforehand_is_told_what_it_may_do() {
    let app = start_for(Origins::These(vec![OURS.to_owned()])).await;
    let ask = |origin: &str, path: &str, method: &str| {
        app.request(Method::OPTIONS, path)
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization,content-type,if-match")
    };
    for (path, method) in [
        ("/api/v1/services/register", "POST"),
        ("/api/v1/services/00000000-0000-0000-0000-000000000000", "PATCH"),
        ("/api/v1/config/shop", "PUT"),
        ("/discover/shop", "GET"),
    ] {
        let told = ask(OURS, path, method).await.answered(200);
        assert_eq!(told.header(ALLOWED), OURS);
        let methods = told.header("access-control-allow-methods");
        assert!(methods.split(',').any(|allowed| allowed == method), "{methods}");
        let headers = told.header("access-control-allow-headers");
        for name in ["authorization", "content-type", "if-match", "if-none-match", "idempotency-key"] {
            assert!(headers.split(',').any(|allowed| allowed == name), "{name} is not in {headers}");
        }
        let theirs = ask("https://evil.example", path, method).await;
        assert!(!theirs.headers.contains_key(ALLOWED), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_page_may_call_where_all_are_named_but_with_nobodys_credentials() {
    let app = start_for(Origins::Any).await;
    for path in ["/discover/shop", "/api/v1/services"] {
        let reply = app.get(path).header("origin", "https://any.example").await.answered(200);
        assert_eq!(reply.header(ALLOWED), "*");
        assert!(!reply.headers.contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_may_call_where_none_is_named() {
    let app = TestApp::start().await;
    app.registered(&static_service("shop", 1)).await;
    for path in ["/discover/shop", "/api/v1/services", "/nowhere"] {
        let reply = app.get(path).header("origin", OURS).await;
        assert!(has_none(&reply) && !reply.headers.contains_key("vary"), "{path}");
    }
    let asked = app.request(Method::OPTIONS, "/api/v1/services").header("origin", OURS);
    let reply = asked.header("access-control-request-method", "GET").await.answered(405);
    assert!(has_none(&reply));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_to_be_taken_for_something_else() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("shop", 1)).await;
    let discovered = app.get("/discover/shop").await.answered(200);
    let (tag, unloaded) = (discovered.header("etag").to_owned(), "/api/v1/services?min_revision=999999999");
    let replies = [
        ("the quick way", discovered),
        ("the router", app.get("/discover/shop/").await.answered(200)),
        ("known", app.get("/discover/shop").header("if-none-match", &tag).await.answered(304)),
        ("a list", app.get("/api/v1/services").await.answered(200)),
        ("no content", app.post(&format!("{path}/heartbeat")).await.answered(204)),
        ("a bad request", app.get("/api/v1/services?limit=0").await.answered(400)),
        ("a bad path", app.get("/discover/%ff").await.answered(400)),
        ("no route", app.get("/nowhere").await.answered(404)),
        ("a wrong method", app.put("/health").await.answered(405)),
        ("a fault", app.get(unloaded).await.answered(503)),
        ("a probe", app.get("/health").await.answered(200)),
        ("the page", app.get("/docs").await.answered(200)),
        ("a script", app.get("/docs/swagger-initializer.js").await.answered(200)),
    ];
    for (what, reply) in replies {
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
        // nobody came by TLS
        assert!(!reply.headers.contains_key("strict-transport-security"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_runs_its_own_parts_alone_and_finds_them_here() {
    let app = TestApp::start().await;
    let page = app.get("/docs").await.answered(200);
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{part} is not in {policy}");
    }
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let text = page.text();
    assert!(!text.contains("<style") && !text.contains("onload=") && !text.contains("//"), "{text}");
    let parts: Vec<_> = ["src=\"", "href=\""].iter().flat_map(|mark| text.split(mark).skip(1)).collect();
    assert!(parts.len() >= 5);
    for part in parts {
        let path = part.split('"').next().unwrap();
        app.get(path).await.answered(200);
    }
    // a script in the page itself would not run
    for script in text.split("<script").skip(1) {
        assert!(script.trim_start().starts_with("src="), "{script}");
    }
}
