//! GET /services beyond First Viscount's filters, and GET /services/names.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Client, TestApp, id_of, static_service};

const LIST: &str = "/api/v1/services";

/// The target of the Link header with rel="next", below the host.
fn next(answer: &crate::support::Reply) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    let one = link.split(',').find(|one| one.contains("rel=\"next\""))?;
    let target = one.trim().strip_prefix('<').expect("a link").split('>').next().unwrap();
    Some(target.find("/api/").map_or(target, |start| &target[start..]).to_owned())
}

/// Follows the cursor from page to page, and gives the pages.
async fn walk(app: &Client, first: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(current) = path {
        let answer = app.get(&current).await.answered(200);
        path = next(&answer);
        pages.push(answer.json().as_array().unwrap().clone());
        assert!(pages.len() <= 100, "the cursor goes round in circles");
    }
    pages
}

async fn variety(app: &TestApp) {
    for (name, environment, region, tags) in [
        ("a", "prod", "eu", json!({ "team": "red", "tier": "1" })),
        ("b", "prod", "us", json!({ "team": "red", "tier": "2" })),
        ("c", "test", "eu", json!({ "team": "blue", "tier": "1" })),
        ("d", "test", "us", json!({})),
    ] {
        let mut body = static_service(name, 80);
        body["metadata"] = json!({ "environment": environment, "region": region, "tags": tags });
        app.registered(&body).await;
    }
    app.registered(&static_service("a", 81)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_can_be_filtered_by_what_a_service_says_of_itself() {
    let app = TestApp::start().await;
    variety(&app).await;
    for (query, expected) in [
        ("name=a", vec!["a", "a"]),
        ("name=A", vec!["a", "a"]),
        ("name=nobody", vec![]),
        ("environment=prod", vec!["a", "b"]),
        ("environment=development", vec!["a"]),
        ("region=eu", vec!["a", "c"]),
        ("environment=prod&region=eu", vec!["a"]),
        ("tag=team=red&tag=tier=1", vec!["a"]),
        ("tag=team=red&tag=team=blue", vec![]),
        ("tag=tier=1&environment=test", vec!["c"]),
        ("name=a&type=api&status=healthy&tag=team=red&environment=prod&region=eu", vec!["a"]),
    ] {
        assert_eq!(app.names(&format!("{LIST}?{query}")).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_with_the_cursor_sees_everything_once_and_in_order() {
    let app = TestApp::start().await;
    for n in 0..23_u16 {
        app.registered(&static_service(&format!("s-{}", n % 7), 100 + n)).await;
    }
    let all = app.array(LIST).await;
    assert_eq!(all.len(), 23);
    for limit in [1, 4, 7, 22, 23, 24, 100] {
        let pages = walk(&app, &format!("{LIST}?limit={limit}")).await;
        let (last, full) = pages.split_last().unwrap();
        assert!(full.iter().all(|page| page.len() == limit), "limit {limit}");
        assert!(last.len() <= limit && (!last.is_empty()), "limit {limit}");
        let walked: Vec<&Value> = pages.iter().flatten().map(|one| &one["id"]).collect();
        assert_eq!(walked, all.iter().map(|one| &one["id"]).collect::<Vec<_>>(), "limit {limit}");
    }
    assert!(next(&app.get(LIST).await).is_none(), "without a limit all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_keeps_the_filters() {
    let app = TestApp::start().await;
    for port in 1..=10 {
        let mut body = static_service("filtered", port);
        body["metadata"] = json!({ "tags": { "odd": (port % 2 == 1).to_string(), "a b": "c&d=é" } });
        app.registered(&body).await;
    }
    let pages = walk(&app, &format!("{LIST}?tag=odd=true&tag=a%20b%3Dc%26d%3D%C3%A9&limit=2")).await;
    let ports: HashSet<u64> = pages.iter().flatten().map(|one| one["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, HashSet::from([1, 3, 5, 7, 9]));
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_misses_nobody_while_others_come_and_go() {
    let app = TestApp::start().await;
    let mut lasting = HashSet::new();
    let mut leaving = Vec::new();
    for n in 0..10_u16 {
        lasting.insert(id_of(&app.registered(&static_service(&format!("m-{n}"), 100 + n)).await).to_owned());
        leaving.push(app.path_of(&static_service(&format!("m-{n}"), 200 + n)).await);
    }
    let mut seen = Vec::new();
    let mut path = Some(format!("{LIST}?limit=3"));
    let mut round = 0;
    while let Some(current) = path {
        let answer = app.get(&current).await.answered(200);
        seen.extend(answer.json().as_array().unwrap().iter().map(|one| id_of(one).to_owned()));
        path = next(&answer);
        if let Some(gone) = leaving.pop() {
            app.delete(&gone).await.answered(204);
        }
        app.registered(&static_service(&format!("a-{round}"), 1)).await;
        round += 1;
    }
    let distinct: HashSet<String> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "nobody twice");
    assert!(lasting.is_subset(&distinct), "nobody missed who was there all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_limit_or_cursor_is_400() {
    let app = TestApp::start().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=2&cursor=%21nonsense", "cursor"),
        ("name=two%20words", "name"),
        ("consistency=weak", "consistency"),
        ("min_revision=soon", "min_revision"),
    ] {
        app.get(&format!("{LIST}?{query}")).await.blames(field);
    }
}

/// How many instances of a name have a status; None when the name is not there at all.
fn count(names: &[Value], name: &str, status: &str) -> Option<u64> {
    let entry = names.iter().find(|entry| entry["name"] == name)?;
    Some(entry["statuses"][status].as_u64().unwrap_or_else(|| panic!("no {status} in {entry}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_come_with_their_counts_by_status() {
    let app = TestApp::start().await;
    for (name, port, failures) in [("a", 1, 0), ("a", 2, 0), ("a", 3, 1), ("b", 4, 3), ("c", 5, 0)] {
        let mut body = static_service(name, port);
        body.as_object_mut().unwrap().remove("checks");
        let path = app.path_of(&body).await;
        app.report(&path, true).await.answered(200);
        for _ in 0..failures {
            app.report(&path, false).await.answered(200);
        }
    }
    let names = app.array(&format!("{LIST}/names")).await;
    assert_eq!(count(&names, "a", "healthy"), Some(2), "{names:?}");
    assert_eq!(count(&names, "a", "degraded"), Some(1), "{names:?}");
    assert_eq!(count(&names, "b", "unhealthy"), Some(1), "{names:?}");
    assert_eq!(count(&names, "b", "healthy"), Some(0), "{names:?}");
    assert_eq!(count(&names, "c", "healthy"), Some(1), "{names:?}");
    let order: Vec<&Value> = names.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(order, ["a", "b", "c"]);
    assert_eq!(names[0]["instances"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_instances_is_no_name() {
    let app = TestApp::start().await;
    let path = app.path_of(&static_service("brief", 80)).await;
    app.registered(&static_service("stays", 80)).await;
    app.delete(&path).await.answered(204);
    let names = app.array(&format!("{LIST}/names")).await;
    assert_eq!(count(&names, "brief", "healthy"), None, "{names:?}");
    assert_eq!(count(&names, "stays", "healthy"), Some(1), "{names:?}");
}
