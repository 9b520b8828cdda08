//! The routes, each with who may use it. There is no other way to add one.

use axum::{Router, http::Method, middleware::from_fn_with_state, routing::MethodRouter};
use thiserror::Error;
use utoipa::openapi::{OpenApi, path::PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::{
    app::App,
    doors::kit::{Gate, Policies, Policy, gate::guard},
};

/// The server does not start with a route that nobody has decided about.
#[derive(Debug, Error)]
#[error("routes and policies do not match: {0}")]
pub struct Unguarded(String);

pub struct Routes {
    described: OpenApiRouter<App>,
    others: Router<App>,
    policies: Policies,
    faults: Vec<String>,
}

impl Routes {
    pub fn described_by(api: OpenApi) -> Self {
        Self {
            described: OpenApiRouter::with_openapi(api),
            others: Router::new(),
            policies: Policies::default(),
            faults: Vec::new(),
        }
    }

    /// Routes as they are described, and a policy for each of their methods.
    #[must_use]
    pub fn add(mut self, routes: UtoipaMethodRouter<App>, policies: &[(Method, Policy)]) -> Self {
        for (path, item) in &routes.1.paths {
            let mut methods = methods(item);
            for (method, policy) in policies {
                if let Some(index) = methods.iter().position(|known| known == method) {
                    methods.swap_remove(index);
                } else {
                    self.faults.push(format!("{path} has no method {method}"));
                }
                if !self.policies.add(path, method.clone(), *policy) {
                    self.faults.push(format!("{method} {path} has two policies"));
                }
            }
            self.faults.extend(methods.iter().map(|method| format!("{method} {path} has no policy")));
        }
        self.described = self.described.routes(routes);
        self
    }

    /// A GET that is described elsewhere, and open to anybody.
    #[must_use]
    pub fn add_open(mut self, path: &str, answer: MethodRouter<App>) -> Self {
        if !self.policies.add(path, Method::GET, Policy::Open) {
            self.faults.push(format!("GET {path} has two policies"));
        }
        self.others = self.others.route(path, answer);
        self
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The description alone.
    pub fn api(&self) -> OpenApi {
        self.described.get_openapi().clone()
    }

    /// All of them behind the gate, `fallback` too.
    pub fn behind_gate(
        self,
        app: &App,
        finish: impl FnOnce(Router<App>) -> Router<App>,
    ) -> Result<Router<App>, Unguarded> {
        if !self.faults.is_empty() {
            return Err(Unguarded(self.faults.join("; ")));
        }
        let gate = Gate { app: app.clone(), policies: self.policies.into() };
        let (described, _) = self.described.split_for_parts();
        Ok(finish(described.merge(self.others)).layer(from_fn_with_state(gate, guard)))
    }
}

fn methods(item: &PathItem) -> Vec<Method> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [
        (get, Method::GET),
        (put, Method::PUT),
        (post, Method::POST),
        (delete, Method::DELETE),
        (options, Method::OPTIONS),
        (head, Method::HEAD),
        (patch, Method::PATCH),
        (trace, Method::TRACE),
    ]
    .into_iter()
    .filter_map(|(operation, method)| operation.as_ref().map(|_| method))
    .collect()
}
