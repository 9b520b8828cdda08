//! First Viscount's contract: its clients must work with nothing changed but the host.

mod audit;
mod discovery;
mod health;
mod listing;
mod platform;
mod poll;
mod registration;
mod validation;
