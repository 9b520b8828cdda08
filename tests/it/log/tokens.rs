//! Tokens that have ended do not stay for ever.

use chrono::{TimeDelta, Utc};
use rollcall::domain::{Command, Digest, Policies, State as _, TokenId, TokenName, registry::CreateToken};
use rollcall::log::remove_ended_tokens;
use uuid::Uuid;

use super::replica::Replica;
use crate::support::{Database, PATIENCE, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_goes_a_day_after_its_end() {
    let database = Database::fresh().await;
    let (one, other) = (Replica::start(&database), Replica::start(&database));
    let ends = [None, Some(TimeDelta::hours(1)), Some(TimeDelta::hours(-23)), Some(TimeDelta::hours(-25))];
    let ids: Vec<_> = ends.iter().map(|_| TokenId(Uuid::now_v7())).collect();
    for (n, (id, end)) in (0_u8..).zip(ids.iter().zip(ends)) {
        let token = CreateToken {
            id: *id,
            name: TokenName::parse("ci").unwrap(),
            policies: Policies::default(),
            digest: Digest([n; 32]),
            expires_at: end.map(|end| Utc::now() + end),
        };
        one.write(Command::CreateToken(token)).await.unwrap();
    }
    wait_until(PATIENCE, "the other has followed", async || {
        (other.view.snapshot().revision() == 4).then_some(())
    })
    .await;
    // at once on both, as it may happen
    tokio::join!(remove_ended_tokens(&one.log), remove_ended_tokens(&other.log));
    let known = |replica: &Replica| {
        ids.iter().map(|id| replica.view.snapshot().token(*id).is_some()).collect::<Vec<_>>()
    };
    for replica in [&one, &other] {
        wait_until(PATIENCE, "it is gone", async || (replica.view.snapshot().revision() == 5).then_some(()))
            .await;
        assert_eq!(known(replica), [true, true, true, false]);
    }
    let (_, events) = one.folded().await;
    assert_eq!(&*events.last().unwrap().actor, "upkeep");
    one.stop().await;
    other.stop().await;
}
