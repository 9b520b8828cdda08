//! Who may not do what: the application's role writes through the functions only, and nobody rewrites the log.

use rollcall::store::append::append;
use rollcall::store::{Connection, StoreError};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::replica::store;
use super::{Replica, config_key};
use crate::support::Database;

/// The code with which a statement was refused, and the words.
async fn refused(connection: &mut PgConnection, statement: &str) -> (String, String) {
    connection.execute("begin").await.unwrap();
    let result = connection.execute(AssertSqlSafe(statement)).await;
    connection.execute("rollback").await.unwrap();
    match result {
        Err(sqlx::Error::Database(error)) => (error.code().unwrap().into_owned(), error.message().to_owned()),
        other => panic!("{statement}: {other:?}"),
    }
}

async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let query = "select c.oid::regclass::text from pg_class c \
                 where c.relnamespace = 'rollcall'::regnamespace and c.relkind in ('r', 'p') order by 1";
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

async fn database_with_a_log() -> (std::sync::Arc<Database>, Replica) {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("guarded", 2).await;
    replica.write(replica.draft().group().put(&config_key("guarded"), "{}")).await;
    (database, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_can_only_read_and_call_its_functions() {
    let (database, mut replica) = database_with_a_log().await;
    let mut application: Connection = store(&database.url()).connect().await.unwrap();
    let role: String =
        sqlx::query_scalar("select current_user::text").fetch_one(&mut application).await.unwrap();
    assert_eq!(role, "rollcall_app");
    let tables = tables(&mut replica.connection).await;
    assert!(tables.len() >= 12, "{tables:?}");
    for table in &tables {
        let column: String = sqlx::query_scalar(
            "select quote_ident(attname) from pg_attribute where attrelid = $1::text::regclass and attnum = 1",
        )
        .bind(table)
        .fetch_one(&mut application)
        .await
        .unwrap();
        for statement in [
            format!("insert into {table} default values"),
            format!("insert into {table} select * from {table}"),
            format!("update {table} set {column} = {column}"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("select * from {table} for update"),
            format!("select * from {table} for key share"),
            format!("lock table {table} in row exclusive mode"),
            format!("lock table {table} in access exclusive mode"),
            format!("create trigger t before insert on {table} execute function rollcall.refuse_change()"),
        ] {
            assert_eq!(refused(&mut application, &statement).await.0, "42501", "{statement}");
        }
        // only the owner may do these: "must be owner of"
        for statement in [
            format!("alter table {table} disable trigger all"),
            format!("alter table {table} rename to other"),
            format!("drop table {table}"),
        ] {
            assert_eq!(refused(&mut application, &statement).await.0, "42501", "{statement}");
        }
    }
    for statement in [
        "select rollcall.ensure_partitions(1, 100000000)",
        "select rollcall.start_epoch(1, 1, 1, '', gen_random_uuid())",
        "select rollcall.refuse_change()",
        "create table rollcall.mine (n integer)",
        "create function rollcall.mine() returns integer language sql return 1",
        "drop function rollcall.batch_hash",
        "set session_replication_role = replica",
        "set role rollcall_owner",
    ] {
        let mut plain = login_without_rights(&database).await;
        assert_eq!(refused(&mut plain, statement).await.0, "42501", "{statement}");
    }
    let mut again = Replica::open(&database).await;
    assert_eq!(again.revision(), replica.revision());
    again.register("guarded after", 0).await;
}

/// SET ROLE alone would let a superuser's session go back; SET SESSION AUTHORIZATION is what a login as the role is.
async fn login_without_rights(database: &Database) -> PgConnection {
    let mut connection = database.connect().await;
    connection.execute("set session authorization rollcall_app").await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_sees_anything() {
    let (database, _replica) = database_with_a_log().await;
    let mut superuser = database.connect().await;
    let name = format!("rollcall_test_nobody_{}", std::process::id());
    superuser
        .execute(AssertSqlSafe(format!("begin; create role {name}; set local role {name}")))
        .await
        .unwrap();
    for statement in ["select * from rollcall.events", "select rollcall.open_writer(gen_random_uuid(), 0)"] {
        let result = superuser.execute(AssertSqlSafe(format!("savepoint s; {statement}"))).await;
        assert_eq!(result.unwrap_err().as_database_error().unwrap().code().unwrap(), "42501", "{statement}");
        superuser.execute("rollback to s").await.unwrap();
    }
    superuser.execute("rollback").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_rewrites_the_log_not_even_its_owner() {
    let (database, mut replica) = database_with_a_log().await;
    let mut superuser = database.connect().await;
    // partitions that came later are no exception
    superuser.execute("update rollcall.log_head set floor = 4999999").await.unwrap();
    replica.register("later", 2).await;
    let mut owner = database.connect().await;
    owner.execute("set role rollcall_owner").await.unwrap();
    for connection in [&mut superuser, &mut owner] {
        for table in ["events", "events_0", "events_1", "batches"] {
            let column = if table == "batches" { "rev_to" } else { "revision" };
            for statement in [
                format!("update rollcall.{table} set epoch = 7"),
                format!("update rollcall.{table} set {column} = {column}"),
                format!("delete from rollcall.{table}"),
                format!("truncate rollcall.{table}"),
                format!("truncate only rollcall.{table}"),
                format!(
                    "insert into rollcall.{table} select * from rollcall.{table} \
                     on conflict ({column}) do update set epoch = 7"
                ),
            ] {
                if statement == "truncate only rollcall.events" {
                    continue; // it is partitioned: there is no such thing
                }
                let (code, words) = refused(connection, &statement).await;
                assert_eq!(code, "42501", "{statement}");
                assert_eq!(words, format!("rollcall.{}", appended(table, &words)), "{statement}");
            }
        }
    }
    assert_eq!(Replica::open(&database).await.revision(), 5_000_001);
}

/// Rows of the log's partitions are refused by the partition that holds them.
fn appended(table: &str, words: &str) -> String {
    let partition = ["events_0", "events_1"].into_iter().find(|name| words.contains(name));
    format!("{} is append-only", partition.filter(|_| table.starts_with("events")).unwrap_or(table))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_with_an_older_view_of_the_database_is_refused() {
    let (database, mut replica) = database_with_a_log().await;
    for level in ["repeatable read", "serializable"] {
        let batch = replica.draft().group().put(&config_key("guarded"), r#"{"n":1}"#).done();
        let set = format!("set default_transaction_isolation = '{level}'");
        replica.connection.execute(AssertSqlSafe(set)).await.unwrap();
        let error = append(&mut replica.connection, replica.writer, &batch, false).await.unwrap_err();
        assert!(matches!(error, StoreError::Statement(_)), "{error:?}");
        assert!(error.is_refusal());
    }
    assert_eq!(Replica::open(&database).await.revision(), replica.revision());
}

/// The domain lets no such text through; were one to come all the same, its batch is refused as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_postgresql_cannot_hold_is_refused_and_nothing_is_written() {
    let (database, mut replica) = database_with_a_log().await;
    let mut batch = replica.draft().group().put(&config_key("other"), "{}").done();
    batch.events[0].actor = "no\0body".into();
    let error = replica.try_append(&batch).await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    assert_eq!(Replica::open(&database).await.revision(), replica.revision());
    // the connection is as good as before
    replica.register("after", 1).await;
}

/// What the functions call is not looked up where somebody else may put something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_of_others_are_not_called() {
    let database = Database::fresh().await;
    let mut superuser = database.connect().await;
    superuser
        .execute(
            "create function public.sha256(bytea) returns bytea language sql as $$ select 'mine'::bytea $$; \
             create function public.json_build_array(bigint, integer, bigint, text, text, uuid, text, text, \
               text, text) returns json language sql as $$ select '[\"mine\"]'::json $$; \
             create function public.greatest_mine(bigint, bigint) returns bigint language sql as 'select 7'; \
             create operator public.|| (leftarg = bytea, rightarg = bytea, function = byteacat); \
             grant usage on schema public to public",
        )
        .await
        .unwrap();
    let mut replica = Replica::open(&database).await;
    replica.connection.execute("set search_path = public, pg_catalog").await.unwrap();
    replica.register("mine", 2).await;
    let lines = "select rollcall.event_line(revision, epoch, time, kind, service, instance, actor, origin, \
                 request_id, data) from rollcall.events order by revision limit 1";
    let line: String = sqlx::query_scalar(lines).fetch_one(&mut replica.connection).await.unwrap();
    assert!(line.contains("service_registered"), "{line}");
    let lanes = rollcall::store::Lanes::new(store(&database.url()), 1);
    let whole = rollcall::store::history::verify(&lanes, 0, 10).await.unwrap();
    assert_eq!((whole.broken_at, whole.to), (None, 2));
}
