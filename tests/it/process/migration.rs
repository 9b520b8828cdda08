//! `rollcall migrate`, and many replicas that start at once.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Executor, Row};

use crate::support::{Database, Folder, PATIENCE, Process, TestApp, run, static_service, wait_until};

fn migrate(database: &Database) {
    let output = run(
        Command::new(env!("CARGO_BIN_EXE_rollcall")).arg("migrate"),
        &[("DATABASE_URL", &database.url())],
    );
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_prepares_a_database_for_a_server_that_does_not() {
    let folder = Arc::new(Folder::new());
    let database = Database::empty().await;
    migrate(&database);
    migrate(&database);
    let environment = [("DATABASE_URL", database.url()), ("ROLLCALL_MIGRATE", "false".to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Process::serve(&folder, &environment).ready().await;
    server.registered(&static_service("one", 80)).await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shall_not_migrate_leaves_an_empty_database_alone() {
    let folder = Arc::new(Folder::new());
    let database = Database::empty().await;
    let url = database.url();
    let mut server = Process::serve(&folder, &[("DATABASE_URL", &url), ("ROLLCALL_MIGRATE", "false")]);
    wait_until(PATIENCE, "the server gives up, or says that it is not ready", async || {
        let unready = server.try_get("/health/ready").await.is_some_and(|reply| reply.status == 503);
        (server.has_ended() || unready).then_some(())
    })
    .await;
    let mut connection = database.connect().await;
    let tables = sqlx::query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    let tables: i64 = tables.fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(tables, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_that_start_at_once_on_an_empty_database_all_come_up() {
    let database = Database::empty().await;
    let url = database.url();
    let folders: Vec<Arc<Folder>> = (0..4).map(|_| Arc::new(Folder::new())).collect();
    let starting: Vec<Process> =
        folders.iter().map(|folder| Process::serve(folder, &[("DATABASE_URL", &url)])).collect();
    let servers = join_all(starting.into_iter().map(Process::ready)).await;
    for (port, server) in (1..).zip(&servers) {
        server.registered(&static_service("shared", port)).await;
    }
    for server in &servers {
        assert_eq!(server.array("/discover/shared?consistency=strong").await.len(), 4);
    }
    let stops = join_all(servers.into_iter().map(Process::stop)).await;
    assert!(stops.iter().all(std::process::ExitStatus::success), "{stops:?}");
}

/// As in a container, whose server listens beyond loopback and has its flags on another command line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_need_not_say_who_may_ask() {
    let database = Database::fresh().await;
    let app = TestApp::start_on(&database).await;
    let (url, listen) = (database.url(), format!("0.0.0.0:{}", app.port()));
    let environment = [("DATABASE_URL", url.as_str()), ("ROLLCALL_LISTEN", listen.as_str())];
    for (command, ends_well) in [("migrate", true), ("health", true), ("serve", false)] {
        let mut rollcall = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        let output = run(rollcall.arg(command), &environment);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), ends_well, "{command}: {said}");
        assert_eq!(said.contains("ROLLCALL_AUTH must be said"), !ends_well, "{command}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_does_not_exist_is_warned_of() {
    let folder = Arc::new(Folder::new());
    let database = Database::fresh().await;
    let url = database.url();
    let server =
        Process::serve(&folder, &[("DATABASE_URL", &url), ("ROLLCALL_LISSEN", "nowhere")]).ready().await;
    assert!(server.output().contains("ROLLCALL_LISSEN"), "{}", server.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_logged_with_its_fields() {
    let folder = Arc::new(Folder::new());
    let database = Database::fresh().await;
    let server = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    let registered = server.registered(&static_service("logged", 4321)).await;
    let id = registered["id"].as_str().unwrap();
    let line = wait_until(Duration::from_secs(10), "the line in the log", async || {
        server.output().lines().find(|line| line.contains("Service registered")).map(str::to_owned)
    })
    .await;
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "JSON, as this is no terminal: {line}");
    for part in [
        "\"service_name\":\"logged\"",
        id,
        "service_id",
        "\"address\"",
        "127.0.0.1",
        "4321",
        "\"event_type\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// Such a user has our schema in front of its search path as soon as there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_named_like_the_schema_migrates_once() {
    let folder = Arc::new(Folder::new());
    let database = Database::empty().await;
    let mut superuser = database.connect().await;
    for statement in [
        "create role rollcall login superuser".to_owned(),
        format!("alter database {} owner to rollcall", database.name()),
    ] {
        superuser.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let mut url = url::Url::parse(&database.url()).unwrap();
    url.set_username("rollcall").unwrap();
    let environment = [("DATABASE_URL", url.as_str())];
    let replicas = join_all((0..3).map(|_| Process::serve(&folder, &environment).ready())).await;
    for replica in replicas {
        assert!(replica.stop().await.success());
    }
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_class where relname = '_sqlx_migrations'")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(tables, 1);
}
