//! What is measured, a section a file or two.

mod memory;
mod overload;
mod peers;
mod propagation;
mod publish;
mod reads;
mod slow;
mod tls;
mod writes;

pub use memory::memory;
pub use overload::overload;
pub use peers::peers;
pub use propagation::propagation;
pub use publish::publish;
pub use reads::{discovery, flatness, guarded};
pub use slow::slow;
pub use tls::tls;
pub use writes::{bulk, registrations};
