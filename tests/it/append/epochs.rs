//! A log that has lost its end, or stands on another server, begins an epoch above all that was known.

use futures_util::future::join_all;
use rollcall::store::GroupOutcome::Written;
use rollcall::store::append::open_writer;
use rollcall::store::epoch::{ancestor, raise};
use rollcall::store::history::verify;
use rollcall::store::{Appended, Lanes};
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use super::Replica;
use super::replica::store;
use crate::support::Database;

const BILLION: i64 = 1_000_000_000;

/// The head, and all that began an epoch.
async fn epochs(replica: &mut Replica) -> (i32, i64, Vec<(i64, i32, String)>) {
    let head = sqlx::query("select epoch, floor from rollcall.log_head")
        .fetch_one(&mut replica.connection)
        .await
        .unwrap();
    let begun =
        "select revision, epoch, data from rollcall.events where kind = 'epoch_started' order by revision";
    let begun = sqlx::query(begun).fetch_all(&mut replica.connection).await.unwrap();
    let begun = begun.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    (head.get(0), head.get(1), begun)
}

async fn whole_to(database: &Database) -> i64 {
    let page = verify(&Lanes::new(store(&database.url()), 1), 0, 1000).await.unwrap();
    assert_eq!((page.broken_at, page.to), (None, page.head));
    page.to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_find_a_fork_one_raises_the_epoch() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("fork", 3).await[0];
    let raised = join_all((0..8).map(async |n| {
        let mut replica = Replica::open(&database).await;
        let known = BILLION * 4 + n;
        raise(&mut replica.connection, 1, known, Some(2), replica.writer.replica).await.unwrap()
    }))
    .await;
    assert_eq!(raised.iter().filter(|raised| **raised).count(), 1, "{raised:?}");
    let (epoch, floor, begun) = epochs(&mut replica).await;
    assert_eq!((epoch, floor, begun.len()), (2, BILLION * 5 - 1, 1));
    assert_eq!((begun[0].0, begun[0].1), (BILLION * 5, 2));
    assert!(
        begun[0].2.contains(r#""parent" : 3"#) && begun[0].2.contains(r#""lost_from" : 3"#),
        "{}",
        begun[0].2
    );
    // who writes on what was is told so; what follows goes on in the new epoch
    let batch = replica.draft().group().report(id).done();
    assert!(matches!(replica.try_append(&batch).await.unwrap(), Appended::Forked));
    let mut replica = Replica::open(&database).await;
    assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
    assert_eq!((replica.cursor.epoch, replica.revision()), (2, BILLION * 5 + 1));
    assert_eq!(whole_to(&database).await, BILLION * 5 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_knew_more_than_the_new_epoch_allows_for_raises_it_again() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("fork", 1).await;
    let own = replica.writer.replica;
    for (expected, known, raised, floor) in [
        (1, 5, true, BILLION - 1),
        (1, 5, false, BILLION - 1),
        (1, BILLION - 1, false, BILLION - 1),
        (1, BILLION, true, 2 * BILLION - 1),
        (3, 7, false, 2 * BILLION - 1),
        (9, 2 * BILLION, true, 3 * BILLION - 1),
    ] {
        assert_eq!(
            raise(&mut replica.connection, expected, known, Some(1), own).await.unwrap(),
            raised,
            "{known}"
        );
        assert_eq!(epochs(&mut replica).await.1, floor, "{known}");
    }
    assert_eq!(whole_to(&database).await, 3 * BILLION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_on_another_server_begins_an_epoch_once() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("moved", 2).await[0];
    let mut superuser = database.connect().await;
    for (n, change) in ["system_identifier = 7", "timeline = timeline + 1"].into_iter().enumerate() {
        let change = format!("update rollcall.log_head set {change}");
        superuser.execute(sqlx::AssertSqlSafe(change)).await.unwrap();
        // those who were connected before go on: their server has not become another one
        replica.catch_up().await;
        assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
        let mut connection = store(&database.url()).connect().await.unwrap();
        open_writer(&mut connection, Uuid::new_v4(), 17).await.unwrap();
        open_writer(&mut connection, Uuid::new_v4(), 17).await.unwrap();
        replica = Replica::open(&database).await;
        let (epoch, floor, begun) = epochs(&mut replica).await;
        let n = i64::try_from(n).unwrap() + 1;
        assert_eq!(
            (i64::from(epoch), floor, begun.len()),
            (n + 1, n * BILLION - 1, usize::try_from(n).unwrap())
        );
    }
    assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
    assert_eq!(whole_to(&database).await, 2 * BILLION + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_batch_of_all_may_be_of_a_later_epoch() {
    let database = Database::fresh().await;
    let mut connection = store(&database.url()).connect().await.unwrap();
    assert!(raise(&mut connection, 1, 7, None, Uuid::new_v4()).await.unwrap());
    let mut replica = Replica::open(&database).await;
    replica.register("later", 2).await;
    assert_eq!((replica.cursor.epoch, replica.revision()), (2, BILLION + 2));
    assert_eq!(whole_to(&database).await, BILLION + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_puts_between_the_epochs_is_found() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("between", 2).await;
    raise(&mut replica.connection, 1, 2, Some(2), replica.writer.replica).await.unwrap();
    let put = "insert into rollcall.events select 77, epoch, time, kind, service, instance, actor, origin, \
               request_id, data from rollcall.events where revision = 1";
    database.connect().await.execute(put).await.unwrap();
    let page = verify(&Lanes::new(store(&database.url()), 1), 0, 1000).await.unwrap();
    assert_eq!(page.broken_at, Some(BILLION));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ancestor_is_the_newest_place_that_the_log_knows() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let mut marks = Vec::new();
    for service in ["a", "b", "c"] {
        replica.register(service, 2).await;
        marks.push((replica.revision(), replica.cursor.hash.clone().unwrap()));
    }
    marks[2].1[0] ^= 1;
    assert_eq!(ancestor(&mut replica.connection, &marks).await.unwrap(), Some(4));
    assert_eq!(ancestor(&mut replica.connection, &marks[2..]).await.unwrap(), None);
    assert_eq!(ancestor(&mut replica.connection, &[]).await.unwrap(), None);
}
