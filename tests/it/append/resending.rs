//! What a writer learns when it sends a batch again, or is no longer the one who may.

use futures_util::future::join_all;
use rollcall::store::GroupOutcome::{Conflict, Written};
use rollcall::store::{Appended, Cursor};
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use super::Replica;
use crate::support::Database;

async fn log(replica: &mut Replica) -> (i64, i64, i64) {
    let counted = "select (select count(*) from rollcall.batches), (select count(*) from rollcall.events), \
                   (select count(*) from rollcall.instances)";
    let row = sqlx::query(counted).fetch_one(&mut replica.connection).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_sent_again_gets_its_first_outcome_and_changes_nothing() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("again", 1).await[0];
    let mut draft = replica.draft();
    draft.group().report(id).group().register("again", "0");
    draft.group().register("again", "1");
    let batch = draft.done();
    let first = replica.append(&batch).await;
    assert_eq!(first.0, [Written, Conflict, Written]);
    assert_eq!(log(&mut replica).await, (2, 3, 2));
    // at once; after others wrote; on the replica's next connection, which is when it matters
    assert_eq!(replica.append(&batch).await, first);
    let mut other = Replica::open(&database).await;
    assert_eq!(other.write(other.draft().group().report(id)).await, [Written]);
    assert_eq!(replica.append(&batch).await, first);
    let mut next = Replica::open_as(&database.url(), replica.writer.replica).await;
    assert_eq!(next.append(&batch).await, first);
    assert_eq!(log(&mut replica).await, (3, 4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_sent_from_two_connections_at_once_is_written_once() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("twice", 1).await[0];
    for round in 1..=40 {
        let mut draft = replica.draft();
        draft.group().report(id).group().register("twice", "0");
        draft.group().register("new", &round.to_string());
        let batch = draft.done();
        let mut other = Replica::open(&database).await;
        let (mut third, mut fourth) = (Replica::open(&database).await, Replica::open(&database).await);
        let answers = join_all(
            [&mut replica, &mut other, &mut third, &mut fourth].map(|replica| replica.append(&batch)),
        )
        .await;
        assert_eq!(answers[0].0, [Written, Conflict, Written]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        replica.catch_up().await;
        assert_eq!(replica.version(id), 1 + round);
    }
    assert_eq!(log(&mut replica).await, (41, 81, 41));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_generation_is_refused_and_other_replicas_are_not() {
    let database = Database::fresh().await;
    let mut old = Replica::open(&database).await;
    let id = old.register("fence", 1).await[0];
    let mut bystander = Replica::open(&database).await;
    let mut new = Replica::open_as(&database.url(), old.writer.replica).await;
    assert_eq!(new.writer.generation, old.writer.generation + 1);
    let batch = old.draft().group().report(id).done();
    assert!(matches!(old.try_append(&batch).await.unwrap(), Appended::Superseded));
    assert_eq!(old.catch_up().await, []);
    assert_eq!(bystander.write(bystander.draft().group().report(id)).await, [Written]);
    new.catch_up().await;
    assert_eq!(new.write(new.draft().group().report(id)).await, [Written]);
    // an older connection still learns what became of a batch that was written
    let known = new.draft().group().report(id).done();
    let answer = new.append(&known).await;
    assert_eq!(old.append(&known).await, answer);
    // and one that nobody has opened writes nothing
    old.writer.replica = Uuid::new_v4();
    assert!(matches!(old.try_append(&batch).await.unwrap(), Appended::Superseded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_takes_a_generation_of_its_own() {
    let database = Database::fresh().await;
    let replica = Uuid::new_v4();
    let url = database.url();
    let opened = join_all((0..20).map(|_| Replica::open_as(&url, replica))).await;
    let mut generations: Vec<_> = opened.iter().map(|replica| replica.writer.generation).collect();
    generations.sort_unstable();
    assert_eq!(generations, (1..=20).collect::<Vec<_>>());
}

/// The late packet of a frozen connection: it was sent before the next generation was taken, and arrives after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_packet_does_not_run() {
    let database = Database::fresh().await;
    let mut old = Replica::open(&database).await;
    let id = old.register("late", 1).await[0];
    let (replica, url) = (old.writer.replica, database.url());
    let mut holder = database.connect().await;
    holder.execute("begin; select from rollcall.log_head for no key update").await.unwrap();
    // Who queues first at a row's lock is served first.
    let opening = tokio::spawn(async move { Replica::open_as(&url, replica).await });
    let waiting = async |count: i64| {
        let waiters = "select count(*) from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock'";
        crate::support::wait_until(crate::support::PATIENCE, "they wait for the head", async || {
            let mut watcher = database.connect().await;
            let now: i64 = sqlx::query_scalar(waiters).fetch_one(&mut watcher).await.unwrap();
            (now == count).then_some(())
        })
        .await;
    };
    waiting(1).await;
    let batch = old.draft().group().report(id).done();
    let sending = tokio::spawn(async move { old.try_append(&batch).await });
    waiting(2).await;
    holder.execute("commit").await.unwrap();
    assert!(matches!(sending.await.unwrap().unwrap(), Appended::Superseded));
    assert_eq!(opening.await.unwrap().version(id), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_whose_past_is_not_the_logs_is_told_so() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("past", 2).await[0];
    replica.write(replica.draft().group().report(id)).await;
    let right = replica.cursor.clone();
    let hash = right.hash.clone().unwrap();
    for cursor in [
        Cursor { epoch: 2, ..right.clone() },
        Cursor { epoch: 0, ..right.clone() },
        Cursor { revision: right.revision + 1, ..right.clone() },
        Cursor { revision: right.revision - 1, ..right.clone() },
        Cursor { hash: Some(hash.iter().rev().copied().collect()), ..right.clone() },
        Cursor { hash: None, ..right.clone() },
    ] {
        let mut batch = replica.draft().group().report(id).done();
        batch.cursor = cursor;
        let answer = replica.try_append(&batch).await.unwrap();
        assert!(matches!(answer, Appended::Forked), "{:?}: {answer:?}", batch.cursor);
    }
    assert_eq!(replica.catch_up().await, []);
    // an older place of the same past is a good one
    let mut batch = replica.draft().group().report(id).done();
    let first: (i64, Vec<u8>) =
        sqlx::query_as("select rev_to, hash from rollcall.batches order by rev_to limit 1")
            .fetch_one(&mut replica.connection)
            .await
            .unwrap();
    (batch.cursor.revision, batch.cursor.hash) = (first.0, Some(first.1));
    assert_eq!(replica.append(&batch).await.0, [Written]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_of_another_epoch_is_told_so() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("epoch", 1).await[0];
    let mut superuser = database.connect().await;
    superuser.execute("update rollcall.log_head set epoch = 2, floor = 1000000000").await.unwrap();
    let batch = replica.draft().group().report(id).done();
    assert!(matches!(replica.try_append(&batch).await.unwrap(), Appended::Forked));
    let mut replica = Replica::open(&database).await;
    assert_eq!(replica.cursor.epoch, 2);
    assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
    assert_eq!(replica.revision(), 1_000_000_001);
}
