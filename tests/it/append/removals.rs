//! Removals go through one row, and what rests on silence holds only if it lasted.

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::domain::{CheckId, InstanceId};
use rollcall::store::GroupOutcome::{Conflict, Overtaken, Written};
use rollcall::store::liveness::{Sign, Subject, flush};
use rollcall::store::{Patience, sweep::look_around};
use sqlx::Executor as _;

use super::Replica;
use crate::support::Database;

fn ttl() -> CheckId {
    CheckId::parse("ttl").unwrap()
}

async fn heard_at(replica: &mut Replica, number: i64, id: InstanceId, at: DateTime<Utc>) {
    let sign = Sign { last_check: Some(at), ..Sign::default() };
    let sender = replica.writer.replica;
    let subject = Subject { instance: id, check: Some(ttl()) };
    flush(&mut replica.connection, sender, number, &[(subject, sign)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_passes_that_saw_the_same_one_removes() {
    let database = Database::fresh().await;
    let mut one = Replica::open(&database).await;
    let ids = one.register("ill", 4).await;
    let mut other = Replica::open(&database).await;
    let seen = look_around(&mut one.connection, Patience::FRESH).await.unwrap();
    assert_eq!(seen.removed_at, None);
    let same = look_around(&mut other.connection, Patience::FRESH).await.unwrap();
    assert_eq!(same.pass, seen.pass);

    let mut first = one.draft();
    first.group().sweep(seen.pass).remove(ids[0]).remove(ids[1]);
    assert_eq!(one.write(&mut first).await, [Written]);
    let mut second = other.draft();
    second.group().sweep(same.pass).remove(ids[2]).group().report(ids[3]);
    let second = second.done();
    assert_eq!(other.append(&second).await.0, [Overtaken, Written], "nobody else is held up");
    assert_eq!(other.append(&second).await.0, [Overtaken, Written], "as often as it is sent");

    other.catch_up().await;
    let next = look_around(&mut other.connection, Patience::FRESH).await.unwrap();
    assert!(next.pass == seen.pass + 1 && next.removed_at.is_some());
    let mut third = other.draft();
    third.group().sweep(next.pass).remove(ids[2]);
    assert_eq!(other.write(&mut third).await, [Written]);
    assert_eq!(other.snapshot.instances().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_that_is_refused_is_no_pass() {
    let database = Database::fresh().await;
    let mut one = Replica::open(&database).await;
    let ids = one.register("ill", 2).await;
    let mut other = Replica::open(&database).await;
    let mut changed = one.draft();
    changed.group().report(ids[0]);
    assert_eq!(one.write(&mut changed).await, [Written]);
    let seen = look_around(&mut other.connection, Patience::FRESH).await.unwrap();
    let mut stale = other.draft();
    stale.group().sweep(seen.pass).remove(ids[0]).remove(ids[1]);
    assert_eq!(other.append(&stale.done()).await.0, [Conflict], "one of them is another by now");
    let row = look_around(&mut other.connection, Patience::FRESH).await.unwrap();
    assert_eq!((row.pass, row.removed_at), (seen.pass, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nobody_looked_for_long_is_known_afterwards() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    look_around(&mut replica.connection, Patience::FRESH).await.unwrap();
    let mut superuser = database.connect().await;
    for hours in [2, 1] {
        let long_ago = format!("update rollcall.sweep set looked_at = looked_at - interval '{hours} hours'");
        superuser.execute(sqlx::AssertSqlSafe(long_ago)).await.unwrap();
        look_around(&mut replica.connection, Patience::FRESH).await.unwrap();
    }
    let after = look_around(&mut replica.connection, Patience::FRESH).await.unwrap();
    // Nobody has looked since the template of all databases was made either, which may be a while ago.
    let hours: Vec<_> =
        after.gaps.iter().map(|(_, lasted)| lasted.num_hours()).filter(|hours| *hours > 0).collect();
    assert_eq!(hours, [2, 1]);
    assert!(after.gaps.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_came_after_all_undoes_what_rests_on_silence() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("told", 3).await;
    let heard = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    heard_at(&mut replica, 1, ids[0], heard).await;
    heard_at(&mut replica, 2, ids[1], heard).await;
    let mut draft = replica.draft();
    draft.group().silence(ids[0], ttl(), heard).report(ids[0]);
    draft.group().silence(ids[1], ttl(), heard - TimeDelta::microseconds(1)).report(ids[1]);
    draft.group().silence(ids[2], ttl(), heard).report(ids[2]);
    assert_eq!(replica.write(&mut draft).await, [Written, Overtaken, Written]);
    assert_eq!((replica.version(ids[0]), replica.version(ids[1]), replica.version(ids[2])), (2, 1, 2));
}
