//! Registrations, one by one and many at once.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    bodies,
    load::{self, Amount},
    options::Options,
    place::Place,
    program::Program,
    rounds::{self, Contestant},
    table::{Goal, Table, median},
};

const SERVICES: u64 = 1000;
const AT_ONCE: u64 = 1000;
const BULK_TURN: Duration = Duration::from_secs(2);
/// So many that one batch is always being read while another is being written.
const BULK_CONNECTIONS: usize = 8;

/// Beside a transaction for each.
pub async fn registrations(options: &Options, place: &Place, table: &mut Table) {
    let registry = place.registry("registrations", 0, 0).await;
    let url = place.create("transactions").await;
    let yardstick = Program::yardstick(&["transactions", &url]).await;
    let requests = |number: u64, into: &mut Vec<u8>| {
        let body = bodies::registration(number % SERVICES, number);
        bodies::post("/api/v1/services/register", &body, into);
    };
    let contestants = [
        Contestant { program: &registry, requests: &requests },
        Contestant { program: &yardstick, requests: &requests },
    ];
    let [own, other] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let rates = rounds::ratios(&own, &other, |turn| turn.rate);
    let what = "registrations, 64 connections ÷ a transaction each";
    table.rounds(what, &rates, Goal::AtLeast(8.0), rounds::told(&own, &other));
}

/// Beside the same rows given to the database as arrays, without anything around them.
pub async fn bulk(options: &Options, place: &Place, table: &mut Table) {
    let registry = place.registry("bulk", 0, 0).await;
    let mut raw = Raw::prepare(place).await;
    let (mut ratios, mut own, mut other) = (Vec::new(), Vec::new(), Vec::new());
    let mut number = 0;
    for round in 0..=options.rounds {
        let (mut through_http, mut by_arrays) = (0.0, 0.0);
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                let done = tokio::task::block_in_place(|| {
                    let amount = Amount::For(BULK_TURN);
                    load::run(registry.address, BULK_CONNECTIONS, amount, number, &batch).flawless()
                });
                number += done.requests + BULK_CONNECTIONS as u64;
                through_http = done.rate() * AT_ONCE as f64;
            } else {
                by_arrays = raw.turn().await;
            }
        }
        if round > 0 {
            ratios.push(through_http / by_arrays);
            own.push(through_http);
            other.push(by_arrays);
        }
    }
    let details = format!("{:.0} rows/s | beside it {:.0} rows/s", median(&own), median(&other));
    table.rounds("registrations by 1,000 ÷ raw UNNEST", &ratios, Goal::AtLeast(0.5), details);
    raw.connection.close().await.unwrap();
}

fn batch(number: u64, into: &mut Vec<u8>) {
    let numbers = number * AT_ONCE..(number + 1) * AT_ONCE;
    let items: Vec<String> = numbers.map(|number| bodies::registration(number % SERVICES, number)).collect();
    bodies::post("/api/v1/services/register/batch", &format!("[{}]", items.join(",")), into);
}

/// Instances and events of the same shape and size, by one statement a thousand.
struct Raw {
    connection: PgConnection,
    next: u64,
    revision: i64,
    spec: String,
    data: String,
}

impl Raw {
    async fn prepare(place: &Place) -> Self {
        let mut connection = place.connect("bulk").await;
        for statement in [
            "create schema raw",
            "create table raw.instances (like rollcall.instances including all)",
            "create table raw.events (like rollcall.events including all)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        // of the size that the registry itself writes
        let (spec, data) = sample(&mut connection, place).await;
        Self { connection, next: 0, revision: 0, spec, data }
    }

    /// Rows a second.
    async fn turn(&mut self) -> f64 {
        let begun = Instant::now();
        let mut rows = 0;
        while begun.elapsed() < BULK_TURN {
            self.thousand().await;
            rows += AT_ONCE;
        }
        rows as f64 / begun.elapsed().as_secs_f64()
    }

    async fn thousand(&mut self) {
        let numbers = self.next..self.next + AT_ONCE;
        let ids: Vec<Uuid> = numbers.clone().map(|_| Uuid::now_v7()).collect();
        let services: Vec<String> = numbers.clone().map(|n| format!("service-{:06}", n % SERVICES)).collect();
        let keys: Vec<String> = numbers.map(|n| format!("10.0.{n}:8000")).collect();
        let specs = vec![self.spec.as_str(); ids.len()];
        let data = vec![self.data.as_str(); ids.len()];
        sqlx::query(
            "with new as (select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                            with ordinality n(id, service, key, spec, data, o)),
                  rows as (insert into raw.instances
                             select id, service, key, false, 1, $6 + o, 'healthy', 0, 0, spec, now(), now() from new)
             insert into raw.events
               select $6 + o, 1, now(), 'service_registered', service, id, 'anonymous', 'native', null, data from new",
        )
        .bind(&ids)
        .bind(&services)
        .bind(&keys)
        .bind(&specs)
        .bind(&data)
        .bind(self.revision)
        .execute(&mut self.connection)
        .await
        .unwrap();
        self.next += AT_ONCE;
        self.revision += AT_ONCE.cast_signed();
    }
}

/// A specification and an event's data as the registry writes them.
async fn sample(connection: &mut PgConnection, place: &Place) -> (String, String) {
    let registry = place.registry("sample", 1, 1).await;
    registry.stop().await;
    let mut other = place.connect("sample").await;
    let statement =
        "select i.spec, e.data from rollcall.instances i join rollcall.events e on e.instance = i.id";
    let sample = sqlx::query_as(statement).fetch_one(&mut other).await.unwrap();
    other.close().await.unwrap();
    connection.ping().await.unwrap();
    sample
}
