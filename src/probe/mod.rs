//! Asks targets how they are. One probe a file: it gets a target and gives an observation; what follows from it is
//! decided elsewhere.

pub mod http;
