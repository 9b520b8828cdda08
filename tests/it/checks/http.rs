use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{becomes, checked, quick};
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_check_goes_through_all_its_states() {
    let app = TestApp::start_checking().await;
    let mut target = HealthTarget::start(Answer::Status(204)).await;
    let check = quick("http", json!({"path": "/up?deep=1", "expect": {"degraded": "429"}}));
    let path = app.path_of(&checked("web", target.port(), &json!([check]))).await;
    assert_eq!(app.body(&path).await["status"], "unknown");
    let health = becomes(&app, &path, "healthy").await;
    let check = &health["checks"][0];
    assert_eq!(
        (&check["id"], &check["kind"], &check["failures"]),
        (&json!("http"), &json!("http"), &json!(0))
    );
    assert_eq!(check["target"], json!(format!("http://127.0.0.1:{}/up?deep=1", target.port())));
    assert!(check["latency_ms"].as_f64().unwrap() > 0.0, "{check}");
    target.answer(Answer::Status(429));
    assert_eq!(becomes(&app, &path, "degraded").await["error"], "answered 429 Too Many Requests");
    target.answer(Answer::Status(500));
    let ill = becomes(&app, &path, "unhealthy").await;
    assert_eq!(ill["error"], "answered 500 Internal Server Error");
    // later failures are counted too
    wait_until(PATIENCE, "failures are counted on", async || {
        let health = app.body(&format!("{path}/health")).await;
        (health["checks"][0]["failures"].as_i64().unwrap() > 3).then_some(())
    })
    .await;
    target.answer(Answer::Status(200));
    becomes(&app, &path, "healthy").await;
    target.close().await;
    let away = becomes(&app, &path, "unhealthy").await;
    assert!(away["error"].as_str().unwrap().contains("refused"), "{away}");
    assert!(target.asked_for().iter().all(|asked| asked == "/up?deep=1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_is_looked_at_and_gives_the_load() {
    let app = TestApp::start_checking().await;
    let target =
        HealthTarget::start(Answer::Body(200, r#"{"status":"healthy","load_percentage":0.25}"#)).await;
    let expect = json!({"status": 200, "json": {"status": "healthy"}, "load": "load_percentage"});
    let check = quick("http", json!({"expect": expect}));
    let path = app.path_of(&checked("loaded", target.port(), &json!([check]))).await;
    becomes(&app, &path, "healthy").await;
    assert_eq!(app.body(&path).await["load"], 0.25);
    target.answer(Answer::Body(200, r#"{"status":"ill","load_percentage":0.5}"#));
    let ill = becomes(&app, &path, "unhealthy").await;
    assert_eq!(ill["error"], "'status' is \"ill\", not \"healthy\"");
    assert_eq!(app.body(&path).await["load"], 0.25);
    target.answer(Answer::Long(200, 100_000));
    wait_until(PATIENCE, "the body is too long", async || {
        let health = app.body(&format!("{path}/health")).await;
        health["error"].as_str().unwrap().contains("longer than").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let app = TestApp::start_checking().await;
    let trap = HealthTarget::start(Answer::Status(200)).await;
    let target = HealthTarget::start(Answer::Redirect(trap.port())).await;
    let path = app.path_of(&checked("leads", target.port(), &json!([quick("http", json!({}))]))).await;
    assert_eq!(becomes(&app, &path, "unhealthy").await["error"], "answered 302 Found");
    assert_eq!(trap.times_asked(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_says_nothing_fails_after_its_time_out_and_retries() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Silence).await;
    let check = quick(
        "http",
        json!({"timeout": "50ms", "retries": 2, "retry_delay": "10ms", "interval": "1h",
        "unhealthy_after": 1}),
    );
    let path = app.path_of(&checked("silent", target.port(), &json!([check]))).await;
    let health = becomes(&app, &path, "unhealthy").await;
    assert_eq!(health["error"], "no answer within 50ms");
    assert_eq!(target.times_asked(), 3);
}

/// Targets end their connections in many ways, and are well all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_its_connection_counts() {
    let app = TestApp::start_checking().await;
    let ways = [
        ("close", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "healthy"),
        ("old", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "healthy"),
        ("by-its-end", "GET", "HTTP/1.1 200 OK\r\n\r\nok", "healthy"),
        ("head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n", "healthy"),
        ("at-once", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "healthy"),
        ("nothing", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "healthy"),
        (
            "continued",
            "GET",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "healthy",
        ),
        // nobody looks at the body
        ("cut", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok", "healthy"),
        ("odd", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "healthy"),
        ("ill", "GET", "HTTP/1.1 500 Odd\r\nConnection: close\r\n\r\n", "unhealthy"),
        ("silent", "GET", "", "unhealthy"),
        ("noise", "GET", "SSH-2.0-none\r\n", "unhealthy"),
    ];
    for (name, method, answer, status) in ways {
        let port = raw_target(answer).await;
        let check = quick("http", json!({"method": method, "healthy_after": 3}));
        let path = app.path_of(&checked(name, port, &json!([check]))).await;
        becomes(&app, &path, status).await;
    }
    // and stay so
    let events = app.body("/api/v1/events?kind=status_change&limit=1000").await;
    let mut told: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| &event["service"]).collect();
    told.sort_by_key(ToString::to_string);
    let well = ways.iter().filter(|way| way.3 == "healthy").count();
    for way in ways.iter().filter(|way| way.3 == "healthy") {
        assert_eq!(told.iter().filter(|name| ***name == way.0).count(), 1, "{way:?}");
    }
    assert!(told.len() >= well + 3, "{told:?}");
}

/// What is known is told, whatever is yet to come of an answer that nobody looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_an_answer_is_not_waited_for_longer_than_the_check_may_take() {
    let app = TestApp::start_checking().await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok").await.unwrap();
            kept.push(stream);
        }
    });
    let check = quick("http", json!({"timeout": "200ms", "interval": "200ms", "healthy_after": 3}));
    let path = app.path_of(&checked("long-winded", port, &json!([check]))).await;
    assert_eq!(becomes(&app, &path, "healthy").await["error"], json!(null));
    let events = app.body("/api/v1/events?kind=status_change").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
}

/// Some say that they have waited too long before they hang up. That is no answer to what is asked next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asked_for_is_no_answer() {
    let app = TestApp::start_checking().await;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, asked_late) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (asked.clone(), asked_late.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (asked, asked_late) = counts.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let well = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                let tired = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
                assert!(stream.read(&mut request).await.unwrap() > 0);
                asked.fetch_add(1, SeqCst);
                stream.write_all(well).await.unwrap();
                // the answer has been taken by then, and the next question has not come
                tokio::time::sleep(Duration::from_millis(10)).await;
                stream.write_all(tired).await.unwrap();
                if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    asked_late.fetch_add(1, SeqCst);
                }
            });
        }
    });
    let check = quick("http", json!({"interval": "200ms", "unhealthy_after": 1}));
    let path = app.path_of(&checked("tired", port, &json!([check]))).await;
    wait_until(PATIENCE, "it is asked", async || (asked.load(SeqCst) >= 10).then_some(())).await;
    assert_eq!(app.body(&path).await["status"], "healthy");
    assert_eq!(asked_late.load(SeqCst), 0);
    let events = app.body("/api/v1/events?kind=status_change").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
}

/// The port of a server that reads a request, says this, and hangs up.
async fn raw_target(answer: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            // the asker may hang up whenever it likes
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

/// A target with a certificate of its own making, which is believed if the check brings its authority, or asks for no
/// proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_believed_as_the_check_says() {
    let app = TestApp::start_checking().await;
    let (target, authority) = tls_target(&["target.example"]).await;
    let url = format!("https://127.0.0.1:{target}/");
    let ways = [
        ("own", json!({"ca": authority, "server_name": "target.example"}), "healthy"),
        ("blind", json!({"verify": false}), "healthy"),
        ("other-name", json!({"ca": authority}), "unhealthy"),
        ("machine", json!(true), "unhealthy"),
    ];
    for (name, tls, status) in ways {
        let check = quick("http", json!({"url": url, "tls": tls}));
        let path = app.path_of(&checked(name, 1, &json!([check]))).await;
        let health = becomes(&app, &path, status).await;
        if status == "unhealthy" {
            assert!(health["error"].as_str().unwrap().contains("TLS"), "{health}");
        }
    }
}

/// The port of a server that answers 200 over TLS, and the PEM of what signed its certificate.
async fn tls_target(names: &[&str]) -> (u16, String) {
    let key = rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        .unwrap();
    let pem = key.cert.pem();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let ok = hyper::service::service_fn(async |_| {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(axum::body::Body::empty()))
                });
                // the asker may hang up whenever it likes
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), ok)
                    .await;
            });
        }
    });
    (port, pem)
}
