//! Other registries, as far as they are installed: the same questions, by the protocol that their clients speak.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    bodies,
    options::Options,
    place::Place,
    program::{Program, free_address},
    rounds::{self, Contestant},
    table::{Goal, Table},
};

const KEYS: u64 = 1000;

pub async fn peers(options: &Options, place: &Place, table: &mut Table) {
    if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("etcd is not installed (Debian: apt-get install etcd-server): it is not measured");
        return;
    }
    let registry = place.registry("peers", KEYS, 1).await;
    let etcd = etcd(&place.folder("etcd")).await;
    beside_etcd(options, &registry, &etcd, table);
}

/// By its JSON gateway, which costs it more than gRPC does its own clients.
fn beside_etcd(options: &Options, registry: &Program, etcd: &Program, table: &mut Table) {
    let write = |number: u64, into: &mut Vec<u8>| {
        let body = bodies::registration(number % KEYS, number);
        bodies::post("/api/v1/services/register", &body, into);
    };
    let put = |number: u64, into: &mut Vec<u8>| {
        let value = base64(bodies::registration(number % KEYS, number).as_bytes());
        let body = json!({ "key": base64(format!("{}/{number}", number % KEYS).as_bytes()), "value": value });
        bodies::post("/v3/kv/put", &body.to_string(), into);
    };
    let contestants =
        [Contestant { program: registry, requests: &write }, Contestant { program: etcd, requests: &put }];
    let [own, other] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
    let rates = rounds::ratios(&own, &other, |turn| turn.rate);
    table.rounds(
        "registrations ÷ etcd's puts (JSON gateway)",
        &rates,
        Goal::None,
        rounds::told(&own, &other),
    );

    let read = |number: u64, into: &mut Vec<u8>| {
        bodies::get(&format!("/discover/service-{:06}", bodies::spread(number, KEYS)), into);
    };
    for (what, serializable) in [("linearizable", false), ("serializable", true)] {
        let range = |number: u64, into: &mut Vec<u8>| {
            let number = bodies::spread(number, KEYS);
            let key = base64(format!("{number}/{number}").as_bytes());
            let body = json!({ "key": key, "serializable": serializable });
            bodies::post("/v3/kv/range", &body.to_string(), into);
        };
        let contestants = [
            Contestant { program: registry, requests: &read },
            Contestant { program: etcd, requests: &range },
        ];
        let [own, other] = tokio::task::block_in_place(|| rounds::play(options.rounds, &contestants));
        let rates = rounds::ratios(&own, &other, |turn| turn.rate);
        let what = format!("discovery ÷ etcd's {what} reads (JSON gateway)");
        table.rounds(&what, &rates, Goal::None, rounds::told(&own, &other));
    }
}

async fn etcd(folder: &Path) -> Program {
    let (clients, peers) = (free_address(), free_address());
    let (clients_url, peers_url) = (format!("http://{clients}"), format!("http://{peers}"));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder).args(["--log-level", "error", "--name", "bench"]);
    command.args(["--listen-client-urls", &clients_url, "--advertise-client-urls", &clients_url]);
    command.args(["--listen-peer-urls", &peers_url, "--initial-advertise-peer-urls", &peers_url]);
    command.args(["--initial-cluster", &format!("bench={peers_url}")]);
    Program::start(command, clients, "/health").await
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= part.len() { digit } else { '=' });
        }
    }
    text
}
