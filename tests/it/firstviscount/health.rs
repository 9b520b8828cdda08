//! POST and GET /services/{id}/health.

use futures_util::future::join_all;

use serde_json::Value;

use crate::support::{TestApp, id_of, is_time, service};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_degrade_then_make_unhealthy_and_a_success_heals() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("patient", 80)).await;
    for (healthy, status, failures) in [
        (false, "degraded", 1),
        (false, "degraded", 2),
        (false, "unhealthy", 3),
        (false, "unhealthy", 4),
        (true, "healthy", 0),
        (true, "healthy", 0),
        (false, "degraded", 1),
        (true, "healthy", 0),
    ] {
        let answer = app.report(&path, healthy).await.answered(200).json();
        for service in [answer, app.body(&path).await] {
            assert_eq!(service["status"], status, "{service}");
            assert_eq!(service["health_check_failures"], failures, "{service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_gives_the_whole_service() {
    let app = TestApp::start().await;
    let registered = app.registered(&service("whole", 80)).await;
    let path = format!("/api/v1/services/{}", id_of(&registered));
    let reported = app.report(&path, true).await.answered(200).json();
    for field in ["id", "name", "type", "host", "port", "metadata", "health_check_endpoint", "registered_at"]
    {
        assert_eq!(reported[field], registered[field], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_rises_by_one_a_change_and_not_beyond_the_threshold() {
    let app = TestApp::start().await;
    let registered = app.registered(&service("counted", 80)).await;
    assert_eq!(registered["version"], 1);
    let path = format!("/api/v1/services/{}", id_of(&registered));
    for (healthy, version, failures) in [
        (false, 2, 1),
        (false, 3, 2),
        (false, 4, 3),
        (false, 4, 4),
        (false, 4, 5),
        (true, 5, 0),
        (true, 5, 0),
        (false, 6, 1),
        (true, 7, 0),
    ] {
        let answer = app.report(&path, healthy).await.answered(200).json();
        assert_eq!(answer["version"], version, "{answer}");
        assert_eq!(answer["health_check_failures"], failures, "{answer}");
        assert_eq!(app.body(&path).await["version"], version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_failures_reported_at_once_are_all_counted() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("stormy", 80)).await;
    let answers = join_all((0..40).map(async |_| app.report(&path, false).await)).await;
    for answer in answers {
        answer.answered(200);
    }
    let service = app.body(&path).await;
    assert_eq!(service["health_check_failures"], 40);
    assert_eq!(service["status"], "unhealthy");
    assert_eq!(service["version"], 4);
    assert_eq!(app.report(&path, true).await.answered(200).json()["health_check_failures"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_mixed_reports_at_once_are_all_200() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("mixed", 80)).await;
    let answers = join_all((0..40).map(async |n| app.report(&path, n % 2 == 0).await)).await;
    for answer in answers {
        let service = answer.answered(200).json();
        let failures = service["health_check_failures"].as_u64().unwrap();
        let expected = match failures {
            0 => "healthy",
            1 | 2 => "degraded",
            _ => "unhealthy",
        };
        assert_eq!(service["status"], expected, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_must_say_true_or_false() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("vague", 80)).await;
    for query in ["", "?healthy=", "?healthy=maybe"] {
        app.post(&format!("{path}/health{query}")).await.blames("healthy");
    }
    let service = app.body(&path).await;
    assert_eq!(service["status"], "unknown");
    assert_eq!(service["version"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_of_one_service_can_be_read() {
    let app = TestApp::start().await;
    let path = app.path_of(&service("read", 80)).await;
    let health = format!("{path}/health");
    let unknown = app.body(&health).await;
    assert_eq!(unknown["status"], "unknown");
    assert_eq!(unknown["last_check"], Value::Null, "{unknown}");
    app.report(&path, false).await.answered(200);
    let degraded = app.body(&health).await;
    assert_eq!(degraded["status"], "degraded");
    assert_eq!(degraded["health_check_failures"], 1);
    assert!(is_time(&degraded["last_check"]), "{degraded}");
    app.report(&path, true).await.answered(200);
    let healthy = app.body(&health).await;
    assert_eq!(healthy["status"], "healthy");
    assert_eq!(healthy["error"], Value::Null, "{healthy}");
    assert!(healthy["last_check"].as_str() > degraded["last_check"].as_str(), "{healthy}");
}
