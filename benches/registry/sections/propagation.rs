//! From a write's acknowledgement at one replica to the other's first answer that has it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    bodies,
    load::Wire,
    options::Options,
    place::Place,
    program::Program,
    table::{Goal, Table, quantile},
};

const WRITES: usize = 500;
/// So that the replicas are at rest, as they are most of the time.
const PAUSE: Duration = Duration::from_millis(5);

pub async fn propagation(_options: &Options, place: &Place, table: &mut Table) {
    let one = place.registry("replicas", 100, 10).await;
    let other = Program::rollcall(&place.url("replicas"), &place.folder("other"), &[]).await;
    let (mut writes, mut reads) =
        (Wire::connect(one.address).await.unwrap(), Wire::connect(other.address).await.unwrap());
    let mut times = Vec::new();
    for number in 0..WRITES {
        let mut request = Vec::new();
        let body = bodies::registration(number as u64 % 100, 5000 + number as u64);
        bodies::post("/api/v1/services/register", &body, &mut request);
        assert_eq!(writes.ask(&request).await.unwrap(), 201);
        let acknowledged = Instant::now();
        let answer: Value = serde_json::from_slice(writes.body()).unwrap();
        let id = answer["service_id"].as_str().or(answer["id"].as_str()).unwrap().to_owned();
        request.clear();
        bodies::get(&format!("/discover/service-{:06}", number % 100), &mut request);
        loop {
            assert_eq!(reads.ask(&request).await.unwrap(), 200);
            if reads.text().contains(&id) {
                break;
            }
            assert!(acknowledged.elapsed() < Duration::from_secs(10), "the other replica does not follow");
        }
        times.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    let details = format!("{WRITES} writes, max {:.2} ms", quantile(&times, 1.0));
    table.figure(
        "a write seen at the other replica, ms: p50",
        quantile(&times, 0.5),
        Goal::AtMost(2.0),
        details,
    );
    table.figure("the same: p99", quantile(&times, 0.99), Goal::AtMost(25.0), String::new());
}
