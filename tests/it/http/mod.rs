//! HTTP as those speak it who cannot, or who mean harm: raw bytes to the real server, and what it makes of them.

mod bodies;
mod cases;
mod foreign;
mod framing;
mod heads;
mod limits;
mod plain;
mod slow;
