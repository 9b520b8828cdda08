//! Thousands of connections that hardly move, beside normal requests.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bodies,
    load::{self, Amount, Done},
    options::Options,
    place::Place,
    program::Program,
    table::{Goal, Table, median, quantile},
};

const SLOW: usize = 5000;
const CONNECTIONS: usize = 16;
/// Long enough that it does not matter which threads happen to share a core for a while.
const TURN: Duration = Duration::from_secs(2);
const A_BYTE_EVERY: Duration = Duration::from_secs(3);
/// How long memory may take to be given back. The allocator does so while others ask for some.
const REST: Duration = Duration::from_secs(3);

pub async fn slow(options: &Options, place: &Place, table: &mut Table) {
    let registry = place.registry("slow", 1000, 10).await;
    let (mut medians, mut tails, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    normal(&registry);
    let before = registry.memory();
    let mut highest = before;
    for round in 0..=options.rounds {
        let earlier = normal(&registry);
        let crowd = Crowd::gather(registry.address).await;
        let beside = normal(&registry);
        highest = f64::max(highest, registry.memory());
        crowd.leave().await;
        let later = normal(&registry);
        if round > 0 {
            // what the machine does besides comes and goes: it is compared with what was before and after
            let [own, first, last] =
                [&beside, &earlier, &later].map(|done| [0.5, 0.99].map(|of| quantile(&done.latencies, of)));
            let alone = [0, 1].map(|which| f64::midpoint(first[which], last[which]));
            medians.push(own[0] / alone[0]);
            tails.push(own[1] / alone[1]);
            with.push(own[0]);
            without.push(alone[0]);
        }
    }
    tokio::time::sleep(REST).await;
    normal(&registry);
    let after = registry.memory();
    let details = format!("{:.0} µs | without them {:.0} µs", median(&with), median(&without));
    table.rounds(
        "beside 5,000 slow connections: median of normal requests",
        &medians,
        Goal::AtMost(1.2),
        details,
    );
    table.rounds("the same: their p99", &tails, Goal::AtMost(2.0), String::new());
    let megabytes = |bytes: f64| bytes / 1024.0 / 1024.0;
    let details = format!("{:.0} MB before, {:.0} with them", megabytes(before), megabytes(highest));
    table.figure("memory afterwards ÷ before", after / before, Goal::AtMost(1.25), details);
}

fn normal(registry: &Program) -> Done {
    let requests = |number: u64, into: &mut Vec<u8>| {
        let service = bodies::spread(number, 1000);
        bodies::get(&format!("/discover/service-{service:06}"), into);
    };
    let amount = Amount::For(TURN);
    tokio::task::block_in_place(|| load::run(registry.address, CONNECTIONS, amount, 0, &requests).flawless())
}

/// Half of them send a head, the others a body, a byte now and then.
struct Crowd {
    tasks: TaskTracker,
    leave: CancellationToken,
}

impl Crowd {
    async fn gather(address: SocketAddr) -> Self {
        let crowd = Self { tasks: TaskTracker::new(), leave: CancellationToken::new() };
        for number in 0..SLOW {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let begun: &[u8] = if number % 2 == 0 {
                b"GET /discover/service-000001 HTTP/1.1\r\nHost: registry\r\nX-Slow: "
            } else {
                b"POST /api/v1/services/register HTTP/1.1\r\nHost: registry\r\nContent-Type: application/json\r\n\
                  Content-Length: 100000\r\n\r\n{"
            };
            stream.write_all(begun).await.unwrap();
            let leave = crowd.leave.clone();
            let mut first = A_BYTE_EVERY.mul_f64(number as f64 / SLOW as f64);
            crowd.tasks.spawn(async move {
                loop {
                    tokio::select! {
                        () = leave.cancelled() => return,
                        () = tokio::time::sleep(first) => {}
                    }
                    first = A_BYTE_EVERY;
                    // the server may have had enough
                    if stream.write_all(b" ").await.is_err() {
                        return;
                    }
                }
            });
        }
        crowd
    }

    async fn leave(self) {
        self.leave.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
