use serde_json::json;
use tokio::net::TcpListener;

use super::{becomes, checked, quick};
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_check_goes_through_all_its_states() {
    let app = TestApp::start_checking().await;
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, elsewhere) = (own.local_addr().unwrap().port(), other.local_addr().unwrap());
    let checks = json!([
        quick("tcp", json!({})),
        quick("tcp", json!({"id": "elsewhere", "url": format!("tcp://{elsewhere}")})),
    ]);
    let path = app.path_of(&checked("db", port, &checks)).await;
    let health = becomes(&app, &path, "healthy").await;
    assert_eq!(health["checks"][0]["target"], json!(format!("tcp://127.0.0.1:{port}")));
    assert_eq!(health["checks"][1]["target"], json!(format!("tcp://{elsewhere}")));
    drop(other);
    let ill = becomes(&app, &path, "unhealthy").await;
    assert_eq!(
        (&ill["checks"][0]["status"], &ill["checks"][1]["status"]),
        (&json!("healthy"), &json!("unhealthy"))
    );
    assert!(ill["error"].as_str().unwrap().contains("refused"), "{ill}");
    let other = TcpListener::bind(elsewhere).await.unwrap();
    becomes(&app, &path, "healthy").await;
    drop((own, other));
    becomes(&app, &path, "unhealthy").await;
}
