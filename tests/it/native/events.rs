//! GET /events: the log as it is told.

use serde_json::{Value, json};

use crate::support::{Client, TestApp, id_of, is_time, service, static_service};

const EVENTS: &str = "/api/v1/events";

fn revisions(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["revision"].as_u64().unwrap()).collect()
}

async fn page(app: &Client, query: &str) -> (Vec<Value>, u64) {
    let page = app.body(&format!("{EVENTS}{query}")).await;
    (page["events"].as_array().unwrap().clone(), page["next"].as_u64().expect("a revision to go on from"))
}

/// Ten registrations, five reports, one configuration, one removal.
async fn history(app: &TestApp) {
    let mut paths = Vec::new();
    for port in 1..=10 {
        paths.push(app.path_of(&service(if port % 2 == 0 { "even" } else { "odd" }, port)).await);
    }
    for path in &paths[..5] {
        app.report(path, true).await.answered(200);
    }
    app.put("/api/v1/config/even").json(&json!({ "a": 1 })).await.answered(201);
    app.delete(&paths[9]).await.answered(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_tells_what_when_who_and_why() {
    let app = TestApp::start().await;
    let answer = app.register(&service("told", 80)).header("x-request-id", "req-4711").await.answered(201);
    let registered = answer.json();
    let (events, next) = page(&app, "").await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(event["revision"], registered["revision"]);
    assert_eq!(next, answer.revision());
    assert!(event["epoch"].is_u64(), "{event}");
    assert!(is_time(&event["time"]), "{event}");
    assert_eq!(event["kind"], "service_registered");
    assert_eq!(event["service"], "told");
    assert_eq!(event["instance"], id_of(&registered));
    assert!(event["actor"].as_str().is_some_and(|actor| !actor.is_empty()), "{event}");
    assert_eq!(event["request_id"], "req-4711");
    assert_eq!(event["data"]["service_name"], "told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_ascending_and_without_a_gap() {
    let app = TestApp::start().await;
    assert_eq!(page(&app, "").await.0, [Value::Null; 0]);
    history(&app).await;
    let (events, next) = page(&app, "").await;
    let revisions = revisions(&events);
    assert_eq!(revisions.len(), 17);
    assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
    assert_eq!(revisions.last(), Some(&next));
    let times: Vec<&str> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_by_next_sees_every_event_once() {
    let app = TestApp::start().await;
    history(&app).await;
    let (all, last) = page(&app, "").await;
    for limit in [1, 3, 17, 1000] {
        let mut walked = Vec::new();
        let mut after = 0;
        loop {
            let (events, next) = page(&app, &format!("?after={after}&limit={limit}")).await;
            assert!(events.len() <= limit);
            if events.is_empty() {
                assert_eq!(next, after, "nothing new: go on from the same place");
                break;
            }
            walked.extend(events);
            after = next;
        }
        assert_eq!(walked, all, "limit {limit}");
    }
    app.registered(&static_service("later", 80)).await;
    let (events, _) = page(&app, &format!("?after={last}")).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["service"], "later");
    let middle = all[8]["revision"].as_u64().unwrap();
    let (events, _) = page(&app, &format!("?after={middle}")).await;
    assert_eq!(revisions(&events)[0], middle + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_can_be_filtered_by_service_and_kind() {
    let app = TestApp::start().await;
    history(&app).await;
    let (all, _) = page(&app, "").await;
    let by = |field: &str, value: &str| -> Vec<Value> {
        all.iter().filter(|event| event[field] == value).cloned().collect()
    };
    let (even, _) = page(&app, "?service=even").await;
    assert_eq!(even.len(), 9, "five registrations, two reports, a configuration, a removal: {even:?}");
    assert_eq!(even, by("service", "even"));
    assert_eq!(page(&app, "?service=Even").await.0, even);
    for (kind, count) in [("service_registered", 10), ("status_change", 5), ("service_unregistered", 1)] {
        let (events, _) = page(&app, &format!("?kind={kind}")).await;
        assert_eq!(events.len(), count, "{kind}");
        assert_eq!(events, by("kind", kind));
    }
    let (both, _) = page(&app, "?service=even&kind=status_change").await;
    assert_eq!(both.len(), 2);
    assert_eq!(page(&app, "?service=nobody").await.0, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_walk_ends_and_misses_nothing() {
    let app = TestApp::start().await;
    history(&app).await;
    let (expected, _) = page(&app, "?kind=service_registered&service=odd").await;
    let mut walked = Vec::new();
    let mut after = 0;
    for _ in 0..100 {
        let (events, next) =
            page(&app, &format!("?kind=service_registered&service=odd&limit=2&after={after}")).await;
        assert!(next >= after);
        if next == after {
            break;
        }
        walked.extend(events);
        after = next;
    }
    assert_eq!(walked, expected);
    assert_eq!(walked.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_can_be_filtered_by_actor() {
    let app = TestApp::start().await;
    history(&app).await;
    let (all, _) = page(&app, "").await;
    let actor = all[0]["actor"].as_str().unwrap();
    let (mine, _) = page(&app, &format!("?actor={actor}&limit=1000")).await;
    let expected: Vec<Value> = all.iter().filter(|event| event["actor"] == actor).cloned().collect();
    assert_eq!(mine, expected);
    assert_eq!(page(&app, "?actor=somebody-else").await.0, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_parameter_is_400_with_its_name() {
    let app = TestApp::start().await;
    for (query, field) in [
        ("after=x", "after"),
        ("after=-1", "after"),
        ("limit=x", "limit"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("service=two%20words", "service"),
    ] {
        app.get(&format!("{EVENTS}?{query}")).await.blames(field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_has_a_thousand_events_at_most() {
    let app = TestApp::start().await;
    let items: Vec<Value> = (1..=1000).map(|port| static_service("many", port)).collect();
    app.post("/api/v1/services/register/batch").json(&Value::Array(items)).await.answered(200);
    app.registered(&static_service("many", 2000)).await;
    let (events, next) = page(&app, "?limit=1000").await;
    assert_eq!(events.len(), 1000);
    let (rest, _) = page(&app, &format!("?limit=1000&after={next}")).await;
    assert_eq!(rest.len(), 1);
    assert!(page(&app, "").await.0.len() <= 1000);
    let more = app.get(&format!("{EVENTS}?limit=1001")).await;
    if more.status == 200 {
        assert_eq!(more.json()["events"].as_array().unwrap().len(), 1000);
    } else {
        more.blames("limit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_after_ahead_of_the_log_is_an_empty_page() {
    let app = TestApp::start().await;
    history(&app).await;
    let (events, _) = page(&app, "?after=999999").await;
    assert_eq!(events, [Value::Null; 0]);
}
