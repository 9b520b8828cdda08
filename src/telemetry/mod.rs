//! What rollcall tells about itself: log lines and metrics.
//!
//! Invariant: nothing a client sends can forge a log line, steer a terminal or grow the number of series.

mod chain;
mod families;
mod histogram;
mod labels;
mod logging;
mod metrics;
mod told;

pub use self::{
    chain::{chain, chain_with},
    families::{Class, CommandOutcome, Full, Overdue, PollResult, Refused},
    histogram::Durations,
    labels::ServiceLabels,
    logging::{LoggingError, init_logging},
    metrics::{CONTENT_TYPE, Metrics},
    told::Told,
};
