//! Forbidden sources, each of which must be refused, and allowed ones, which must not.

use super::{LONGEST_FILE, violations};

/// What is said of one file in a crate that has the doors kit, native and gravity.
fn refused(path: &str, source: &str) -> Vec<String> {
    let files: Vec<(String, String)> =
        [("doors/kit/mod.rs", ""), ("doors/native/mod.rs", ""), ("doors/gravity.rs", ""), (path, source)]
            .map(|(path, source)| (path.to_owned(), source.to_owned()))
            .to_vec();
    violations(&files)
}

#[test]
fn it_refuses_every_way_to_write_a_forbidden_import() {
    for (path, source, line, what) in [
        ("domain/ids.rs", "use crate::store::Pool;", 1, "domain may not import store"),
        ("domain/mod.rs", "use crate::clock;", 1, "domain may not import clock"),
        ("store/mod.rs", "\n\nuse crate::view;", 3, "store may not import view"),
        ("view/mod.rs", "pub use crate::{domain::Event, log::Writer};", 1, "view may not import log"),
        (
            "view/mod.rs",
            "use crate::{domain::{A, B},\n    liveness::{self, C}};",
            2,
            "view may not import liveness",
        ),
        ("view/mod.rs", "use {std::fmt, crate::log::Writer};", 1, "view may not import log"),
        ("view/mod.rs", "use super::log::Writer;", 1, "view may not import log"),
        ("view/ring.rs", "use super::super::log::Writer;", 1, "view may not import log"),
        ("view/ring.rs", "use super::{super::log, Snapshot};", 1, "view may not import log"),
        ("view/ring.rs", "use self::super::super::log;", 1, "view may not import log"),
        ("view/ring.rs", "mod tests {\n use super::super::super::log;\n}", 2, "view may not import log"),
        ("view/mod.rs", "mod tests {}\nuse super::log;", 2, "view may not import log"),
        ("view/mod.rs", "fn f() -> crate::log::Writer {}", 1, "view may not import log"),
        ("view/mod.rs", "fn f() { crate::log::run::<u8>(); }", 1, "view may not import log"),
        ("view/mod.rs", "fn f() { let x = 'a'; crate::log::run() }", 1, "view may not import log"),
        ("view/mod.rs", "fn f<'a>(x: &'a crate::log::Writer) {}", 1, "view may not import log"),
        ("view/mod.rs", "macro_rules! m { () => { $crate::log::run() } }", 1, "view may not import log"),
        ("view/mod.rs", "use rollcall::log;", 1, "view may not import log"),
        ("view/mod.rs", "use ::rollcall::log;", 1, "view may not import log"),
        ("view/mod.rs", "fn f() { return ::rollcall::log::run(); }", 1, "view may not import log"),
        ("view/mod.rs", "use crate :: /* here */ log;", 1, "view may not import log"),
        ("view/mod.rs", "use crate::r#log;", 1, "view may not import log"),
        ("view/mod.rs", "let s = \"\\\"\"; use crate::log;", 1, "view may not import log"),
        ("view/mod.rs", "let s = r#\"\"\"#; use crate::log;", 1, "view may not import log"),
        ("view/mod.rs", "let s = b'\\''; use crate::log;", 1, "view may not import log"),
        ("checker/mod.rs", "use crate::view::Snapshot;", 1, "checker may not import view"),
        ("app/mod.rs", "use crate::doors::kit;", 1, "app may not import doors::kit"),
        ("server/mod.rs", "use crate::cli;", 1, "server may not import cli"),
        ("cli/serve.rs", "use crate::app;", 1, "cli may not import app"),
        ("settings/mod.rs", "use crate::telemetry;", 1, "settings may not import telemetry"),
        ("main.rs", "fn main() { rollcall::server::serve() }", 1, "the root may not import server"),
    ] {
        assert_eq!(refused(path, source), [format!("src/{path}:{line}: {what}")], "{source}");
    }
}

#[test]
fn it_refuses_a_door_that_knows_another_or_reaches_below_app() {
    for (path, source, what) in [
        (
            "doors/native/get.rs",
            "use crate::doors::gravity::wire;",
            "doors::native may not import doors::gravity",
        ),
        ("doors/native/mod.rs", "use super::gravity;", "doors::native may not import doors::gravity"),
        ("doors/gravity.rs", "use super::native;", "doors::gravity may not import doors::native"),
        ("doors/kit/mod.rs", "use super::native;", "doors::kit may not import doors::native"),
        ("doors/native/mod.rs", "use super::Shared;", "doors::native may not import doors"),
        ("doors/native/mod.rs", "use crate::store;", "doors::native may not import store"),
        ("doors/native/mod.rs", "use crate::view;", "doors::native may not import view"),
        ("doors/kit/mod.rs", "use crate::log;", "doors::kit may not import log"),
        ("doors/mod.rs", "use crate::app;", "doors may not import app"),
    ] {
        assert_eq!(refused(path, source), [format!("src/{path}:1: {what}")], "{source}");
    }
}

#[test]
fn it_refuses_detours_around_the_table() {
    for source in [
        "use crate::*;",
        "use super::*;",
        "use crate as c;",
        "use super as c;",
        "use crate::{self as c};",
        "extern crate self as c;",
        "use rollcall as c;",
    ] {
        let found = refused("view/mod.rs", source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found.iter().all(|text| text.contains("imports the root of the crate")), "{found:?}");
    }
    for (path, source, what) in [
        ("view/mod.rs", "use crate::Everything;", "view may not import Everything"),
        ("view/mod.rs", "#[path = \"../log/mod.rs\"] mod log;", "#[path] leads out of its folder"),
        ("view/mod.rs", "#[path = \"/tmp/log.rs\"] mod log;", "#[path] leads out of its folder"),
        ("view/mod.rs", "include!(\"../log/mod.rs\");", "no include!"),
        ("utils/mod.rs", "", "utils is not in the table"),
        ("utils.rs", "", "utils is not in the table"),
    ] {
        let found = refused(path, source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found.iter().all(|text| text.contains(what)), "{found:?}");
    }
}

#[test]
fn it_refuses_sql_outside_store_and_the_world_inside_domain() {
    for (path, source, what) in [
        ("view/mod.rs", "fn f() { sqlx::query(\"\"); }", "view may not use sqlx: SQL stands in store"),
        ("app/mod.rs", "use sqlx as database;", "app may not use sqlx: SQL stands in store"),
        ("domain/mod.rs", "use sqlx::Row;", "domain may not use sqlx: SQL stands in store"),
        ("domain/mod.rs", "use tokio::time;", "domain is pure and may not use tokio"),
        ("balance/mod.rs", "fn f() { tracing::info!(\"\"); }", "balance is pure and may not use tracing"),
    ] {
        assert_eq!(refused(path, source), [format!("src/{path}:1: {what}")], "{source}");
    }
}

#[test]
fn it_lets_pass_what_is_allowed() {
    for (path, source) in [
        ("lib.rs", "pub mod store; pub mod view;"),
        ("main.rs", "fn main() -> std::process::ExitCode { rollcall::cli::run() }"),
        ("domain/ids.rs", "use super::event::Event; use crate::domain::lock; use chrono::Utc;"),
        ("domain/mod.rs", "// use crate::store;\n/* crate::log::x /* nested */ sqlx */ mod a;"),
        ("domain/mod.rs", "const A: &str = \"use crate::store; sqlx\"; const B: &str = r#\"crate::log\"#;"),
        ("domain/mod.rs", "pub(crate) fn f(&self) { self.store.log() }"),
        ("domain/mod.rs", "mod tests { use super::*; mod inner { use super::super::ids; } }"),
        ("domain/mod.rs", "#[cfg(test)]\n#[path = \"ids_tests.rs\"]\nmod tests;"),
        ("domain/mod.rs", "use self::ids::Name; struct S { x: Name }"),
        (
            "store/mod.rs",
            "use sqlx::PgPool; use crate::{clock, domain::Event, settings, telemetry::Metrics};",
        ),
        ("telemetry/mod.rs", "use crate::{clock, settings::Settings};"),
        ("app/mod.rs", "use crate::{balance, liveness, log::Writer, probe, store::history, view, auth};"),
        ("doors/native/get.rs", "use crate::{app, doors::kit, domain::ids}; use super::wire;"),
        ("doors/gravity.rs", "use super::kit::problem;"),
        ("doors/mod.rs", "pub mod native; use self::native::routes; use crate::doors::gravity;"),
        ("server/mod.rs", "use crate::{app, doors::{self, native}, log, settings};"),
        ("cli/mod.rs", "use crate::{server, settings, telemetry}; mod serve;"),
    ] {
        assert_eq!(refused(path, source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn it_refuses_a_file_that_is_too_long_without_its_tests() {
    let code = "fn f() {}\n".repeat(LONGEST_FILE);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() { if true {} }\n".repeat(300));
    assert_eq!(refused("view/mod.rs", &format!("{code}{tests}")), Vec::<String>::new());
    assert_eq!(refused("view/tests.rs", &format!("{code}\n\n")), Vec::<String>::new());
    assert_eq!(
        refused("view/mod.rs", &format!("{code}\n{tests}")),
        ["src/view/mod.rs:1: 501 lines without its tests: more than 500, split it"]
    );
}
