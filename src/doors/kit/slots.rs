//! Where the view keeps the ready answers of each door. A new door takes the next number.

use crate::app::Slot;

pub const NATIVE_HEALTHY: Slot = Slot::new(0);
