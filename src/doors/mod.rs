//! The protocols that rollcall speaks: a folder each.
//!
//! A door parses, calls `app` and answers in its protocol's words; nothing else fits in here. Doors know nothing
//! of each other, and what they share is in `kit`.

pub mod kit;
pub mod native;
