//! What stays out of the log: flushed once, merged, and told in a feed without gaps.

use futures_util::future::join_all;
use rollcall::domain::InstanceId;
use rollcall::store::GroupOutcome::Written;
use rollcall::store::liveness::{Sign, Subject, flush, follow};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{Executor as _, Row as _};
use uuid::Uuid;

use super::Replica;
use crate::support::{Database, PATIENCE, wait_until};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn failed(failures: i64, changes: u32) -> Sign {
    Sign { failures, changes, ..Sign::default() }
}

fn seen(second: i64) -> Sign {
    Sign { last_seen: Some(at(second)), ..Sign::default() }
}

async fn send(replica: &mut Replica, number: i64, signs: &[(InstanceId, Sign)]) {
    send_as(replica, replica.writer.replica, number, signs).await;
}

async fn send_as(replica: &mut Replica, sender: Uuid, number: i64, signs: &[(InstanceId, Sign)]) {
    let signs: Vec<_> = signs.iter().map(|(id, sign)| (Subject::of(*id), sign.clone())).collect();
    flush(&mut replica.connection, sender, number, &signs).await.unwrap();
}

async fn stored(replica: &mut Replica) -> Vec<(InstanceId, Sign)> {
    let mut signs = follow(&mut replica.connection, None, &[]).await.unwrap().signs;
    signs.sort_by_key(|(subject, _)| subject.instance);
    of_instances(signs)
}

fn of_instances(signs: Vec<(Subject, Sign)>) -> Vec<(InstanceId, Sign)> {
    signs.into_iter().map(|(subject, sign)| (subject.instance, sign)).collect()
}

async fn feed(replica: &mut Replica) -> Vec<i64> {
    let rows = sqlx::query("select seq from rollcall.liveness_feed order by seq");
    rows.fetch_all(&mut replica.connection).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_is_repeated_counts_once() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("once", 1).await[0];
    for _ in 0..3 {
        send(&mut replica, 1, &[(id, failed(2, 4))]).await;
    }
    assert_eq!(stored(&mut replica).await, [(id, failed(2, 4))]);
    assert_eq!(feed(&mut replica).await, [1]);
    send(&mut replica, 2, &[(id, failed(3, 4))]).await;
    send(&mut replica, 1, &[(id, failed(2, 4))]).await;
    assert_eq!(stored(&mut replica).await, [(id, failed(5, 4))]);
    // another replica counts by itself, before its writer was opened too
    let stranger = Uuid::new_v4();
    for _ in 0..2 {
        send_as(&mut replica, stranger, 1, &[(id, failed(1, 4))]).await;
    }
    assert_eq!(stored(&mut replica).await, [(id, failed(6, 4))]);
    assert_eq!(feed(&mut replica).await, [1, 2, 3]);
    let opened = Replica::open_as(&database.url(), stranger).await;
    assert_eq!(opened.writer.generation, 1);
    // it never moves the log
    assert_eq!(replica.catch_up().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_are_merged_into_totals() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("merged", 1).await[0];
    let check = |second, latency, output: &str| Sign {
        last_check: Some(at(second)),
        latency_ms: Some(latency),
        output: Some(output.into()),
        ..Sign::default()
    };
    let expected = |sign: &Sign| vec![(id, sign.clone())];
    let mut total = Sign { last_seen: Some(at(5)), load: Some(0.5), ..failed(2, 3) };
    send(&mut replica, 1, &expected(&total)).await;
    assert_eq!(stored(&mut replica).await, expected(&total));
    // nothing is forgotten by a sign that says nothing of it, and no time goes back
    send(&mut replica, 2, &[(id, seen(4))]).await;
    assert_eq!(stored(&mut replica).await, expected(&total));
    // failures of an older stretch are no longer counted, those of a newer one begin anew
    send(&mut replica, 3, &[(id, failed(9, 2))]).await;
    assert_eq!(stored(&mut replica).await, expected(&total));
    send(&mut replica, 4, &[(id, failed(1, 4))]).await;
    total = Sign { failures: 1, changes: 4, ..total };
    assert_eq!(stored(&mut replica).await, expected(&total));
    // the newest check holds
    send(&mut replica, 5, &[(id, check(7, 1.5, "late"))]).await;
    send(&mut replica, 6, &[(id, check(6, 9.0, "early"))]).await;
    total = Sign {
        last_seen: total.last_seen,
        load: total.load,
        failures: 1,
        changes: 4,
        ..check(7, 1.5, "late")
    };
    assert_eq!(stored(&mut replica).await, expected(&total));
    send(&mut replica, 7, &[(id, Sign { last_check: Some(at(8)), ..seen(9) })]).await;
    total = Sign { last_seen: Some(at(9)), last_check: Some(at(8)), latency_ms: None, output: None, ..total };
    assert_eq!(stored(&mut replica).await, expected(&total));
    // who follows the feed and who loads the table know the same
    let feed = follow(&mut replica.connection, Some(6), &[]).await.unwrap();
    assert_eq!((feed.seq, of_instances(feed.signs)), (7, expected(&total)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_goes_with_its_instance() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("goes", 3).await;
    send(&mut replica, 1, &[(ids[0], seen(1)), (ids[1], seen(1)), (ids[2], seen(1))]).await;
    let mut late = Replica::open(&database).await;
    let mut draft = replica.draft();
    draft.group().remove(ids[0]).group().report(ids[1]);
    assert_eq!(replica.write(&mut draft).await, [Written, Written]);
    // a removal that is refused leaves it
    late.write(late.draft().group().remove(ids[1])).await;
    assert_eq!(stored(&mut replica).await, [(ids[1], seen(1)), (ids[2], seen(1))]);
    // a sign of one that is gone, or never was, is passed over
    let unknown = InstanceId(Uuid::now_v7());
    send(&mut replica, 2, &[(ids[0], seen(2)), (ids[1], seen(2)), (unknown, seen(2))]).await;
    assert_eq!(stored(&mut replica).await, [(ids[1], seen(2)), (ids[2], seen(1))]);
    // one that tells of nobody is no news
    send(&mut replica, 3, &[(ids[0], seen(3))]).await;
    send(&mut replica, 4, &[]).await;
    assert_eq!(feed(&mut replica).await, [1, 2]);
}

/// Removals and flushes of the same instances at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_meets_a_removal_leaves_nothing_behind() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let mut flusher = Replica::open(&database).await;
    for round in 1..=60 {
        let ids = replica.register("meets", 30).await;
        let mut draft = replica.draft();
        for id in &ids {
            draft.group().remove(*id);
        }
        let batch = draft.done();
        let mut signs: Vec<_> = ids.iter().map(|id| (*id, seen(round))).collect();
        signs.sort_by_key(|(id, _)| *id);
        let ((outcomes, _), ()) = tokio::join!(replica.append(&batch), send(&mut flusher, round, &signs));
        assert_eq!(outcomes, [Written; 30]);
        replica.catch_up().await;
        assert_eq!(stored(&mut replica).await, [], "round {round}");
    }
}

/// The same, with the flush stopped in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_waits_for_a_flush_that_is_under_way() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("waits", 2).await;
    let mut flushing = database.connect().await;
    flushing.execute("begin").await.unwrap();
    let signs = [(Subject::of(ids[0]), seen(1)), (Subject::of(ids[1]), seen(1))];
    flush(&mut flushing, Uuid::new_v4(), 1, &signs).await.unwrap();
    let batch = replica.draft().group().remove(ids[0]).done();
    let removing = tokio::spawn(async move { (replica.append(&batch).await.0, replica) });
    wait_until(PATIENCE, "the removal waits, or is done", async || {
        let waiting = "select exists (select from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock')";
        let mut watcher = database.connect().await;
        let waits: bool = sqlx::query_scalar(waiting).fetch_one(&mut watcher).await.unwrap();
        (waits || removing.is_finished()).then_some(())
    })
    .await;
    flushing.execute("commit").await.unwrap();
    let (outcomes, mut replica) = removing.await.unwrap();
    assert_eq!(outcomes, [Written]);
    assert_eq!(stored(&mut replica).await, [(ids[1], seen(1))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_has_no_gaps_and_adds_up() {
    const FLUSHES: i64 = 40;
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("feed", 3).await;
    let followed = tokio::spawn({
        let url = database.url();
        async move {
            let mut reader = Replica::open_at(&url).await;
            let (mut seq, mut totals) = (0, std::collections::BTreeMap::new());
            while seq < 4 * FLUSHES {
                let feed = follow(&mut reader.connection, Some(seq), &[]).await.unwrap();
                assert!(feed.seq >= seq);
                seq = feed.seq;
                totals.extend(feed.signs);
                tokio::task::yield_now().await;
            }
            totals
        }
    });
    join_all((0..4).map(async |_| {
        let mut replica = Replica::open(&database).await;
        for number in 1..=FLUSHES {
            let signs: Vec<_> = ids.iter().map(|id| (*id, failed(1, 1))).collect();
            send(&mut replica, number, &signs).await;
        }
    }))
    .await;
    assert_eq!(feed(&mut replica).await, (1..=4 * FLUSHES).collect::<Vec<_>>());
    let totals = of_instances(followed.await.unwrap().into_iter().collect());
    let mut expected: Vec<_> = ids.iter().map(|id| (*id, failed(4 * FLUSHES, 1))).collect();
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(totals, expected);
    assert_eq!(stored(&mut replica).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_is_kept_a_minute_and_its_numbers_go_on() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = replica.register("kept", 1).await[0];
    for number in 1..=3 {
        send(&mut replica, number, &[(id, seen(number))]).await;
    }
    let mut superuser = database.connect().await;
    superuser.execute("update rollcall.liveness_feed set at = at - interval '2 minutes'").await.unwrap();
    // an empty flush clears up as well, and leaves the newest
    send(&mut replica, 4, &[]).await;
    assert_eq!(feed(&mut replica).await, [3]);
    send(&mut replica, 5, &[(id, seen(5))]).await;
    assert_eq!(feed(&mut replica).await, [4]);
    // who stood before the feed's beginning gets all there is
    for place in [None, Some(0), Some(2), Some(9)] {
        let feed = follow(&mut replica.connection, place, &[]).await.unwrap();
        assert_eq!((feed.seq, of_instances(feed.signs)), (4, vec![(id, seen(5))]), "{place:?}");
    }
}
