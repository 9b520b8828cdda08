//! The rules of the registry, pure: state, a command and the time go in; events or a refusal come out.
//!
//! Nothing here reads a clock, opens a socket or knows SQL or HTTP, so the same code builds the state on the
//! writer, on every follower and at start, and every rule can be tested as a table.

pub mod alert;
pub mod check;
pub mod config_entry;
pub mod duration;
pub mod event;
pub mod expect;
pub mod fault;
pub mod health;
pub mod history;
pub mod ids;
pub mod instance;
pub mod metadata;
pub mod overriding;
pub mod ownership;
pub mod policy;
pub mod registry;
pub mod removal;
pub mod target;
pub mod token;

pub use alert::{Alert, AlertLevel};
pub use check::{Check, CheckId};
pub use config_entry::{ConfigEntry, ConfigKey, Content};
pub use event::{Change, Event};
pub use fault::{Fault, Violation};
pub use health::{Cause, CheckState, Health, Seen, Status};
pub use history::{Beginning, History, Period};
pub use ids::{Environment, Host, InstanceId, Key, Revision, ServiceName, Version};
pub use instance::{Checks, Instance, Judged, ServiceType, Spec};
pub use metadata::Metadata;
pub use overriding::{Override, Overriding};
pub use policy::{Access, Action, Policies, Resource, Rights, Rule};
pub use registry::{Command, Precondition, Refusal, Row, RowKey, State, decide, evolve};
pub use removal::{AtStake, Expire, Hearing, Overdue};
pub use token::{Digest, Token, TokenId, TokenName};
