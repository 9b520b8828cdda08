//! Who was up and down when, and why.

use serde_json::{Value, json};

use super::{becomes, checked, quick};
use crate::support::{Answer, HealthTarget, TestApp, static_service};

/// The history without what differs from run to run, once that has been looked at.
fn gist(history: &Value) -> Vec<Value> {
    let periods = history["history"].as_array().unwrap();
    for pair in periods.windows(2) {
        let [one, next] = pair else { panic!("two") };
        assert_eq!(one["to"], next["from"], "without a hole");
        assert!(one["revision"].as_i64() < next["revision"].as_i64());
    }
    for period in periods {
        assert_eq!(period["up"], period["status"] == "healthy", "{period}");
        assert!(rollcall::domain::duration::parse(period["duration"].as_str().unwrap()).is_ok(), "{period}");
        assert!(period["actor"].is_string() && period["from"].is_string(), "{period}");
    }
    let gist = |period: &Value| json!([period["status"], period["cause"], period["check"], period["reason"]]);
    periods.iter().map(gist).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_tells_who_was_up_when_and_why() {
    let app = TestApp::start_checking().await;
    let target = HealthTarget::start(Answer::Status(200)).await;
    let check = quick("http", json!({"id": "web"}));
    let path = app.path_of(&checked("told", target.port(), &json!([check]))).await;
    becomes(&app, &path, "healthy").await;
    target.answer(Answer::Status(503));
    becomes(&app, &path, "unhealthy").await;
    let maintenance = json!({"status": "maintenance", "reason": "disk"});
    app.put(&format!("{path}/override")).json(&maintenance).await.answered(200);
    target.answer(Answer::Status(200));
    app.delete(&format!("{path}/override")).await.answered(200);
    let after = becomes(&app, &path, "healthy").await;
    assert_eq!(after["status"], "healthy");
    let history = app.body(&format!("{path}/history?consistency=strong")).await;
    assert_eq!(history["name"], "told");
    let ill = "answered 503 Service Unavailable";
    let gist = gist(&history);
    assert_eq!(
        gist.get(..5).unwrap(),
        [
            json!(["unknown", "registered", null, null]),
            json!(["healthy", "check", "web", null]),
            json!(["degraded", "check", "web", ill]),
            json!(["unhealthy", "check", "web", ill]),
            json!(["maintenance", "override_set", null, "disk"]),
        ]
    );
    assert_eq!(gist.last().unwrap()[0], "healthy");
    let last = history["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["to"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_may_be_long_and_is_read_from_its_end() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("flapping", 80)).await;
    for turn in 0..6 {
        let healthy = turn % 2 == 1;
        app.post(&format!("{path}/health?healthy={healthy}&output=turn-{turn}")).await.answered(200);
    }
    let history = app.body(&format!("{path}/history?limit=2")).await;
    assert_eq!(
        gist(&history),
        [json!(["unhealthy", "report", null, "turn-4"]), json!(["healthy", "report", null, "turn-5"])]
    );
    assert_eq!(gist(&app.body(&format!("{path}/history")).await).len(), 7);
    app.get(&format!("{path}/history?limit=0")).await.blames("limit");
    let nobody = "/api/v1/services/01890a5d-ac96-774b-bcce-b302099a8057/history";
    app.get(nobody).await.answered(404);
}
