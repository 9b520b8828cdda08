//! Who computes where: a core for those who are measured, and one for those who ask.

use std::{fs, path::Path};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Two cores of this machine; what it had before comes back when it is dropped.
pub struct Cores {
    before: CpuSet,
    measured: CpuSet,
    asking: CpuSet,
    postmaster: Pid,
}

impl Cores {
    /// `data` is where the database is.
    pub fn share(data: &Path) -> Self {
        let before = sched_getaffinity(None).unwrap();
        let mut known = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let mut one = || {
            let mut set = CpuSet::new();
            set.set(known.next().expect("two cores are needed"));
            set
        };
        let file = fs::read_to_string(data.join("postgres/postmaster.pid")).unwrap();
        let postmaster = Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap();
        let cores = Self { before, measured: one(), asking: one(), postmaster };
        cores.move_database(&cores.measured);
        cores
    }

    /// Has this thread, and so the programs that it starts, run beside the database.
    pub fn measured(&self) {
        sched_setaffinity(None, &self.measured).unwrap();
    }

    /// Has this thread run where it disturbs nobody who is measured.
    pub fn asking(&self) {
        sched_setaffinity(None, &self.asking).unwrap();
    }

    /// The database's server, and with it all connections that it will have.
    fn move_database(&self, to: &CpuSet) {
        let parent = self.postmaster.as_raw_nonzero().to_string();
        sched_setaffinity(Some(self.postmaster), to).unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        for pid in processes.filter_map(|process| process.file_name().to_str()?.parse().ok()) {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)) == Some(&parent) {
                // it may have ended since
                let _ = sched_setaffinity(Pid::from_raw(pid), to);
            }
        }
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.move_database(&self.before);
        let _ = sched_setaffinity(None, &self.before);
    }
}
