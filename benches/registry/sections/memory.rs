//! What a hundred thousand instances cost in memory, and how soon a server that starts has them.

use crate::{
    bodies,
    load::{self, Amount},
    options::Options,
    place::Place,
    program::Program,
    table::{Goal, Table},
};

const SERVICES: u64 = 10_000;
const INSTANCES: u64 = 100_000;

pub async fn memory(options: &Options, place: &Place, table: &mut Table) {
    place.registry("crowd", SERVICES, INSTANCES / SERVICES).await.stop().await;
    let none = place.registry("nobody", 0, 0).await;
    let url = place.url("crowd");
    let (mut starts, mut loaded, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let registry = Program::rollcall(&url, &place.folder("crowd"), &[]).await;
        starts.push(registry.ready_after.as_secs_f64());
        let an_instance = |memory: f64| (memory - none.memory()) / INSTANCES as f64 / 1024.0;
        loaded.push(an_instance(registry.memory()));
        // now every answer has been asked for, and is kept
        let requests = |number: u64, into: &mut Vec<u8>| {
            bodies::get(&format!("/discover/service-{number:06}"), into);
        };
        let address = registry.address;
        tokio::task::block_in_place(|| {
            load::run(address, 8, Amount::Count(SERVICES), 0, &requests).flawless()
        });
        asked.push(an_instance(registry.memory()));
        registry.stop().await;
    }
    table.rounds(
        "from its start until it is ready with 100,000 instances, s",
        &starts,
        Goal::AtMost(2.0),
        String::new(),
    );
    table.rounds("memory an instance at 100,000, KB", &loaded, Goal::AtMost(1.5), String::new());
    let what = "the same, and every service has been asked for, KB";
    table.rounds(what, &asked, Goal::AtMost(1.5), "with the answers that are kept".to_owned());
}
