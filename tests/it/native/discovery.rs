//! Discovery by name: filters, and what tells a reader how fresh an answer is.

use serde_json::json;

use crate::support::{Client, TestApp, service, static_service};

const DOORS: [&str; 2] = ["/api/v1/services/discover", "/discover"];

async fn ports(app: &Client, path: &str) -> Vec<u64> {
    let mut ports: Vec<u64> = app.array(path).await.iter().map(|one| one["port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_can_be_filtered() {
    let app = TestApp::start().await;
    for (port, environment, region, zone, tags) in [
        (1, "prod", "eu", "a", json!({ "team": "red", "tier": "1" })),
        (2, "prod", "eu", "b", json!({ "team": "red" })),
        (3, "prod", "us", "a", json!({ "team": "blue", "tier": "1" })),
        (4, "test", "eu", "a", json!({ "label": "" })),
    ] {
        let mut body = static_service("shop", port);
        body["zone"] = json!(zone);
        body["metadata"] = json!({ "environment": environment, "region": region, "tags": tags });
        app.registered(&body).await;
    }
    for door in DOORS {
        for (query, expected) in [
            ("", vec![1, 2, 3, 4]),
            ("environment=prod", vec![1, 2, 3]),
            ("region=eu", vec![1, 2, 4]),
            ("zone=b", vec![2]),
            ("tag=team=red", vec![1, 2]),
            ("tag=team=red&tag=tier=1", vec![1]),
            ("tag=label=", vec![4]),
            ("environment=prod&region=eu&zone=a&tag=team=red", vec![1]),
            ("environment=staging", vec![]),
            ("status=healthy&region=us", vec![3]),
            ("status=unknown&region=us", vec![]),
        ] {
            assert_eq!(ports(&app, &format!("{door}/shop?{query}")).await, expected, "{query}");
        }
        assert_eq!(app.array(&format!("{door}/shop?limit=3")).await.len(), 3);
        assert_eq!(app.array(&format!("{door}/shop?limit=9")).await.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn degraded_ones_are_added_on_request() {
    let app = TestApp::start().await;
    for (port, reports) in [(1, vec![true]), (2, vec![false]), (3, vec![false; 3])] {
        let path = app.path_of(&service("shop", port)).await;
        for healthy in reports {
            app.report(&path, healthy).await.answered(200);
        }
    }
    for door in DOORS {
        assert_eq!(ports(&app, &format!("{door}/shop?degraded=true")).await, [1, 2]);
        assert_eq!(ports(&app, &format!("{door}/shop?degraded=false")).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_parameter_is_400_with_its_name() {
    let app = TestApp::start().await;
    app.registered(&static_service("shop", 80)).await;
    for door in DOORS {
        for (query, field) in [
            ("status=fine", "status"),
            ("tag=bare", "tag"),
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("degraded=perhaps", "degraded"),
            ("consistency=weak", "consistency"),
            ("min_revision=-1", "min_revision"),
        ] {
            app.get(&format!("{door}/shop?{query}")).await.blames(field);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discovery_that_has_not_changed_is_304() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("shop", 80)).await;
    for door in DOORS {
        let first = app.get(&format!("{door}/shop")).await.answered(200);
        let etag = first.header("etag").to_owned();
        assert!(etag.trim_start_matches("W/").starts_with('"') && etag.ends_with('"'), "{etag}");
        let again = app.get(&format!("{door}/shop")).header("if-none-match", &etag).await.answered(304);
        again.is_empty();
        assert_eq!(again.header("etag"), etag);
        again.revision();

        // What happens to others is no change here.
        app.registered(&static_service("other", 80)).await;
        app.put("/api/v1/config/shop").json(&json!({ "door": door })).await;
        app.post(&format!("{path}/heartbeat")).await.answered(204);
        app.get(&format!("{door}/shop")).header("if-none-match", &etag).await.answered(304);

        app.patch(&path, &json!({ "metadata": { "seen_by": door } })).await.answered(200);
        let changed = app.get(&format!("{door}/shop")).header("if-none-match", &etag).await.answered(200);
        assert_ne!(changed.header("etag"), etag);
        assert_eq!(changed.json()[0]["metadata"]["seen_by"], door);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_leaves_or_falls_ill_changes_the_etag() {
    let app = TestApp::start().await;
    let first = app.path_of(&static_service("shop", 1)).await;
    let second = app.path_of(&static_service("shop", 2)).await;
    let mut etag = app.get("/discover/shop").await.header("etag").to_owned();
    app.report(&first, false).await.answered(200);
    let answer = app.get("/discover/shop").header("if-none-match", &etag).await.answered(200);
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
    answer.header("etag").clone_into(&mut etag);
    app.delete(&second).await.answered(204);
    let answer = app.get("/discover/shop").header("if-none-match", &etag).await.answered(200);
    assert_eq!(answer.json(), json!([]));
    assert_ne!(answer.header("etag"), etag);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_tells_its_revision_and_its_age() {
    let app = TestApp::start().await;
    let registered = app.register(&static_service("shop", 80)).await.answered(201);
    let path = format!("/api/v1/services/{}", registered.json()["id"].as_str().unwrap());
    let written = registered.revision();
    assert_eq!(registered.json()["revision"], json!(written), "a write tells its own revision");
    let reads = [
        "/api/v1/services",
        "/api/v1/services?limit=1",
        "/api/v1/services/names",
        "/api/v1/services/discover/shop",
        "/discover/shop",
        "/discover/nobody",
        "/api/v1/events",
        path.as_str(),
        &format!("{path}/health"),
    ];
    for read in reads {
        let answer = app.get(read).await.answered(200);
        assert_eq!(answer.revision(), written, "{read}");
        let age: u64 = answer.header("x-rollcall-age").parse().expect("milliseconds");
        assert!(age < 30_000, "{read} is {age} ms old");
    }
    let patched = app.patch(&path, &json!({ "weight": 3 })).await.answered(200);
    assert!(patched.revision() > written);
    assert_eq!(app.get("/discover/shop").await.revision(), patched.revision());
    let deleted = app.delete(&path).await.answered(204);
    assert!(deleted.revision() > patched.revision());
}

/// The plain question is answered before the router. A slash at the end leads past that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_answers_as_the_router_does() {
    let app = TestApp::start().await;
    for port in 1..=3 {
        app.registered(&static_service("shop", port)).await;
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for door in DOORS {
        let ask = async |path: String| {
            let call = app.get(&path).header("X-Request-Id", "r-1").header("traceparent", trace);
            call.await.answered(200)
        };
        let (front, router) = (ask(format!("{door}/shop")).await, ask(format!("{door}/shop/")).await);
        assert_eq!(front.text(), router.text());
        for header in ["content-type", "etag", "x-rollcall-revision", "x-request-id", "traceparent"] {
            assert_eq!(front.header(header), router.header(header), "{header}");
        }
        assert!(front.header("x-rollcall-age").parse::<u64>().unwrap() < 10_000);
        let known = app.get(&format!("{door}/shop")).header("If-None-Match", front.header("etag"));
        known.await.answered(304);
        let unnamed = app.get(&format!("{door}/shop")).await.answered(200);
        assert!(uuid::Uuid::parse_str(unnamed.header("x-request-id")).is_ok());
        let counted = format!("count{{route=\"{door}/{{name}}\",method=\"GET\",status=\"200\"}} 3");
        assert!(app.get("/metrics").await.answered(200).text().contains(&counted), "{counted}");
    }
}
