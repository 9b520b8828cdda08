//! What the run is told on its command line.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of the short form, so that a failure of the build server is the developer's too.
const DEFAULT_SEED: u64 = 20_261_121;

pub const USAGE: &str = "\
cargo test --test chaos [-- OPTIONS]
  --long            the long form (make chaos): until --writes and --faults are both reached
  --writes N        acknowledged writes of the long form (500000)
  --faults N        injected faults of the long form (200)
  --promotions N    promotions of a standby (long: 20, short: 2)
  --freezes N       freezes of a replica (long: 20, short: 1)
  --only NAME       one scenario
  --kinds A,B       only these kinds of faults in the mix
  --clients N       clients at once
  --seed N|random   the seed of all decisions
  --binary PATH     another build of the server
  --keep            keep the logs of the replicas, as after a failure
  --seeded          build the product with each known bug, and see that it is caught (make chaos-seeded)
  --bug NAME        with --seeded: that one only
  --applicable      with --seeded: only see whether each bug can still be put into the sources";

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    pub long: bool,
    pub writes: usize,
    pub faults: usize,
    pub promotions: usize,
    pub freezes: usize,
    pub only: Option<String>,
    pub kinds: Option<Vec<String>>,
    pub clients: usize,
    pub seed: u64,
    pub binary: Option<String>,
    pub keep: bool,
    pub seeded: bool,
    pub bug: Option<String>,
    pub applicable: bool,
}

/// What the command line asks for.
pub enum Asked {
    Run(Box<Options>),
    /// A filter names another test: there is nothing to do.
    Nothing,
    List,
    Help,
}

pub fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options {
        long: false,
        writes: 0,
        faults: 0,
        promotions: 0,
        freezes: 0,
        only: None,
        kinds: None,
        clients: 0,
        seed: DEFAULT_SEED,
        binary: None,
        keep: false,
        seeded: false,
        bug: None,
        applicable: false,
    };
    let mut arguments = arguments;
    let mut filters = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse::<usize>().map_err(|_| format!("{text} is not a number"));
        match argument.as_str() {
            "--long" => options.long = true,
            "--writes" => options.writes = number(value()?)?,
            "--faults" => options.faults = number(value()?)?,
            "--promotions" => options.promotions = number(value()?)?,
            "--freezes" => options.freezes = number(value()?)?,
            "--clients" => options.clients = number(value()?)?,
            "--only" => options.only = Some(value()?),
            "--kinds" => options.kinds = Some(value()?.split(',').map(str::to_owned).collect()),
            "--seed" => options.seed = seed(&value()?)?,
            "--binary" => options.binary = Some(value()?),
            "--keep" => options.keep = true,
            "--seeded" => options.seeded = true,
            "--bug" => options.bug = Some(value()?),
            "--applicable" => (options.seeded, options.applicable) = (true, true),
            "--help" | "-h" => return Ok(Asked::Help),
            "--list" => return Ok(Asked::List),
            // what `cargo test` hands to every harness
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--ignored"
            | "--include-ignored" | "--show-output" => {}
            "--test-threads" | "--format" | "--color" | "--skip" | "-Z" => drop(value()?),
            other if other.starts_with("--test-threads=") || other.starts_with("--format=") => {}
            other if other.starts_with('-') => return Err(format!("{other} is not known\n{USAGE}")),
            filter => filters.push(filter.to_owned()),
        }
    }
    if !filters.is_empty() && !filters.iter().any(|filter| "chaos".contains(filter.as_str())) {
        return Ok(Asked::Nothing);
    }
    options.fill();
    Ok(Asked::Run(Box::new(options)))
}

impl Options {
    /// What was not given follows from the form of the run.
    fn fill(&mut self) {
        let long = self.long;
        let or = |given: usize, in_long: usize, in_short: usize| match given {
            0 if long => in_long,
            0 => in_short,
            given => given,
        };
        self.writes = or(self.writes, 500_000, 0);
        self.faults = or(self.faults, 200, 0);
        self.promotions = or(self.promotions, 20, 2);
        self.freezes = or(self.freezes, 20, 1);
        self.clients = or(self.clients, 40, 12);
    }

    pub fn runs(&self, scenario: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == scenario)
    }
}

fn seed(text: &str) -> Result<u64, String> {
    if text == "random" {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        return Ok(u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20));
    }
    text.parse().map_err(|_| format!("{text} is not a seed"))
}
