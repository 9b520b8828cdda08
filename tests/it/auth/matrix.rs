//! Every route and method, as the router itself knows them, against everybody who could ask. A route that is added
//! later is in it from the day it is born.

use std::collections::BTreeSet;

use reqwest::Method;
use rollcall::domain::{Action, Resource};
use rollcall::doors::{kit::Policy, native};
use serde_json::{Value, json};

use super::{Bearer as _, ROOT, guarded, rule, token};
use crate::support::{Call, Client, Reply, TestApp, id_of};

/// What stands in all that must not leak.
const MARK: &str = "marzipan";

/// What the routes are about: something of a service whose name begins with `secret-`.
struct World {
    app: TestApp,
    name: String,
    id: String,
    token_id: String,
    /// Made anew for each try, so that what is taken away is there again.
    tries: u32,
}

impl World {
    async fn new() -> Self {
        let app = guarded().await;
        let mut world =
            Self { app, name: String::new(), id: String::new(), token_id: String::new(), tries: 0 };
        world.renew().await;
        world
    }

    async fn renew(&mut self) {
        self.tries += 1;
        self.name = format!("secret-{}", self.tries);
        let tags = json!({"tags": {"mark": MARK}});
        let service = json!({"name": self.name, "type": "api", "host": "10.0.0.1", "port": 80, "metadata": tags,
                             "checks": []});
        let made = self.app.register(&service).bearer(ROOT).await.answered(201).json();
        id_of(&made).clone_into(&mut self.id);
        let config = self.app.put(&format!("/api/v1/config/{}", self.name)).bearer(ROOT);
        config.json(&json!({"mark": MARK})).await.answered(201);
        (self.token_id, _) = token(&self.app, &format!("secret-{MARK}"), &[]).await;
    }

    fn call(&self, method: &Method, path: &str) -> Call {
        let path = match path {
            "/api/v1/tokens/{id}" => path.replace("{id}", &self.token_id),
            "/api/v1/discover" => format!("{path}?names={}", self.name),
            "/docs/{*part}" => "/docs/swagger-ui.css".to_owned(),
            path => {
                path.replace("{id}", &self.id).replace("{name}", &self.name).replace("{service}", &self.name)
            }
        };
        let path = match (method.as_str(), path.strip_suffix("/health")) {
            ("POST", Some(_)) => format!("{path}?healthy=true"),
            _ => path,
        };
        assert!(!path.contains('{'), "the matrix does not know how to fill {path}");
        let service = json!({"name": self.name, "type": "api", "host": "10.0.0.1", "port": 80, "weight": 3});
        let call = self.app.request(method.clone(), &path);
        match (method.as_str(), path.as_str()) {
            ("POST", "/api/v1/services/register/batch") => call.json(&json!([service])),
            ("POST", "/api/v1/tokens") => {
                call.json(&json!({"name": format!("secret-{MARK}"), "policies": {"rules": []}}))
            }
            ("PUT", path) if path.contains("/config/") => call.json(&json!({"mark": "new"})),
            ("PUT", path) if path.ends_with("/override") => call.json(&json!({ "status": "drain" })),
            ("POST", "/api/v1/services/register") | ("PUT" | "PATCH", _) => call.json(&service),
            _ => call,
        }
    }
}

/// All routes, in an order that stays the same.
fn routes() -> Vec<(String, Method, Policy)> {
    let policies = native::policies();
    let mut routes: Vec<_> =
        policies.iter().map(|(path, method, policy)| (path.to_owned(), method.clone(), policy)).collect();
    routes.sort_by_key(|(path, method, _)| (path.clone(), method.to_string()));
    routes
}

fn needs(policy: Policy) -> Option<(Resource, Action)> {
    match policy {
        Policy::Open => None,
        Policy::Whole(resource, action)
        | Policy::Each(resource, action)
        | Policy::Named(resource, action, _) => Some((resource, action)),
        Policy::OfInstance(action) => Some((Resource::Service, action)),
    }
}

/// Refused as a whole or, where many things are asked for, in each of them; and nothing leaks.
fn is_refused(reply: &Reply, path: &str) -> bool {
    let leaks = reply.text().contains(MARK) || (path.contains("{id}") && reply.text().contains("secret-"));
    assert!(!leaks, "{path}: {}", reply.text());
    match reply.status {
        403 => true,
        200 => match reply.json() {
            Value::Array(items) => items.iter().all(|item| item["status"] == 403),
            page => page["events"] == json!([]),
        },
        _ => false,
    }
}

async fn all_rules(client: &Client, access: &str, prefix: &str) -> String {
    let rules: Vec<_> =
        Resource::ALL.iter().map(|resource| rule(resource.as_str(), prefix, access)).collect();
    token(client, &format!("{access} of {prefix}"), &rules).await.1
}

#[test]
fn the_matrix_has_all_that_the_description_has() {
    let described: BTreeSet<_> = routes()
        .into_iter()
        .filter(|(path, ..)| path != "/docs/{*part}")
        .map(|(path, method, _)| (path, method.to_string().to_lowercase()))
        .collect();
    let document: Value = serde_json::from_slice(&native::description()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let told: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(described, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_gets_in_nowhere() {
    let world = World::new().await;
    let (id, revoked) = token(&world.app, "revoked", &[rule("service", "", "write")]).await;
    world.app.delete(&format!("/api/v1/tokens/{id}")).bearer(ROOT).await.answered(204);
    let mut forged = revoked.clone();
    forged.replace_range(forged.len() - 1.., if forged.ends_with('0') { "1" } else { "0" });
    let mut tried = 0;
    for (path, method, policy) in routes() {
        for shown in [None, Some("wrong"), Some(&*revoked), Some(&*forged)] {
            let call = world.call(&method, &path);
            let reply = match shown {
                Some(shown) => call.bearer(shown).await,
                None => call.await,
            };
            match needs(policy) {
                None => assert_eq!(reply.status, 200, "{method} {path} is open: {}", reply.text()),
                Some(_) => {
                    assert_eq!(reply.status, 401, "{method} {path} with {shown:?}: {}", reply.text());
                    assert!(!reply.text().contains(MARK), "{method} {path} leaks");
                }
            }
            tried += 1;
        }
    }
    assert!(tried >= 100, "{tried}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_something_else_is_refused_and_who_may_is_not() {
    let mut world = World::new().await;
    let everything = all_rules(&world.app, "write", "").await;
    let reading = all_rules(&world.app, "read", "").await;
    let elsewhere = all_rules(&world.app, "write", "other-").await;
    let denied = {
        let rules: Vec<_> = Resource::ALL
            .iter()
            .flat_map(|resource| {
                [rule(resource.as_str(), "", "deny"), rule(resource.as_str(), "secre", "deny")]
            })
            .collect();
        token(&world.app, "denied", &rules).await.1
    };
    let nothing = token(&world.app, "nothing", &[]).await.1;
    let mut tried = 0;
    for (path, method, policy) in routes() {
        let Some((_, action)) = needs(policy) else { continue };
        for secret in [&elsewhere, &denied, &nothing] {
            let reply = world.call(&method, &path).bearer(secret).await;
            assert!(is_refused(&reply, &path), "{method} {path}: {} {}", reply.status, reply.text());
            tried += 1;
        }
        let reply = world.call(&method, &path).bearer(&reading).await;
        match action {
            Action::Read => assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text()),
            Action::Write => assert!(is_refused(&reply, &path), "{method} {path}: {}", reply.text()),
        }
        for secret in [everything.as_str(), ROOT] {
            let reply = world.call(&method, &path).bearer(secret).await;
            assert!((200..300).contains(&reply.status), "{method} {path}: {}", reply.text());
            world.renew().await;
        }
        tried += 3;
    }
    assert!(tried >= 120, "{tried}");
}
