//! What is measured, a section a file or two.

mod checks;
mod heartbeats;
mod memory;
mod overload;
mod peers;
mod propagation;
mod publish;
mod reads;
mod slow;
mod tls;
mod writes;

pub use checks::checks;
pub use heartbeats::heartbeats;
pub use memory::memory;
pub use overload::overload;
pub use peers::peers;
pub use propagation::propagation;
pub use publish::publish;
pub use reads::{discovery, flatness, guarded};
pub use slow::slow;
pub use tls::tls;
pub use writes::{bulk, registrations};
