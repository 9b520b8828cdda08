//! Migrations by whoever may, and by many at once.

use std::path::Path;

use futures_util::future::join_all;
use rollcall::store::{
    Lanes,
    history::verify,
    migrate::{migrate, pending},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, migrate::Migrator};
use url::Url;

use super::Replica;
use super::replica::store;
use crate::support::{Database, Postgres};

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
}

fn with_login(url: &str, login: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_username(login).unwrap();
    url.set_password(Some("secret")).unwrap();
    url.into()
}

fn with_database(url: &Url, name: &str) -> String {
    let mut url = url.clone();
    url.set_path(name);
    url.into()
}

/// Many at once; afterwards all is there, and works.
async fn migrate_by_many(urls: &[String], each: usize) {
    let all: Vec<&String> = urls.iter().flat_map(|url| std::iter::repeat_n(url, each)).collect();
    let results = join_all(all.iter().map(async |url| migrate(&store(url)).await)).await;
    for result in results {
        result.unwrap();
    }
    for url in urls {
        assert_eq!(pending(&store(url)).await.unwrap(), 0);
        assert_eq!(migrate(&store(url)).await.unwrap(), 0);
        let mut replica = Replica::open_at(url).await;
        replica.register("migrated", 3).await;
        assert_eq!(replica.revision(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_may_migrate_one_empty_database_at_once() {
    let database = Database::empty().await;
    migrate_by_many(&[database.url()], 8).await;
}

/// The roles belong to the server: those who migrate several databases meet there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_create_roles_can_migrate() {
    let postgres = Postgres::start_new().await;
    let superuser = postgres.url();
    execute(superuser.as_str(), "create role maker login createrole password 'secret'").await;
    let mut urls = Vec::new();
    for name in ["one", "two", "three"] {
        execute(superuser.as_str(), &format!("create database {name} owner maker")).await;
        urls.push(with_login(&with_database(&superuser, name), "maker"));
    }
    migrate_by_many(&urls, 3).await;
}

/// By the usual search path, what was migrated would be looked for in the schema of that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_the_name_of_the_schema_can_migrate_further() {
    let postgres = Postgres::start_new().await;
    let superuser = postgres.url();
    execute(superuser.as_str(), "create role rollcall login superuser password 'secret'").await;
    let url = with_login(superuser.as_str(), "rollcall");
    migrate_by_many(std::slice::from_ref(&url), 1).await;
    // as if the last one had not been there yet
    execute(
        &url,
        "drop function rollcall.batch_hash_again; drop function rollcall.batch_hash_by_column; \
         delete from public._sqlx_migrations where version = (select max(version) from public._sqlx_migrations)",
    )
    .await;
    assert_eq!(pending(&store(&url)).await.unwrap(), 1);
    assert_eq!(migrate(&store(&url)).await.unwrap(), 1);
    Replica::open_at(&url).await.register("further", 1).await;
}

/// What was hashed in the first form is verified in it, beside what came later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_from_before_the_second_form_stay_whole() {
    const FIRST_OF_THE_SECOND_FORM: i64 = 20_261_122_000_009;
    let database = Database::empty().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut until_then = Migrator::new(folder).await.unwrap();
    until_then.migrations.to_mut().retain(|migration| migration.version < FIRST_OF_THE_SECOND_FORM);
    until_then.run(&mut PgConnection::connect(&database.url()).await.unwrap()).await.unwrap();
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("old", 3).await;
    let mut changed = replica.draft();
    changed.group().report(ids[0]).group().remove(ids[1]);
    replica.write(&mut changed).await;

    assert!(migrate(&store(&database.url())).await.unwrap() > 0);
    let mut later = Replica::open(&database).await;
    later.register("new", 2).await;
    let forms = "select array_agg(octet_length(hash) order by rev_to) from rollcall.batches";
    let forms: Vec<i32> = sqlx::query_scalar(forms).fetch_one(&mut later.connection).await.unwrap();
    assert_eq!(forms, [32, 32, 33]);
    let lanes = Lanes::new(store(&database.url()), 1);
    let found = async || verify(&lanes, 0, 10).await.unwrap();
    assert_eq!((found().await.broken_at, found().await.to), (None, 7));
    execute(
        &database.url(),
        "set session_replication_role = replica; update rollcall.events set actor = 'x' where revision = 2",
    )
    .await;
    assert_eq!(found().await.broken_at, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let keeper = Database::empty().await;
    let name = format!("rollcall_test_latin_{}", std::process::id());
    let create = format!("create database {name} template template0 encoding 'LATIN1' locale 'C'");
    execute(&keeper.url(), &create).await;
    let url = with_database(&Url::parse(&keeper.url()).unwrap(), &name);
    let refused = migrate(&store(&url)).await;
    execute(&keeper.url(), &format!("drop database {name}")).await;
    let error = std::error::Error::source(&refused.unwrap_err()).unwrap().to_string();
    assert!(error.contains("LATIN1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_was_given_the_roles_can_migrate() {
    let keeper = Database::fresh().await; // in which the roles have come to be
    let database = Database::empty().await;
    let login = format!("rollcall_test_given_{}", std::process::id());
    execute(
        &keeper.url(),
        &format!("create role {login} login password 'secret' in role rollcall_owner, rollcall_app"),
    )
    .await;
    let owned = "do $$ begin execute format('alter database %I owner to LOGIN', current_database()); end $$";
    execute(&database.url(), &owned.replace("LOGIN", &login)).await;
    migrate_by_many(&[with_login(&database.url(), &login)], 2).await;
    drop(database);
    execute(&keeper.url(), &format!("drop role {login}")).await;
}
