//! Signs of life through HTTP, beside a server that does nothing but answer; and what becomes of them in the database.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::{
    bodies,
    load::Wire,
    options::Options,
    place::Place,
    program::Program,
    rounds::{self, Contestant},
    table::{Goal, Table},
};

const INSTANCES: u64 = 10_000;
/// Until what was noted has been written, and the database has counted it.
const SETTLED: Duration = Duration::from_secs(3);

pub async fn heartbeats(options: &Options, place: &Place, table: &mut Table) {
    let registry = place.registry("heartbeats", INSTANCES, 1).await;
    let ids = ids(&registry).await;
    let path = |number: u64| {
        let id = &ids[bodies::spread(number, INSTANCES) as usize];
        format!("/api/v1/services/{id}/heartbeat")
    };
    let address = registry.address.to_string();
    let yardstick = Program::yardstick(&["signs", &address, &path(0)]).await;
    let requests = |number: u64, into: &mut Vec<u8>| bodies::post(&path(number), "", into);
    let contestants = [
        Contestant { program: &registry, requests: &requests },
        Contestant { program: &yardstick, requests: &requests },
    ];
    let mut connection = place.connect("heartbeats").await;
    // each has been heard of once, so that its row is there
    tokio::task::block_in_place(|| rounds::play(1, &contestants));
    tokio::time::sleep(SETTLED).await;
    let before = Stored::now(&mut connection).await;
    let [own, bare] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let asked: f64 = own.iter().map(|turn| turn.rate * rounds::TURN.as_secs_f64()).sum();
    tokio::time::sleep(SETTLED).await;
    let after = Stored::now(&mut connection).await;
    let rates = rounds::ratios(&own, &bare, |turn| turn.rate);
    let what = "heartbeats of 10,000 instances: requests/s ÷ bare hyper";
    table.rounds(what, &rates, Goal::AtLeast(0.85), rounds::told(&own, &bare));
    let cpus = rounds::ratios(&own, &bare, |turn| turn.cpu);
    table.rounds("heartbeats: CPU a request ÷ bare hyper", &cpus, Goal::None, String::new());
    let transactions = (after.transactions - before.transactions) as f64;
    let details = format!("{transactions:.0}, also for all else, in {asked:.0} requests");
    table.figure("heartbeats: transactions a request", transactions / asked, Goal::AtMost(0.01), details);
    let (updates, hot) = (after.updates - before.updates, after.hot - before.hot);
    let what = "heartbeats: rows that were updated in their page";
    table.figure(what, hot as f64 / updates as f64, Goal::AtLeast(0.99), format!("{hot} of {updates}"));
    let growth = after.bytes as f64 / before.bytes as f64;
    let details = format!("{} kB, then {} kB", before.bytes / 1024, after.bytes / 1024);
    table.figure("heartbeats: growth of the table", growth, Goal::AtMost(1.1), details);
    connection.close().await.unwrap();
    yardstick.stop().await;
    registry.stop().await;
}

async fn ids(registry: &Program) -> Vec<String> {
    let mut request = Vec::new();
    bodies::get("/api/v1/services", &mut request);
    let mut wire = Wire::connect(registry.address).await.unwrap();
    assert_eq!(wire.ask(&request).await.unwrap(), 200);
    let services: Vec<Value> = serde_json::from_slice(wire.body()).unwrap();
    services.iter().map(|service| service["id"].as_str().unwrap().to_owned()).collect()
}

/// What the database has counted so far.
struct Stored {
    transactions: i64,
    updates: i64,
    hot: i64,
    bytes: i64,
}

impl Stored {
    async fn now(connection: &mut PgConnection) -> Self {
        let (transactions, updates, hot, bytes) = sqlx::query_as(
            "select d.xact_commit + d.xact_rollback, t.n_tup_upd, t.n_tup_hot_upd,
                    pg_relation_size('rollcall.liveness')
             from pg_stat_database d, pg_stat_user_tables t
             where d.datname = current_database() and t.schemaname = 'rollcall' and t.relname = 'liveness'",
        )
        .fetch_one(connection)
        .await
        .unwrap();
        Self { transactions, updates, hot, bytes }
    }
}
