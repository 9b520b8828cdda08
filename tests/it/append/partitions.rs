//! The partitions of the log are made when their time comes.

use futures_util::future::join_all;
use rollcall::store::GroupOutcome::Written;
use rollcall::store::Lanes;
use rollcall::store::history::verify;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use super::Replica;
use super::replica::store;
use crate::support::Database;

const SIZE: i64 = 5_000_000;

/// Each partition that has events: its name, its first and its last.
async fn filled(connection: &mut PgConnection) -> Vec<(String, i64, i64)> {
    let query = "select tableoid::regclass::text, min(revision), max(revision) from rollcall.events \
                 group by 1 order by 2";
    let rows = sqlx::query(query).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// All partitions, with whether each refuses to be changed by rows and to be emptied.
async fn partitions(connection: &mut PgConnection) -> Vec<String> {
    let query = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                 where i.inhparent = 'rollcall.events'::regclass and c.relkind = 'r' \
                   and pg_get_userbyid(c.relowner) = 'rollcall_owner' \
                   and (select count(*) from pg_trigger t where t.tgrelid = c.oid) = 2 \
                   and (select count(*) from pg_index x where x.indrelid = c.oid and x.indisprimary) = 1 \
                 order by substr(c.relname, 8)::bigint";
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

/// As a fork does.
async fn begin_epoch(connection: &mut PgConnection, floor: i64) {
    let raise = format!("update rollcall.log_head set epoch = epoch + 1, floor = {floor}");
    connection.execute(AssertSqlSafe(raise)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_may_lie_in_two_partitions() {
    let database = Database::fresh().await;
    let mut superuser = database.connect().await;
    let ids = Replica::open(&database).await.register("crossing", 25).await;
    assert_eq!(partitions(&mut superuser).await, ["events_0"]);
    begin_epoch(&mut superuser, SIZE - 10).await;
    let mut replica = Replica::open(&database).await;
    let mut draft = replica.draft();
    for id in &ids {
        draft.group().report(*id);
    }
    assert_eq!(replica.write(&mut draft).await, [Written; 25]);
    assert_eq!(replica.revision(), SIZE + 15);
    let expected =
        [("rollcall.events_0".to_owned(), 1, SIZE - 1), ("rollcall.events_1".to_owned(), SIZE, SIZE + 15)];
    assert_eq!(filled(&mut superuser).await, expected);
    assert_eq!(partitions(&mut superuser).await, ["events_0", "events_1"]);
    assert_eq!(Replica::open(&database).await.snapshot.instances(), replica.snapshot.instances());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_begins_far_beyond_the_last_one() {
    let database = Database::fresh().await;
    let mut superuser = database.connect().await;
    let id = Replica::open(&database).await.register("epochs", 1).await[0];
    for (epoch, floor) in [(2, 1_000_000_000), (3, 2_000_000_000), (4, 40_000_000_000)] {
        begin_epoch(&mut superuser, floor).await;
        let mut replica = Replica::open(&database).await;
        for n in 1..=3 {
            assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
            assert_eq!((replica.cursor.epoch, replica.revision()), (epoch, floor + n));
        }
    }
    // a floor below what is written is none
    begin_epoch(&mut superuser, 3_000_000_000).await;
    let mut replica = Replica::open(&database).await;
    assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
    assert_eq!(replica.revision(), 40_000_000_004);
    assert_eq!(partitions(&mut superuser).await, ["events_0", "events_200", "events_400", "events_8000"]);
    let whole = verify(&Lanes::new(store(&database.url()), 1), 0, 100).await.unwrap();
    assert_eq!((whole.broken_at, whole.to), (None, 40_000_000_004));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_long_before_they_are_needed() {
    let database = Database::fresh().await;
    let mut superuser = database.connect().await;
    let id = Replica::open(&database).await.register("ahead", 1).await[0];
    // within the last million the next one is made when a round number is passed, or when it must be
    for (floor, known) in [
        (SIZE - 1_000_100, 1),
        (SIZE - 990_001, 2),
        (SIZE + 7, 2),
        (2 * SIZE - 985_000, 2),
        (2 * SIZE - 980_002, 2),
        (2 * SIZE - 980_001, 3),
        (3 * SIZE - 1, 4),
    ] {
        begin_epoch(&mut superuser, floor).await;
        let mut replica = Replica::open(&database).await;
        assert_eq!(replica.write(replica.draft().group().report(id)).await, [Written]);
        assert_eq!(partitions(&mut superuser).await.len(), known, "{floor}");
    }
}

/// Writers and readers at work while the log crosses from one partition into the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_cross_a_boundary_without_noticing() {
    let database = Database::fresh().await;
    let mut superuser = database.connect().await;
    let ids = Replica::open(&database).await.register("busy", 4).await;
    begin_epoch(&mut superuser, SIZE - 300).await;
    let mut tailer = Replica::open(&database).await;
    let last = SIZE - 300 + 4 * 50 * 3;
    let writing = join_all(ids.iter().map(async |id| {
        let mut replica = Replica::open(&database).await;
        for _ in 0..50 {
            assert_eq!(
                replica.write(replica.draft().group().report(*id).report(*id).report(*id)).await,
                [Written]
            );
        }
    }));
    let tailing = async {
        let mut seen = Vec::new();
        while seen.last() != Some(&last) {
            seen.extend(tailer.catch_up().await.iter().map(|event| event.revision));
            tokio::task::yield_now().await;
        }
        seen
    };
    let (_, seen) = tokio::join!(writing, tailing);
    assert_eq!(seen, (SIZE - 299..=last).collect::<Vec<_>>());
}
