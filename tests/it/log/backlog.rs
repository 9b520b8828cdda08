//! Many commands at once: what is waiting is decided on while the batch before it is being written.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rollcall::domain::{Command, ConfigKey, Content, Environment, Precondition, Row, ServiceName};
use rollcall::log::{Caller, IdempotencyKey, Outcome, WriteError};
use sqlx::Executor as _;

use super::replica::Replica;
use crate::support::Database;

const KEYS: usize = 30;
const ROUNDS: usize = 120;

fn put(service: &str, key: usize, round: usize) -> Command {
    let environment = Environment::parse(&format!("e{key}")).unwrap();
    Command::PutConfig {
        key: ConfigKey { service: ServiceName::parse(service).unwrap(), environment },
        content: Content::parse(&format!("{{\"round\":{round}}}")).unwrap(),
        comment: None,
        precondition: Precondition::None,
    }
}

fn caller(idempotency: Option<IdempotencyKey>) -> Caller {
    Caller { actor: "tester".into(), origin: "test".into(), idempotency, ..Caller::checker() }
}

/// Each command is decided on what the one before it left, whatever others write in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_is_written_in_its_order() {
    let database = Database::fresh().await;
    let (one, other) = (Replica::start(&database), Replica::start(&database));
    // one request has keys here and there, which are looked up before anything is decided
    for (service, keyed) in [("plain", false), ("keyed", true)] {
        let commands = (0..ROUNDS).flat_map(|round| (0..KEYS).map(move |key| (round, key)));
        let commands: Vec<_> = commands
            .enumerate()
            .map(|(n, (round, key))| {
                let own = keyed && n % 700 == 0;
                let idempotency = own.then(|| IdempotencyKey::new(&n.to_string(), "PUT", "/"));
                (caller(idempotency), put(service, key, round))
            })
            .collect();
        let elsewhere = join_all((0..300).map(|n| other.write(put("elsewhere", n % 7, n))));
        let (answers, others) = tokio::join!(one.log.write_all(commands), elsewhere);
        assert!(others.iter().all(Result::is_ok), "{others:?}");

        let mut versions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        let mut last = 0;
        for answer in answers {
            let outcome = answer.unwrap();
            let Some(Row::Config(entry)) = outcome.row else { panic!("no configuration") };
            assert!(outcome.revision > last, "{} after {last}", outcome.revision);
            last = outcome.revision;
            versions.entry(entry.key.environment.as_str().to_owned()).or_default().push(entry.version);
        }
        let expected: Vec<i64> = (1..=i64::try_from(ROUNDS).unwrap()).collect();
        assert_eq!(versions.len(), KEYS);
        assert!(versions.values().all(|versions| *versions == expected), "{versions:?}");
    }
    Replica::assert_agreement([&one, &other]).await;
    one.stop().await;
    other.stop().await;
}

/// In a row of changes nobody asks for what is new, and nothing is decided on what is not any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_a_row_rest_on_what_is() {
    let database = Database::fresh().await;
    let (one, other) = (Replica::start_without_follower(&database), Replica::start(&database));
    let written = |outcome: &Outcome| outcome.event.is_some();
    for n in 0..50 {
        assert!(written(&one.write(put("row", 0, n)).await.unwrap()));
    }
    let (polls, most) = (one.polls(), 40);
    assert!(polls < most, "{polls} polls in a row of 50");
    let mut version = 50;
    for n in 50..70 {
        // what the other has changed is asked for where nothing is to be written, ...
        other.write(put("row", 0, 1000 + n)).await.unwrap();
        assert!(written(&one.write(put("row", 0, n - 1)).await.unwrap()), "it was something else meanwhile");
        // ... and found out where something is
        other.write(put("row", 0, 2000 + n)).await.unwrap();
        let outcome = one.write(put("row", 0, n)).await.unwrap();
        version += 4;
        let Some(Row::Config(entry)) = outcome.row else { panic!("no configuration") };
        assert_eq!(entry.version, version);
    }
    one.assert_one_truth().await;
    one.stop().await;
    other.stop().await;
}

/// One that the database refuses fails alone, and nothing that waits behind it is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_refused_takes_nobody_along() {
    let database = Database::fresh().await;
    database
        .connect()
        .await
        .execute(
            "create function refuse() returns trigger language plpgsql as 'begin raise exception ''no''; end'; \
             create trigger refuse before insert on rollcall.config_entries \
             for each row when (new.service = 'refused') execute function refuse()",
        )
        .await
        .unwrap();
    let replica = Replica::start(&database);
    let refused = |n: usize| n == 300 || n == 1000;
    // some find all as they ask
    let round = |n: usize| if n >= 500 && n.is_multiple_of(7) { n - 500 } else { n };
    let commands: Vec<_> = (0..1100)
        .map(|n| (caller(None), put(if refused(n) { "refused" } else { "taken" }, n % 500, round(n))))
        .collect();
    let answers = replica.log.write_all(commands).await;
    let mut last = 0;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(WriteError::Rejected) => assert!(refused(n), "{n}"),
            Ok(Outcome { event: Some(event), .. }) => {
                assert!(!refused(n) && event.revision > last, "{n}: {} after {last}", event.revision);
                last = event.revision;
            }
            Ok(_) => assert!(!refused(n) && n != round(n), "{n}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    replica.assert_one_truth().await;
    replica.stop().await;
}
