//! Whatever is asked, singly or at once, on one replica or on two: the answers are those of the naive model, and the
//! view, the fold of the log and the tables agree.

use futures_util::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    model::{Answer, Model, Op, answer, ops},
    replica::Replica,
};
use crate::support::Database;

const CASES: u32 = 12;

/// Runs a property over random commands, each case on a database of its own.
fn hold(property: &impl AsyncFn(&Database, &[Op])) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config =
        Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let outcome = TestRunner::new(config).run(&ops(), |ops| {
        let checked = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let database = Database::fresh().await;
                property(&database, &ops).await;
            });
        });
        std::panic::catch_unwind(checked).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            TestCaseError::fail(text.unwrap_or_else(|| "a panic".to_owned()))
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn commands_one_by_one_are_answered_as_by_the_model() {
    hold(&async |database, ops| {
        let replica = Replica::start(database);
        let mut model = Model::default();
        for op in ops {
            let (command, expected) = model.apply(op);
            assert_eq!(answer(replica.write(command).await), expected, "{op:?}");
        }
        replica.assert_one_truth().await;
        replica.stop().await;
    });
}

#[test]
fn commands_in_batches_are_answered_as_one_by_one() {
    hold(&async |database, ops| {
        let replica = Replica::start(database);
        let mut model = Model::default();
        let (commands, expected): (Vec<_>, Vec<_>) = ops.iter().map(|op| model.apply(op)).unzip();
        // join_all asks in order, so they stand in the queue in order
        let answers = join_all(commands.into_iter().map(|command| replica.write(command))).await;
        let answers: Vec<Answer> = answers.into_iter().map(answer).collect();
        assert_eq!(answers, expected);
        replica.assert_one_truth().await;
        replica.stop().await;
    });
}

#[test]
fn two_replicas_end_with_one_truth() {
    hold(&async |database, ops| {
        let (one, other) = (Replica::start(database), Replica::start(database));
        let (mut here, mut there) = (Model::default(), Model::with_ids_after(1 << 64));
        // Each replica is asked by a model of its own, which knows nothing of the other: the answers differ from
        // what it expects, the truth must not.
        let commands: Vec<_> = ops
            .iter()
            .enumerate()
            .map(|(n, op)| if n % 2 == 0 { (&one, here.apply(op).0) } else { (&other, there.apply(op).0) })
            .collect();
        let asked = commands.into_iter().map(|(replica, command)| replica.write(command));
        for result in join_all(asked).await {
            answer(result);
        }
        Replica::assert_agreement([&one, &other]).await;
        one.stop().await;
        other.stop().await;
    });
}
