//! `ETag`, If-Match and If-None-Match of a configuration.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::TestApp;

const SHOP: &str = "/api/v1/config/shop";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_has_not_changed_is_304() {
    let app = TestApp::start().await;
    app.put(SHOP).json(&json!({ "a": 1 })).await.answered(201);
    let unchanged = app.get(SHOP).header("if-none-match", "\"1\"").await.answered(304);
    unchanged.is_empty();
    assert_eq!(unchanged.header("etag"), "\"1\"");
    app.put(SHOP).json(&json!({ "a": 2 })).await.answered(200);
    let fresh = app.get(SHOP).header("if-none-match", "\"1\"").await.answered(200);
    assert_eq!(fresh.json()["content"]["a"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_needs_the_version_it_names() {
    let app = TestApp::start().await;
    app.put(SHOP).json(&json!({ "a": 1 })).if_match(&json!(1)).await.problem(412);
    app.put(SHOP).json(&json!({ "a": 1 })).header("if-match", "*").await.problem(412);
    app.get(SHOP).await.problem(404);

    app.put(SHOP).json(&json!({ "a": 1 })).await.answered(201);
    app.put(SHOP).json(&json!({ "a": 2 })).if_match(&json!(1)).await.answered(200);
    for wrong in [json!(1), json!(3)] {
        app.put(SHOP).json(&json!({ "a": 9 })).if_match(&wrong).await.refused_for(&json!(2));
        app.put(SHOP).json(&json!({ "a": 2 })).if_match(&wrong).await.refused_for(&json!(2));
        app.delete(SHOP).if_match(&wrong).await.refused_for(&json!(2));
    }
    assert_eq!(app.body(SHOP).await["content"]["a"], 2);
    app.put(SHOP).json(&json!({ "a": 3 })).header("if-match", "*").await.answered(200);
    app.delete(SHOP).if_match(&json!(3)).await.answered(204);
    app.put(SHOP).json(&json!({ "a": 4 })).if_match(&json!(3)).await.problem(412);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_counts_in_its_own_environment() {
    let app = TestApp::start().await;
    let prod = format!("{SHOP}?environment=prod");
    app.put(SHOP).json(&json!({ "a": 1 })).await.answered(201);
    app.put(SHOP).json(&json!({ "a": 2 })).await.answered(200);
    app.put(&prod).json(&json!({ "a": 1 })).await.answered(201);
    app.put(&prod).json(&json!({ "a": 2 })).if_match(&json!(2)).await.refused_for(&json!(1));
    app.put(&prod).json(&json!({ "a": 2 })).if_match(&json!(1)).await.answered(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_none_match_star_only_creates() {
    let app = TestApp::start().await;
    let create = async |a: u64| app.put(SHOP).json(&json!({ "a": a })).header("if-none-match", "*").await;
    create(1).await.answered(201);
    create(2).await.refused_for(&json!(1));
    create(1).await.refused_for(&json!(1));
    assert_eq!(app.body(SHOP).await["content"]["a"], 1);
    app.delete(SHOP).await.answered(204);
    create(3).await.answered(201);
    assert_eq!(app.body(SHOP).await["content"]["a"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_that_create_at_once_exactly_one_does() {
    let (one, other) = TestApp::pair().await;
    let answers = join_all((0..20_u64).map(async |n| {
        let app = if n % 2 == 0 { &one } else { &other };
        app.put(SHOP).json(&json!({ "n": n })).header("if-none-match", "*").await
    }))
    .await;
    let created: Vec<usize> = (0..20).filter(|n| answers[*n].status == 201).collect();
    assert_eq!(created.len(), 1, "{:?}", answers.iter().map(|one| one.status).collect::<Vec<_>>());
    for (n, answer) in answers.iter().enumerate() {
        if n != created[0] {
            answer.refused_for(&json!(1));
        }
    }
    for app in [&one, &other] {
        let config = app.body(&format!("{SHOP}?consistency=strong")).await;
        assert_eq!(config["content"]["n"], created[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_writers_with_one_version_exactly_one_wins() {
    let (one, other) = TestApp::pair().await;
    one.put(SHOP).json(&json!({ "n": 0 })).await.answered(201);
    for version in 1..=5_u64 {
        let answers = join_all((0..20_u64).map(async |n| {
            let app = if n % 2 == 0 { &one } else { &other };
            app.put(SHOP).json(&json!({ "n": 1000 * version + n })).if_match(&json!(version)).await
        }))
        .await;
        let winners = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(winners, 1, "{:?}", answers.iter().map(|one| one.status).collect::<Vec<_>>());
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refused_for(&json!(version + 1));
        }
    }
    assert_eq!(one.body(&format!("{SHOP}?consistency=strong")).await["version"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_without_a_version_lose_none_of_their_changes() {
    let app = TestApp::start().await;
    let answers = join_all((0..20_u64).map(async |n| app.put(SHOP).json(&json!({ "n": n })).await)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let mut versions: Vec<u64> = answers.iter().map(|one| one.json()["version"].as_u64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=20).collect::<Vec<u64>>());
    assert_eq!(app.events("shop").await.len(), 20);
}
