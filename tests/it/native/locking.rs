//! `ETag`, If-Match and If-None-Match of a single service.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{TestApp, id_of, static_service};

fn changed(n: u64) -> Value {
    let mut body = static_service("locked", 80);
    body["metadata"] = json!({ "n": n });
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_etag_is_the_version() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    for version in 1..=3 {
        let read = app.get(&path).await.answered(200);
        assert_eq!(read.header("etag"), format!("\"{version}\""));
        assert_eq!(read.json()["version"], version);
        let written = app.put(&path).json(&changed(version)).await.answered(200);
        assert_eq!(written.header("etag"), format!("\"{}\"", version + 1));
        assert_eq!(written.json()["version"], version + 1);
    }
    let registered = app.register(&changed(99)).await.answered(201);
    assert_eq!(registered.header("etag"), "\"5\"");
    let patched = app.patch(&path, &json!({ "weight": 3 })).await.answered(200);
    assert_eq!(patched.header("etag"), "\"6\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_changed_is_304() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    let unchanged = app.get(&path).header("if-none-match", "\"1\"").await.answered(304);
    unchanged.is_empty();
    assert_eq!(unchanged.header("etag"), "\"1\"");
    app.get(&path).header("if-none-match", "W/\"1\"").await.answered(304);
    app.get(&path).header("if-none-match", "\"7\", \"1\"").await.answered(304);
    app.get(&path).header("if-none-match", "*").await.answered(304);
    app.get(&path).header("if-none-match", "\"2\"").await.answered(200);
    app.put(&path).json(&changed(1)).await.answered(200);
    let fresh = app.get(&path).header("if-none-match", "\"1\"").await.answered(200);
    assert_eq!(fresh.json()["version"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_with_the_current_version_goes_through() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    app.register(&changed(1)).if_match(&json!(1)).await.answered(201);
    app.put(&path).json(&changed(2)).if_match(&json!(2)).await.answered(200);
    app.patch(&path, &json!({ "weight": 3 })).if_match(&json!(3)).await.answered(200);
    app.put(&path).json(&changed(3)).header("if-match", "*").await.answered(200);
    app.put(&path).json(&changed(4)).header("if-match", "\"9\", \"5\"").await.answered(200);
    app.delete(&path).if_match(&json!(6)).await.answered(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_with_another_version_is_412_and_changes_nothing() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    app.put(&path).json(&changed(1)).await.answered(200);
    let before = app.body(&path).await;
    let current = json!(2);
    for wrong in [json!(1), json!(3), json!(0)] {
        app.register(&changed(7)).if_match(&wrong).await.refused_for(&current);
        app.put(&path).json(&changed(7)).if_match(&wrong).await.refused_for(&current);
        app.patch(&path, &json!({ "weight": 7 })).if_match(&wrong).await.refused_for(&current);
        app.delete(&path).if_match(&wrong).await.refused_for(&current);
    }
    assert_eq!(app.body(&path).await["version"], before["version"]);
    assert_eq!(app.body(&path).await["metadata"], before["metadata"]);
    assert_eq!(app.events("locked").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_would_change_nothing_is_412_too_when_its_version_is_old() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    app.put(&path).json(&changed(1)).await.answered(200);
    app.put(&path).json(&changed(1)).if_match(&json!(1)).await.refused_for(&json!(2));
    app.register(&changed(1)).if_match(&json!(1)).await.refused_for(&json!(2));
    app.put(&path).json(&changed(1)).if_match(&json!(2)).await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_what_is_not_there_matches_nothing() {
    let app = TestApp::start().await;
    app.register(&changed(0)).if_match(&json!(1)).await.problem(412);
    app.register(&changed(0)).header("if-match", "*").await.problem(412);
    let path = format!("/api/v1/services/{}", uuid::Uuid::new_v4());
    app.put(&path).json(&changed(0)).if_match(&json!(1)).await.problem(404);
    app.patch(&path, &json!({ "weight": 2 })).if_match(&json!(1)).await.problem(404);
    app.delete(&path).if_match(&json!(1)).await.problem(404);
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_writers_with_one_version_exactly_one_wins() {
    let app = TestApp::start().await;
    let path = app.path_of(&changed(0)).await;
    for version in 1..=5_u64 {
        let answers = join_all((0..20).map(async |n| {
            app.put(&path).json(&changed(1000 * version + n)).if_match(&json!(version)).await
        }))
        .await;
        let winners: Vec<usize> = (0..20).filter(|n| answers[*n].status == 200).collect();
        assert_eq!(winners.len(), 1, "{:?}", answers.iter().map(|one| one.status).collect::<Vec<_>>());
        let read = app.body(&path).await;
        assert_eq!(read["version"], version + 1);
        assert_eq!(read["metadata"]["n"], json!(1000 * version + winners[0] as u64), "the winner's is there");
        for (n, answer) in answers.iter().enumerate() {
            if n != winners[0] {
                answer.refused_for(&json!(version + 1));
            }
        }
    }
    assert_eq!(app.events("locked").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_writers_over_two_replicas_exactly_one_wins() {
    let (one, other) = TestApp::pair().await;
    let registered = one.registered(&changed(0)).await;
    let path = format!("/api/v1/services/{}", id_of(&registered));
    for version in 1..=8_u64 {
        let answers = join_all((0..20).map(async |n| {
            let app = if n % 2 == 0 { &one } else { &other };
            app.put(&path).json(&changed(1000 * version + n)).if_match(&json!(version)).await
        }))
        .await;
        let winners = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(winners, 1, "{:?}", answers.iter().map(|one| one.status).collect::<Vec<_>>());
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refused_for(&json!(version + 1));
        }
        let winner = answers.iter().find(|answer| answer.status == 200).unwrap().json();
        for app in [&one, &other] {
            let read = app.body(&format!("{path}?consistency=strong")).await;
            assert_eq!(read["version"], version + 1);
            assert_eq!(read["metadata"], winner["metadata"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_different_writers_with_one_version_exactly_one_wins() {
    let (one, other) = TestApp::pair().await;
    let path = one.path_of(&changed(0)).await;
    let version = json!(1);
    let (registered, put, patched, deleted) = tokio::join!(
        one.register(&changed(1)).if_match(&version),
        other.put(&path).json(&changed(2)).if_match(&version),
        one.patch(&path, &json!({ "weight": 3 })).if_match(&version),
        other.delete(&path).if_match(&version),
    );
    let statuses = [registered.status, put.status, patched.status, deleted.status];
    let winners = statuses.iter().filter(|status| **status < 300).count();
    assert_eq!(winners, 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 201, 204, 404, 412].contains(status)), "{statuses:?}");
}
