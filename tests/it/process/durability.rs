//! What was acknowledged survives a restart and a kill.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Client, Database, Folder, Process, static_service};

/// Writes a little of everything, and gives what a reader then sees.
async fn write(server: &Client) -> Value {
    let mut body = static_service("lasting", 80);
    body["metadata"] = json!({ "version": "1.2.3", "tags": { "team": "red" }, "own": "kept" });
    server.registered(&body).await;
    let path = server.path_of(&static_service("lasting", 81)).await;
    server.report(&path, false).await.answered(200);
    let gone = server.path_of(&static_service("gone", 82)).await;
    server.delete(&gone).await.answered(204);
    server.put("/api/v1/config/lasting").json(&json!({ "limit": 3 })).await.answered(201);
    seen(server).await
}

async fn seen(server: &Client) -> Value {
    let mut services = server.array("/api/v1/services").await;
    for service in &mut services {
        // It moves with every sign of life, and may be some seconds late after a kill.
        service.as_object_mut().unwrap().remove("last_seen_at");
    }
    json!({
        "services": services,
        "config": server.body("/api/v1/config/lasting").await,
        "events": server.body("/api/v1/events").await,
    })
}

/// Writes, ends it this way and that, and looks each time whether all is there.
async fn survives(folder: &Arc<Folder>, environment: &[(&str, &str)]) {
    let server = Process::serve(folder, environment).ready().await;
    let before = write(&server).await;
    assert!(server.stop().await.success());

    let server = Process::serve(folder, environment).ready().await;
    assert_eq!(seen(&server).await, before, "after an orderly stop");
    // Killed in the moment after its last answer: what was acknowledged is there.
    let late = server.registered(&static_service("late", 83)).await;
    server.kill();

    let server = Process::serve(folder, environment).ready().await;
    let found = server.array("/discover/late").await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["id"], late["id"]);
    assert_eq!(server.registered(&static_service("late", 83)).await["id"], late["id"]);
    server.delete(&format!("/api/v1/services/{}", late["id"].as_str().unwrap())).await.answered(204);
    let after = seen(&server).await;
    assert_eq!(after["services"], before["services"]);
    assert_eq!(after["config"], before["config"]);
    server.kill();

    let server = Process::serve(folder, environment).ready().await;
    assert_eq!(seen(&server).await, after, "after a second kill");
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_default_keeps_its_data_over_a_restart_and_a_kill() {
    let folder = Arc::new(Folder::new());
    survives(&folder, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_database_keeps_the_data_over_a_restart_and_a_kill() {
    let folder = Arc::new(Folder::new());
    let database = Database::empty().await;
    survives(&folder, &[("DATABASE_URL", &database.url())]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_default_takes_an_empty_private_folder_and_leaves_no_server_behind() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    let folder = Arc::new(Folder::new());
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Process::serve(&folder, &[]).ready().await;
    server.registered(&static_service("first", 80)).await;
    assert!(server.stop().await.success());
    let left = std::process::Command::new("find")
        .arg(folder.path())
        .args(["-name", "postmaster.pid"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "the database stops with its server");
}
