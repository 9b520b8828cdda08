//! The database's plans outlive the small tables that they were made for.

use std::time::{Duration, Instant};

use rollcall::domain::InstanceId;
use rollcall::store::GroupOutcome::Written;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{Replica, config_key};
use crate::support::Database;

const MANY: usize = 100_000;
const LOAD: usize = 1000;

/// The shortest time that a mixed batch takes, and that a poll takes: what else runs on the machine only adds to it.
async fn shortest(replica: &mut Replica, hot: &[InstanceId], round: &str) -> (Duration, Duration) {
    let (mut appending, mut polling) = (Vec::new(), Vec::new());
    let mut old: Option<InstanceId> = None;
    for n in 0..41 {
        let mut draft = replica.draft();
        for id in hot {
            draft.group().report(*id);
        }
        let new = draft.group().register("passing", &format!("{round}{n}"));
        draft.group().put(&config_key("plans"), &format!(r#"{{"n":"{round}{n}"}}"#));
        if let Some(old) = old.replace(new) {
            draft.group().remove(old);
        }
        let batch = draft.done();
        let began = Instant::now();
        let (outcomes, _) = replica.append(&batch).await;
        appending.push(began.elapsed());
        assert!(outcomes.iter().all(|outcome| *outcome == Written), "{outcomes:?}");
        let began = Instant::now();
        replica.catch_up().await;
        polling.push(began.elapsed());
    }
    (appending.into_iter().min().unwrap(), polling.into_iter().min().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_began_on_empty_tables_is_as_quick_on_full_ones() {
    let database = Database::fresh().await;
    // until somebody happens to analyse the tables, nothing tells a connection that they have grown
    let mut superuser = database.connect().await;
    for table in ["events_0", "batches", "instances", "config_entries", "config_versions", "liveness"] {
        let alone = format!("alter table rollcall.{table} set (autovacuum_enabled = off)");
        superuser.execute(AssertSqlSafe(alone)).await.unwrap();
    }
    superuser.execute("vacuum analyze").await.unwrap();
    let mut replica = Replica::open(&database).await;
    let hot = replica.register("hot", 20).await;
    let (append_before, poll_before) = shortest(&mut replica, &hot, "before").await;

    let mut loader = Replica::open(&database).await;
    let mut seen = 0;
    while seen < MANY {
        let mut draft = loader.draft();
        for n in seen..seen + LOAD {
            draft.group().register("many", &n.to_string());
        }
        let (_, span) = loader.append(&draft.done()).await;
        assert_eq!(span.map(|span| span.to - span.from + 1), i64::try_from(LOAD).ok());
        seen += LOAD;
        // all of it at once would take a slow machine longer than a statement may
        replica.catch_up().await;
    }
    let (append_after, poll_after) = shortest(&mut replica, &hot, "after").await;
    superuser.execute("analyze").await.unwrap();
    let (append_then, poll_then) = shortest(&mut replica, &hot, "then").await;
    let mut fresh = Replica::open(&database).await;
    let (append_fresh, poll_fresh) = shortest(&mut fresh, &hot, "fresh").await;
    eprintln!(
        "append: {append_before:?} on empty tables, {append_after:?} on {MANY} rows, {append_then:?} analysed, \
         {append_fresh:?} on a new connection; poll: {poll_before:?}, {poll_after:?}, {poll_then:?}, {poll_fresh:?}"
    );
    let limit = append_before * 3;
    assert!(append_after <= limit && append_then <= limit && append_fresh <= limit, "more than {limit:?}");
    let limit = poll_before * 3;
    assert!(poll_after <= limit && poll_then <= limit && poll_fresh <= limit, "more than {limit:?}");
}
