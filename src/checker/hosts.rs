//! How many checks of one host are under way: a host with a thousand instances is not asked by a thousand at once.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use smol_str::SmolStr;

use super::schedule::Due;

/// So many of one host at once; the others wait for their turn.
const OF_ONE_HOST: usize = 64;

#[derive(Default)]
pub(super) struct Hosts(HashMap<SmolStr, Host, RandomState>);

#[derive(Default)]
struct Host {
    under_way: usize,
    waiting: VecDeque<Due>,
}

impl Hosts {
    /// Gives the check back if it may begin; else it waits here.
    pub fn enter(&mut self, due: Due) -> Option<Due> {
        let host = self.0.entry(due.host.clone()).or_default();
        if host.under_way >= OF_ONE_HOST {
            host.waiting.push_back(due);
            return None;
        }
        host.under_way += 1;
        Some(due)
    }

    /// A check of the host has ended: gives the one whose turn it is.
    pub fn leave(&mut self, name: &SmolStr) -> Option<Due> {
        let host = self.0.get_mut(name)?;
        if let Some(next) = host.waiting.pop_front() {
            return Some(next);
        }
        host.under_way -= 1;
        if host.under_way == 0 {
            self.0.remove(name);
        }
        None
    }
}
