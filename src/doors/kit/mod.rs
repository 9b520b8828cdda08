//! What doors share: how a request is read, how conditions are understood, how an error is told.
//!
//! Nothing here knows a route or a shape of any protocol.

pub mod admission;
pub mod body;
pub mod caller;
pub mod conditions;
pub mod cors;
pub mod envelope;
pub mod fields;
pub mod gate;
pub mod host;
pub mod params;
pub mod peer;
pub mod problem;
pub mod rates;
pub mod request_id;
pub mod security;
pub mod slash;
pub mod slots;
pub mod time;
pub mod values;

pub use admission::Admission;
pub use body::{JSON, MERGE_PATCH, Sent};
pub use caller::CallerOf;
pub use conditions::{IfNoneMatch, Preconditions, entity_tag};
pub use envelope::Envelope;
pub use fields::Fields;
pub use gate::{Gate, Policies, Policy, Who};
pub use host::is_in_a_host;
pub use params::Params;
pub use peer::Peer;
pub use problem::Problem;
