//! What rollcall tells about itself: log lines and metrics.
//!
//! Invariant: nothing a client sends can forge a log line, steer a terminal or grow the number of series.

mod chain;
mod families;
mod histogram;
mod kinds;
mod labels;
mod logging;
mod metrics;
mod told;

pub use self::{
    chain::{chain, chain_with},
    histogram::Durations,
    kinds::{Class, CommandOutcome, Full, Guard, NotLetIn, Overdue, PollResult, Refused},
    labels::ServiceLabels,
    logging::{LoggingError, init_logging},
    metrics::{CONTENT_TYPE, Clock, Metrics},
    told::Told,
};
