//! Optimistic locking: a row changes only from the version that its writer knew.

use futures_util::future::join_all;
use rollcall::domain::{Change, RowKey};
use rollcall::store::GroupOutcome::{Conflict, Written};
use sqlx::Row as _;

use super::{Replica, config_key};
use crate::support::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_different_rows_never_conflict() {
    const ROUNDS: i64 = 100;
    let database = Database::fresh().await;
    let mut ids = Replica::open(&database).await.register("shared", 2).await;
    let writers = join_all([ids.pop().unwrap(), ids.pop().unwrap()].map(async |id| {
        let mut replica = Replica::open(&database).await;
        for _ in 0..ROUNDS {
            // Never caught up with: what the other wrote since does not matter.
            let (outcomes, span) = {
                let mut draft = replica.draft();
                draft.group().report(id).group().register("own", &uuid::Uuid::new_v4().to_string());
                replica.append(&draft.done()).await
            };
            assert_eq!(outcomes, [Written, Written]);
            let span = span.unwrap();
            assert_eq!(span.to - span.from, 1);
            replica.catch_up().await;
        }
        (replica, id)
    }))
    .await;
    for (mut replica, id) in writers {
        replica.catch_up().await;
        assert_eq!(replica.version(id), ROUNDS + 1);
        assert_eq!(replica.revision(), 2 + 4 * ROUNDS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_elsewhere_in_between_is_no_conflict() {
    let database = Database::fresh().await;
    let mut one = Replica::open(&database).await;
    let ids = one.register("shared", 2).await;
    let mut other = Replica::open(&database).await;
    for round in 1..=50 {
        assert_eq!(one.write(one.draft().group().report(ids[0])).await, [Written]);
        // It decides on the state of 50 batches ago.
        let mut draft = other.draft();
        draft.group().register("own", &round.to_string());
        assert_eq!(other.append(&draft.done()).await.0, [Written]);
    }
    other.catch_up().await;
    assert_eq!(other.version(ids[0]), 51);
    assert_eq!(other.write(other.draft().group().report(ids[1])).await, [Written]);
}

/// N writers × M increments, some of them several at once in one group: none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_row_no_update_is_lost() {
    const WRITERS: i64 = 4;
    const GROUPS: i64 = 40;
    let database = Database::fresh().await;
    let id = Replica::open(&database).await.register("shared", 1).await[0];
    let increments = join_all((0..WRITERS).map(async |writer| {
        let mut replica = Replica::open(&database).await;
        let mut increments = 0;
        for group in 0..GROUPS {
            let several = 1 + (writer + group) % 3;
            increments += several;
            loop {
                let mut draft = replica.draft();
                draft.group();
                for _ in 0..several {
                    draft.report(id);
                }
                let (outcomes, span) = replica.append(&draft.done()).await;
                assert_eq!(
                    span.map_or(0, |span| span.to - span.from + 1),
                    if outcomes == [Written] { several } else { 0 }
                );
                replica.catch_up().await;
                match outcomes[..] {
                    [Written] => break,
                    [Conflict] => {}
                    ref other => panic!("{other:?}"),
                }
            }
        }
        increments
    }))
    .await;
    let last = 1 + increments.iter().sum::<i64>();
    let mut replica = Replica::open(&database).await;
    assert_eq!(replica.version(id), last);
    let rows =
        sqlx::query("select (data::json ->> 'version')::bigint from rollcall.events order by revision")
            .fetch_all(&mut replica.connection)
            .await
            .unwrap();
    let versions: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(versions, (1..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_changes_of_one_row_are_one_group() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let old = replica.register("chain", 1).await[0];
    let key = config_key("chain");
    let mut draft = replica.draft();
    let new = draft.group().register("chain", "new");
    draft.report(new).update(new, 7);
    draft.group().report(old).report(old).report(old);
    draft.group().put(&key, r#"{"n":1}"#).put(&key, r#"{"n":2}"#).delete(&key).put(&key, r#"{"n":4}"#);
    assert_eq!(replica.write(&mut draft).await, [Written; 3]);
    assert_eq!(replica.revision(), 1 + 3 + 3 + 4);
    let row = |id| replica.instance(id).unwrap();
    assert_eq!((row(new).version, row(new).revision, row(new).spec.weight), (3, 4, 7));
    assert_eq!((row(old).version, row(old).revision, row(old).health.changes()), (4, 7, 3));
    let fresh = Replica::open(&database).await;
    assert_eq!(fresh.instance(new), replica.instance(new));
    assert_eq!(fresh.instance(old), replica.instance(old));
    let entry = &fresh.snapshot.configs()[&key];
    assert_eq!(
        (entry.version, entry.revision, entry.content.as_ref().unwrap().text()),
        (4, 11, r#"{"n":4}"#)
    );
    assert_eq!(replica.snapshot.configs()[&key], *entry);
}

/// Every way to be guilty, each between two that are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guilty_group_does_not_fail_its_neighbours() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("a", 6).await;
    let key = config_key("a");
    replica.write(replica.draft().group().put(&key, "{}")).await;
    let mut stale = Replica::open(&database).await;
    let mut draft = replica.draft();
    draft.group().report(ids[0]).group().remove(ids[1]).group().remove(ids[5]);
    draft.group().put(&key, r#"{"n":1}"#);
    replica.write(&mut draft).await;
    let before = replica.revision();

    let mut draft = stale.draft();
    draft.group().register("b", "1"); // fits
    draft.group().report(ids[0]); // stale
    draft.group().register("b", "2"); // fits
    draft.group().report(ids[1]); // gone
    draft.group().register("b", "3"); // fits
    draft.group().register("a", "2"); // its identity is taken
    draft.group().report(ids[2]).report(ids[2]); // fits
    draft.group().remove(ids[5]); // gone
    draft.group().remove(ids[3]); // fits
    draft.group().put(&key, r#"{"n":2}"#); // stale
    draft.group().put(&config_key("b"), "{}"); // fits
    draft.group().guard(RowKey::Instance(ids[0]), 1).report(ids[4]); // what it read has changed
    draft.group().register("b", "4"); // fits
    let (outcomes, span) = stale.append(&draft.done()).await;
    let fits = |n: usize| if n.is_multiple_of(2) { Written } else { Conflict };
    assert_eq!(outcomes, (0..13).map(fits).collect::<Vec<_>>());
    let span = span.unwrap();
    assert_eq!((span.from, span.to), (before + 1, before + 8));

    let events = replica.catch_up().await;
    let told: Vec<_> = events.iter().map(|event| (event.revision - before, event.change.kind())).collect();
    let expected = [
        (1, "service_registered"),
        (2, "service_registered"),
        (3, "service_registered"),
        (4, "status_change"),
        (5, "status_change"),
        (6, "service_unregistered"),
        (7, "config_updated"),
        (8, "service_registered"),
    ];
    assert_eq!(told, expected);
    let versions: Vec<_> = ids.iter().map(|id| replica.version(*id)).collect();
    assert_eq!(versions, [2, 0, 3, 0, 1, 0]);
    assert_eq!(replica.snapshot.configs()[&key].content.as_ref().unwrap().text(), r#"{"n":1}"#);
    // The rows carry the revisions of their own events, though others before them were not numbered.
    let loaded = Replica::open(&database).await;
    assert_eq!(loaded.instance(ids[2]), replica.instance(ids[2]));
    assert_eq!(loaded.instance(ids[2]).unwrap().revision, before + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_written_as_a_whole_or_not_at_all() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("whole", 3).await;
    let mut draft = replica.draft();
    // The second row's identity is taken: nothing of the other three happens.
    draft.group().report(ids[0]);
    draft.register("whole", "1");
    draft.remove(ids[2]).put(&config_key("whole"), "{}");
    let (outcomes, span) = replica.append(&draft.done()).await;
    assert_eq!((outcomes, span), (vec![Conflict], None));
    assert_eq!(replica.catch_up().await, []);
    let mut again = Replica::open(&database).await;
    assert_eq!(ids.iter().map(|id| again.version(*id)).collect::<Vec<_>>(), [1; 3]);
    assert!(again.snapshot.configs().is_empty());
    assert_eq!(again.revision(), 3);
    // without the guilty row all of it fits
    let mut draft = again.draft();
    draft.group().report(ids[0]).remove(ids[2]).put(&config_key("whole"), "{}");
    assert_eq!(again.write(&mut draft).await, [Written]);
    assert_eq!(again.revision(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_group_may_give_an_identity_from_an_old_row_to_a_new_one() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("swap", 2).await;
    let mut draft = replica.draft();
    draft.group().remove(ids[0]);
    let new = draft.register("swap", "0");
    // Another group may not: its fate would hang on the first one's.
    draft.group().remove(ids[1]);
    draft.group().register("swap", "1");
    assert_eq!(replica.write(&mut draft).await, [Written, Written, Conflict]);
    let fresh = Replica::open(&database).await;
    assert_eq!((fresh.version(ids[0]), fresh.version(new), fresh.version(ids[1])), (0, 1, 0));
    assert_eq!(fresh.snapshot.instances(), replica.snapshot.instances());
    assert_eq!(fresh.snapshot.instances().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_register_one_identity_one_wins() {
    let database = Database::fresh().await;
    let won = join_all((0..4).map(async |_| {
        let mut replica = Replica::open(&database).await;
        let mut won = 0;
        for key in 0..50 {
            let mut draft = replica.draft();
            draft.group().register("race", &key.to_string());
            match replica.append(&draft.done()).await.0[..] {
                [Written] => won += 1,
                [Conflict] => {}
                ref other => panic!("{other:?}"),
            }
        }
        won
    }))
    .await;
    assert_eq!(won.iter().sum::<i32>(), 50, "{won:?}");
    let replica = Replica::open(&database).await;
    assert_eq!((replica.snapshot.instances().len(), replica.revision()), (50, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_and_an_address_of_the_same_text_are_two_identities() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let mut draft = replica.draft();
    draft.group().register("same", "10.0.0.1:80");
    let batch = draft.done();
    let Change::Registered { service, spec, health, .. } = batch.events[0].change.clone() else { panic!() };
    let key = rollcall::domain::Key::address(&spec.host, spec.port);
    let id = rollcall::domain::InstanceId(uuid::Uuid::now_v7());
    draft = replica.draft();
    draft.group().register("same", "10.0.0.1:80");
    draft.group().change(Change::Registered { id, service, key, spec, health });
    assert_eq!(replica.write(&mut draft).await, [Written, Written]);
    assert_eq!(replica.snapshot.instances().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_in_which_nothing_fits_leaves_no_trace() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    replica.register("trace", 1).await;
    let mut draft = replica.draft();
    draft.group().register("trace", "0");
    draft.group().register("trace", "0");
    assert_eq!(replica.append(&draft.done()).await, (vec![Conflict, Conflict], None));
    let batches: i64 = sqlx::query_scalar("select count(*) from rollcall.batches")
        .fetch_one(&mut replica.connection)
        .await
        .unwrap();
    assert_eq!(batches, 1);
    // neither does one that is empty
    assert_eq!(replica.append(&replica.draft().done()).await, (vec![], None));
    assert_eq!(replica.catch_up().await, []);
}
