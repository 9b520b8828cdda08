//! Guards: the versions of rows that a group read and does not change.

use futures_util::future::join_all;
use rollcall::domain::{InstanceId, RowKey, TokenId};
use rollcall::store::GroupOutcome::{self, Conflict, Written};
use uuid::Uuid;

use super::{Draft, Replica, config_key};
use crate::support::Database;

/// Two rows of a kind, either way to name them, and how one of them is changed.
#[derive(Clone)]
struct Pair {
    rows: [RowKey; 2],
}

impl Pair {
    async fn instances(replica: &mut Replica) -> Self {
        let ids = replica.register("pair", 2).await;
        Self { rows: [RowKey::Instance(ids[0]), RowKey::Instance(ids[1])] }
    }

    async fn configs(replica: &mut Replica) -> Self {
        let keys = [config_key("a"), config_key("b")];
        let mut draft = replica.draft();
        draft.group().put(&keys[0], "{}").group().put(&keys[1], "{}");
        assert_eq!(replica.write(&mut draft).await, [Written, Written]);
        Self { rows: keys.map(RowKey::Config) }
    }
}

fn change(draft: &mut Draft, row: &RowKey) {
    match row {
        RowKey::Instance(id) => draft.report(*id),
        RowKey::Config(key) => draft.put(key, &format!(r#"{{"id":"{}"}}"#, Uuid::new_v4())),
        RowKey::Token(id) => draft.revoke_token(*id),
    };
}

fn version(replica: &Replica, row: &RowKey) -> i64 {
    match row {
        RowKey::Instance(id) => replica.version(*id),
        RowKey::Config(key) => replica.snapshot.configs().get(key).map_or(0, |entry| entry.version),
        RowKey::Token(id) => replica.snapshot.tokens().get(*id).map_or(0, |token| token.version),
    }
}

/// Changes one row, having read the other.
async fn change_having_read(replica: &mut Replica, changed: &RowKey, read: &RowKey) -> GroupOutcome {
    let mut draft = replica.draft();
    draft.group().guard(read.clone(), version(replica, read));
    change(&mut draft, changed);
    replica.append(&draft.done()).await.0[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_skew_is_refused() {
    let database = Database::fresh().await;
    let mut one = Replica::open(&database).await;
    for pair in [Pair::instances(&mut one).await, Pair::configs(&mut one).await] {
        let [a, b] = &pair.rows;
        let mut other = Replica::open(&database).await;
        assert_eq!(change_having_read(&mut one, a, b).await, Written);
        assert_eq!(change_having_read(&mut other, b, a).await, Conflict);
        other.catch_up().await;
        assert_eq!(change_having_read(&mut other, b, a).await, Written);
        assert_eq!(change_having_read(&mut one, a, b).await, Conflict);
        one.catch_up().await;
        assert_eq!((version(&one, a), version(&one, b)), (2, 2));
    }
}

/// Each writer flips its own row having read the other's. With skew two could win on one and the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_skew_is_refused_in_a_race() {
    const ROUNDS: usize = 60;
    let database = Database::fresh().await;
    let mut first = Replica::open(&database).await;
    let pair = Pair::instances(&mut first).await;
    // what each winner saw: its own row's version and the other's
    let seen = join_all([0, 1].map(async |own| {
        let (own, read) = (&pair.rows[own], &pair.rows[1 - own]);
        let mut replica = Replica::open(&database).await;
        let mut seen = Vec::new();
        while seen.len() < ROUNDS {
            let state = version(&replica, own) + version(&replica, read);
            if change_having_read(&mut replica, own, read).await == Written {
                seen.push(state);
            }
            replica.catch_up().await;
        }
        seen
    }))
    .await;
    // Each of them rested on another state, and together on all there were.
    let mut states = seen.concat();
    states.sort_unstable();
    assert_eq!(states, (2..2 + 2 * i64::try_from(ROUNDS).unwrap()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_on_absence_is_refused_once_the_row_exists() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let id = InstanceId(Uuid::now_v7());
    let key = config_key("absent");
    let token = RowKey::Token(TokenId(Uuid::now_v7()));
    for row in [RowKey::Instance(id), RowKey::Config(key.clone()), token] {
        let on_absence = async |replica: &mut Replica| {
            let mut draft = replica.draft();
            draft.group().guard(row.clone(), 0).register("resting", &Uuid::new_v4().to_string());
            replica.append(&draft.done()).await.0[0]
        };
        assert_eq!(on_absence(&mut replica).await, Written);
        let mut draft = replica.draft();
        match &row {
            RowKey::Instance(id) => draft.group().register_as(*id, "absent", "0"),
            RowKey::Config(key) => draft.group().put(key, "{}"),
            RowKey::Token(id) => draft.group().create_token(*id),
        };
        assert_eq!(replica.write(&mut draft).await, [Written]);
        assert_eq!(on_absence(&mut replica).await, Conflict);
    }
    // An instance that is gone is absent again; the row of a deleted configuration is still there.
    assert_eq!(replica.write(replica.draft().group().remove(id).group().delete(&key)).await, [Written; 2]);
    let mut draft = replica.draft();
    draft.group().guard(RowKey::Instance(id), 0).register("resting", "1");
    draft.group().guard(RowKey::Config(key.clone()), 0).register("resting", "2");
    draft.group().guard(RowKey::Config(key), 2).register("resting", "3");
    assert_eq!(replica.write(&mut draft).await, [Written, Conflict, Written]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_on_a_row_that_is_gone_is_refused() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let ids = replica.register("gone", 2).await;
    let mut other = Replica::open(&database).await;
    assert_eq!(replica.write(replica.draft().group().remove(ids[0])).await, [Written]);
    assert_eq!(
        change_having_read(&mut other, &RowKey::Instance(ids[1]), &RowKey::Instance(ids[0])).await,
        Conflict
    );
}

/// The order of a batch is an order in which it could have happened one by one: who reads a row comes before who
/// changes it. (That a reader who comes after waits for the next batch is the planner's part.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_are_compared_with_the_state_before_the_batch() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    for pair in [Pair::instances(&mut replica).await, Pair::configs(&mut replica).await] {
        let [a, b] = &pair.rows;
        let mut draft = replica.draft();
        draft.group().guard(b.clone(), 1);
        change(&mut draft, a);
        draft.group();
        change(&mut draft, b);
        assert_eq!(replica.write(&mut draft).await, [Written, Written]);
        assert_eq!((version(&replica, a), version(&replica, b)), (2, 2));
    }
}
