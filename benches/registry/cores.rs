//! Who computes where: a core for those who are measured, and one for those who ask.

use std::{fs, path::Path};

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::program;

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

    /// What the database has computed so far, in seconds.
    pub fn database_cpu(&self) -> f64 {
        self.of_database().map(program::cpu_of).sum()
    }

    /// The database's server, and with it all connections that it will have.
    fn move_database(&self, to: &CpuSet) {
        for process in self.of_database() {
            // it may have ended since
            let _ = sched_setaffinity(Some(process), to);
        }
    }

    /// The database's server and all its processes.
    fn of_database(&self) -> impl Iterator<Item = Pid> {
        let postmaster = self.postmaster;
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?));
        pids.filter(move |pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
            *pid == postmaster || parent.and_then(Pid::from_raw) == Some(postmaster)
        })
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        self.move_database(&self.before);
        let _ = sched_setaffinity(None, &self.before);
    }
}
