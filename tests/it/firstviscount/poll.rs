//! The poll of a service that gave no interval: the first one a second or so after registration,
//! then every 30 s.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, is_time, service, static_service, wait_until};

const OK: Answer = Answer::Status(200);

/// Waits for a status, and gives the service as it is then.
async fn becomes(app: &TestApp, path: &str, status: &str) -> Value {
    wait_until(PATIENCE, &format!("{path} becomes {status}"), async || {
        let service = app.body(path).await;
        (service["status"] == status).then_some(service)
    })
    .await
}

async fn is_asked(target: &HealthTarget, times: usize) {
    wait_until(PATIENCE, &format!("the target is asked {times} times"), async || {
        (target.times_asked() >= times).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_becomes_healthy_about_a_second_after_registration() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(OK).await;
    let start = Instant::now();
    let registered = app.registered(&service("well", target.port())).await;
    assert_eq!(registered["status"], "unknown");
    let path = format!("/api/v1/services/{}", registered["id"].as_str().unwrap());
    let healthy = becomes(&app, &path, "healthy").await;
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(200),
        "the first poll came after {took:?}, before the service can be up"
    );
    assert!(took < Duration::from_secs(10), "the first poll came after {took:?}");
    assert_eq!(healthy["health_check_failures"], 0);
    assert_eq!(healthy["version"], 2);
    assert_eq!(target.asked_for(), ["/health"]);
    assert_eq!(app.names("/discover/well").await, ["well"]);
    assert_eq!(app.body(&format!("{path}/health")).await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_503_becomes_degraded() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(503)).await;
    let path = app.path_of(&service("ill", target.port())).await;
    let service = becomes(&app, &path, "degraded").await;
    assert_eq!(service["health_check_failures"], 1);
    assert_eq!(target.times_asked(), 1);
    assert_eq!(app.names("/discover/ill").await, [""; 0]);
    let health = app.body(&format!("{path}/health")).await;
    assert!(
        health["error"].as_str().is_some_and(|error| error.contains("503")),
        "the health tells why: {health}"
    );
    assert!(health["response_time_ms"].as_f64().is_some_and(|time| time > 0.0), "{health}");
    assert!(is_time(&health["last_check"]), "{health}");
    let check = &health["checks"][0];
    assert_eq!(check["failures"], 1);
    let run = |field: &str| chrono::DateTime::parse_from_rfc3339(check[field].as_str().unwrap()).unwrap();
    assert_eq!(run("next_run_at") - run("last_run_at"), chrono::TimeDelta::seconds(30), "{check}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_cannot_be_reached_becomes_degraded() {
    let app = TestApp::start_checking().await;
    let mut target = HealthTarget::start(OK).await;
    target.close().await;
    let path = app.path_of(&service("away", target.port())).await;
    assert_eq!(becomes(&app, &path, "degraded").await["health_check_failures"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_never_answers_becomes_degraded_after_ten_seconds() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Silence).await;
    let path = app.path_of(&service("mute", target.port())).await;
    is_asked(&target, 1).await;
    let asked = Instant::now();
    assert_eq!(app.body(&path).await["status"], "unknown");
    assert_eq!(becomes(&app, &path, "degraded").await["health_check_failures"], 1);
    assert!(asked.elapsed() > Duration::from_secs(9), "given up after {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_target_holds_up_nobody_else() {
    let app = TestApp::start_checking().await;
    let mute = HealthTarget::start(Answer::Silence).await;
    let target = HealthTarget::start(OK).await;
    for number in 0..20 {
        app.registered(&service(&format!("mute-{number}"), mute.port())).await;
    }
    is_asked(&mute, 20).await;
    let start = Instant::now();
    let path = app.path_of(&service("well", target.port())).await;
    becomes(&app, &path, "healthy").await;
    assert!(start.elapsed() < Duration::from_secs(8), "it waited {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_or_the_whole_url_of_the_health_check_is_asked() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(OK).await;
    let elsewhere = HealthTarget::start(OK).await;
    let mut path = service("by-path", target.port());
    path["health_check_endpoint"] = json!("/deep/alive?full=1");
    let mut url = service("by-url", target.port());
    url["host"] = json!("127.0.0.2");
    url["health_check_endpoint"] = json!(format!("http://127.0.0.1:{}/other", elsewhere.port()));
    let (path, url) = (app.path_of(&path).await, app.path_of(&url).await);
    becomes(&app, &path, "healthy").await;
    becomes(&app, &url, "healthy").await;
    assert_eq!(target.asked_for(), ["/deep/alive?full=1"]);
    assert_eq!(elsewhere.asked_for(), ["/other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_at_an_ipv6_address_is_asked() {
    // A machine without IPv6 has nothing to be asked at.
    let Ok(target) = HealthTarget::start_at("[::1]:0", OK).await else { return };
    let app = TestApp::start_checking().await;
    let mut body = service("six", target.port());
    body["host"] = json!("::1");
    let path = app.path_of(&body).await;
    becomes(&app, &path, "healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_long_answer_at_most_four_kibibytes_are_kept() {
    let app = TestApp::start_checking().await;
    for (status, becoming) in [(200, "healthy"), (503, "degraded")] {
        let target = HealthTarget::start(Answer::Long(status, 32 * 1024 * 1024)).await;
        let path = app.path_of(&service("talkative", target.port())).await;
        becomes(&app, &path, becoming).await;
        let health = app.body(&format!("{path}/health")).await;
        let output = health["checks"][0]["output"].as_str().unwrap_or_default();
        assert!(output.len() <= 4096, "{} bytes", output.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reported_result_defers_the_next_poll() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(503)).await;
    let path = app.path_of(&service("reported", target.port())).await;
    app.report(&path, true).await.answered(200);
    // Whoever is registered later is asked, and the one that reported is still left in peace.
    for round in ["first", "second", "third"] {
        let witness = HealthTarget::start(OK).await;
        app.registered(&service(round, witness.port())).await;
        is_asked(&witness, 1).await;
    }
    assert_eq!(target.times_asked(), 0, "the next poll comes a whole interval after the report");
    assert_eq!(app.body(&path).await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_or_static_is_not_asked() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(503)).await;
    let gone = app.path_of(&service("gone", target.port())).await;
    app.delete(&gone).await.answered(204);
    let fixed = app.path_of(&static_service("static", target.port())).await;
    for round in ["first", "second", "third"] {
        let witness = HealthTarget::start(OK).await;
        app.registered(&service(round, witness.port())).await;
        is_asked(&witness, 1).await;
    }
    assert_eq!(target.times_asked(), 0);
    assert_eq!(app.body(&fixed).await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_poll_comes_again_after_thirty_seconds_and_its_result_counts() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(OK).await;
    let path = app.path_of(&service("changing", target.port())).await;
    becomes(&app, &path, "healthy").await;
    let asked = Instant::now();
    target.answer(Answer::Status(500));
    let service = wait_until(Duration::from_mins(1), "the second poll", async || {
        let service = app.body(&path).await;
        (service["status"] == "degraded").then_some(service)
    })
    .await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(45), "the second poll came after {took:?}");
    assert_eq!(service["health_check_failures"], 1);
    assert_eq!(target.times_asked(), 2);
}
