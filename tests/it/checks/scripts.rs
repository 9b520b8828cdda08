use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::{becomes, checked, quick};
use crate::support::{Database, PATIENCE, TestApp, wait_until};

fn write(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_check_goes_through_all_its_states() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "probe", "#!/bin/sh\necho \"$1 $HOME\"; exit $(cat code)\n");
    fs::write(folder.path().join("code"), "0").unwrap();
    let database = Database::fresh().await;
    let app = TestApp::start_with(&database, |settings| {
        settings.checker = true;
        settings.checks.scripts = Some(folder.path().to_owned());
    })
    .await;
    let check = quick("script", json!({"script": "probe", "args": ["$(id)"]}));
    let path = app.path_of(&checked("scripted", 80, &json!([check]))).await;
    becomes(&app, &path, "healthy").await;
    fs::write(folder.path().join("code"), "1").unwrap();
    // no shell has looked at the argument, and nothing of the environment is there
    assert_eq!(becomes(&app, &path, "degraded").await["error"], "exit status: 1: $(id)");
    fs::write(folder.path().join("code"), "2").unwrap();
    assert_eq!(becomes(&app, &path, "unhealthy").await["error"], "exit status: 2: $(id)");
    fs::write(folder.path().join("code"), "0").unwrap();
    becomes(&app, &path, "healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_ends_with_its_time_and_says_no_more_than_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "long", "#!/bin/sh\nsleep 60 & echo $! > child; wait\n");
    write(folder.path(), "loud", "#!/bin/sh\nyes loud | head -c 1000000; exit 3\n");
    let database = Database::fresh().await;
    let app = TestApp::start_with(&database, |settings| {
        settings.checker = true;
        settings.checks.scripts = Some(folder.path().to_owned());
    })
    .await;
    let long = quick("script", json!({"script": "long", "timeout": "100ms", "unhealthy_after": 1}));
    let path = app.path_of(&checked("long", 80, &json!([long]))).await;
    assert_eq!(becomes(&app, &path, "unhealthy").await["error"], "no answer within 100ms");
    // what it has started is gone as well
    app.delete(&path).await.answered(204);
    wait_until(PATIENCE, "nothing is left of it", async || {
        let child = fs::read_to_string(folder.path().join("child")).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        (status.is_empty() || status.contains(") Z ")).then_some(())
    })
    .await;
    let loud = quick("script", json!({"script": "loud", "unhealthy_after": 1}));
    let path = app.path_of(&checked("loud", 80, &json!([loud]))).await;
    let said = becomes(&app, &path, "unhealthy").await["error"].as_str().unwrap().len();
    assert!((1000..=4096).contains(&said), "{said}");
    let none = quick("script", json!({"script": "none", "unhealthy_after": 1}));
    let path = app.path_of(&checked("none", 80, &json!([none]))).await;
    let said = becomes(&app, &path, "unhealthy").await;
    assert!(said["error"].as_str().unwrap().starts_with("'none' cannot be run"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_folder_there_are_no_script_checks() {
    let app = TestApp::start().await;
    let body = checked(
        "scripted",
        80,
        &json!([quick("tcp", json!({})), quick("script", json!({"script": "probe"}))]),
    );
    let problem = app.register(&body).await.blames("checks[1].kind");
    assert!(problem.to_string().contains("ROLLCALL_CHECK_SCRIPTS"), "{problem}");
    let path = app.path_of(&checked("scripted", 80, &json!([]))).await;
    app.put(&path).json(&body).await.blames("checks[1].kind");
    let batch = app.post("/api/v1/services/register/batch").json(&json!([body])).await.answered(200).json();
    assert_eq!(batch[0]["status"], 400);
}
