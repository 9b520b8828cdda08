//! Idempotency keys: kept with the group that they belong to, for a day.

use rollcall::store::GroupOutcome::{Conflict, Written};
use rollcall::store::Patience;
use rollcall::store::idempotency::{Kept, find, forget_old};
use sqlx::Executor as _;

use super::Replica;
use crate::support::Database;

async fn kept(replica: &mut Replica) -> Vec<(String, i64, String)> {
    let found = find(&mut replica.connection, &["a", "b", "c"], Patience::FRESH).await.unwrap();
    let told = |(key, kept): (String, Result<Kept, _>)| {
        let kept = kept.unwrap();
        assert_eq!(kept.event.map(|event| event.revision), Some(kept.revision));
        (key, kept.revision, kept.answer)
    };
    let mut kept: Vec<_> = found.into_iter().map(told).collect();
    kept.sort();
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_kept_with_its_group_and_only_with_it() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("keys", 1).await;
    let mut draft = replica.draft();
    draft.group().register("keys", "1");
    draft.keep("a", "{}");
    draft.group().register("keys", "0"); // its identity is taken
    draft.keep("b", "{}");
    assert_eq!(replica.write(&mut draft).await, [Written, Conflict]);
    assert_eq!(kept(&mut replica).await, [("a".to_owned(), 2, "{}".to_owned())]);
    // neither key nor group is written where the key is there already, whatever its group is about
    let mut draft = replica.draft();
    draft.group().register("keys", "2");
    draft.keep("a", "[]");
    draft.group().register("keys", "3");
    draft.keep("b", "[]");
    assert_eq!(replica.write(&mut draft).await, [Conflict, Written]);
    let expected = [("a".to_owned(), 2, "{}".to_owned()), ("b".to_owned(), 3, "[]".to_owned())];
    assert_eq!(kept(&mut replica).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_be_used_again_after_a_day() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    for key in ["a", "b"] {
        let mut draft = replica.draft();
        draft.group().register("keys", key);
        draft.keep(key, "old");
        assert_eq!(replica.write(&mut draft).await, [Written]);
    }
    let mut superuser = database.connect().await;
    superuser.execute("update rollcall.idempotency_keys set at = at - interval '24 hours'").await.unwrap();
    assert_eq!(kept(&mut replica).await, []);
    let mut draft = replica.draft();
    draft.group().register("keys", "again");
    draft.keep("a", "new");
    assert_eq!(replica.write(&mut draft).await, [Written]);
    assert_eq!(kept(&mut replica).await, [("a".to_owned(), 3, "new".to_owned())]);
    assert_eq!(forget_old(&mut replica.connection).await.unwrap(), 1);
    let left: Vec<String> = sqlx::query_scalar("select key from rollcall.idempotency_keys")
        .fetch_all(&mut superuser)
        .await
        .unwrap();
    assert_eq!(left, ["a"]);
}

/// Whoever forgets meets whoever uses the same old keys again, in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_waits_for_nobody() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    for key in ["a", "b"] {
        let mut draft = replica.draft();
        draft.group().register("keys", key);
        draft.keep(key, "old");
        assert_eq!(replica.write(&mut draft).await, [Written]);
    }
    let mut superuser = database.connect().await;
    superuser.execute("update rollcall.idempotency_keys set at = at - interval '24 hours'").await.unwrap();
    superuser
        .execute("begin; select from rollcall.idempotency_keys where key = 'a' for update")
        .await
        .unwrap();
    assert_eq!(forget_old(&mut replica.connection).await.unwrap(), 1);
    superuser.execute("commit").await.unwrap();
    let left: Vec<String> = sqlx::query_scalar("select key from rollcall.idempotency_keys")
        .fetch_all(&mut superuser)
        .await
        .unwrap();
    assert_eq!(left, ["a"]);
}

/// A request that found everything as it asked has no event, and is remembered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_kept_without_an_event() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("keys", 3).await;
    let mut draft = replica.draft();
    draft.group().keep("a", "{}");
    let batch = draft.done();
    assert_eq!(replica.append(&batch).await, (vec![Written], None));
    let mut found = find(&mut replica.connection, &["a"], Patience::FRESH).await.unwrap();
    let kept = found.remove("a").unwrap().unwrap();
    assert_eq!((kept.revision, kept.event, kept.answer.as_str()), (3, None, "{}"));
    assert_eq!(replica.catch_up().await, []);
    // sent again it is not known by its id, for it left nothing in the log; its key is
    assert_eq!(replica.append(&batch).await, (vec![Conflict], None));
}
