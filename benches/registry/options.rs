//! What was asked for on the command line.

pub const HELP: &str = "\
cargo bench --bench registry [-- OPTIONS]
  --rounds N    measured rounds of each comparison (11)
  --only A,B    some sections: publish, discovery, guarded, tls, flatness, registrations, bulk, memory,
                propagation, slow, checks, heartbeats, overload (need two cores), and peers, which is not among them unless it is asked
                for (make bench-peers)";

pub const SECTIONS: [&str; 14] = [
    "publish",
    "discovery",
    "guarded",
    "tls",
    "flatness",
    "registrations",
    "bulk",
    "memory",
    "propagation",
    "slow",
    "checks",
    "heartbeats",
    "overload",
    PEERS,
];
/// Needs what is not installed everywhere.
const PEERS: &str = "peers";

pub struct Options {
    pub rounds: usize,
    only: Vec<String>,
}

impl Options {
    pub fn wants(&self, section: &str) -> bool {
        if self.only.is_empty() { section != PEERS } else { self.only.iter().any(|name| name == section) }
    }
}

pub enum Asked {
    Measure(Options),
    /// This program again, as one of the servers that are measured beside the registry.
    Yardstick(Vec<String>),
    Help,
    /// `cargo test` and the like run every program once, to see that it runs.
    Nothing,
}

pub fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options { rounds: 11, only: Vec::new() };
    let mut arguments = arguments;
    let mut is_bench = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--yardstick" => return Ok(Asked::Yardstick(arguments.collect())),
            "--help" | "-h" => return Ok(Asked::Help),
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                options.rounds = rounds.ok_or("--rounds needs a number from 1 on")?;
            }
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            other => return Err(format!("{other} is not known")),
        }
    }
    if let Some(unknown) = options.only.iter().find(|name| !SECTIONS.contains(&name.as_str())) {
        return Err(format!("there is no section {unknown}"));
    }
    Ok(if is_bench { Asked::Measure(options) } else { Asked::Nothing })
}
