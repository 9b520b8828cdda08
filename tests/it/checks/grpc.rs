use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tonic_health::ServingStatus;

use super::{becomes, checked, quick};
use crate::support::{Answer, HealthTarget, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_check_goes_through_all_its_states() {
    let app = TestApp::start_checking().await;
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                // the asker may hang up whenever it likes
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let path =
        app.path_of(&checked("rpc", port, &json!([quick("grpc", json!({"service": "orders"}))]))).await;
    let health = becomes(&app, &path, "healthy").await;
    assert_eq!(health["checks"][0]["target"], json!(format!("grpc://127.0.0.1:{port}/orders")));
    reporter.set_service_status("orders", ServingStatus::NotServing).await;
    assert_eq!(becomes(&app, &path, "unhealthy").await["error"], "answered NOT_SERVING");
    reporter.set_service_status("orders", ServingStatus::Serving).await;
    becomes(&app, &path, "healthy").await;
    let other =
        app.path_of(&checked("none", port, &json!([quick("grpc", json!({"service": "none"}))]))).await;
    assert_eq!(becomes(&app, &other, "unhealthy").await["error"], "the server knows no such service");
    serving.abort();
    becomes(&app, &path, "unhealthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_something_else_is_ill() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    let path = app.path_of(&checked("web", target.port(), &json!([quick("grpc", json!({}))]))).await;
    let health = becomes(&app, &path, "unhealthy").await;
    assert!(health["error"].is_string(), "{health}");
}
