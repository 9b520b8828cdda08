//! How each kind of fault is done and undone.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    AGREED, Nemesis, REPLICA_READY,
    schedule::{Fault, Kind},
    strangers::{Crowding, RowHolder, terminate_backends},
};
use crate::{
    cluster::End,
    proxy::{Mode, Way},
};

const BACK_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(31);
const SILENT_AGREED: &str = "packets lost → all replicas agree";

impl Nemesis<'_> {
    pub(super) async fn inject(&mut self, fault: &Fault) -> Result<(), String> {
        match fault.kind {
            Kind::KillDatabase => {
                let how = if fault.dice.is_multiple_of(2) { End::KillFirst } else { End::KillAll };
                self.end_database(how, fault).await
            }
            Kind::CrashDatabase => self.end_database(End::Immediate, fault).await,
            Kind::RestartDatabase => self.end_database(End::Fast, fault).await,
            Kind::FreezeDatabase => {
                self.cluster.database.freeze().await;
                sleep(fault.lasts).await;
                self.cluster.database.thaw().await;
                self.database_is_back(Instant::now()).await
            }
            Kind::FillDisk => self.fill_disk(fault).await,
            Kind::Delay => {
                let mode = Mode::Delay(Duration::from_millis(5 + fault.dice % 120));
                self.partition(mode, fault, AGREED).await
            }
            Kind::Slow => self.partition(Mode::Slow(20_000 + fault.dice % 200_000), fault, AGREED).await,
            Kind::Hold => self.partition(Mode::Hold, fault, AGREED).await,
            Kind::BlackHole => self.partition(Mode::BlackHole, fault, SILENT_AGREED).await,
            Kind::HalfOpen => {
                let way = if fault.dice.is_multiple_of(2) { Way::ToDatabase } else { Way::FromDatabase };
                self.partition(Mode::HalfOpen(way), fault, SILENT_AGREED).await
            }
            Kind::WithholdSync => self.partition(Mode::WithholdSync, fault, AGREED).await,
            Kind::Refuse => {
                self.set(fault, Mode::Refuse);
                self.cut(fault);
                sleep(fault.lasts).await;
                self.set(fault, Mode::Pass);
                self.all_agree(AGREED).await
            }
            Kind::Cut => {
                for _ in 0..=fault.dice % 4 {
                    self.cut(fault);
                    sleep(fault.lasts / 4).await;
                }
                self.all_write_again().await
            }
            Kind::SilenceConnections => {
                for proxy in self.cluster.proxies_of(fault.replica) {
                    proxy.deafen_all();
                }
                self.all_agree(SILENT_AGREED).await
            }
            Kind::TerminateBackends => {
                terminate_backends(&self.cluster.database).await?;
                self.all_write_again().await
            }
            Kind::ExhaustConnections => {
                let crowding = Crowding::begin(&self.cluster.database).await?;
                self.cut(fault);
                sleep(fault.lasts).await;
                crowding.end().await;
                self.all_write_again().await
            }
            Kind::HoldRows => self.hold_rows(fault).await,
            Kind::KillReplica | Kind::FreezeReplica | Kind::RestartReplica => {
                let first = fault.replica.unwrap_or(0);
                let count = if fault.replica.is_none() { self.cluster.replicas.len() } else { 1 };
                self.strike_replicas(fault, first..first + count).await
            }
        }
    }

    fn set(&self, fault: &Fault, mode: Mode) {
        for proxy in self.cluster.proxies_of(fault.replica) {
            proxy.set(mode);
        }
    }

    fn cut(&self, fault: &Fault) {
        for proxy in self.cluster.proxies_of(fault.replica) {
            proxy.cut();
        }
    }

    async fn end_database(&mut self, how: End, fault: &Fault) -> Result<(), String> {
        self.cluster.database.end(how).await?;
        if fault.dice.is_multiple_of(3) {
            // misfortunes come together: a replica has to start without its database
            self.report.fault("kill -9 of a replica while the database is away");
            let number = fault.replica.unwrap_or(0);
            self.cluster.replicas[number].kill();
            self.cluster.replicas[number].start();
        }
        sleep(fault.lasts).await;
        self.cluster.database.start().await?;
        self.database_answers().await
    }

    async fn database_answers(&mut self) -> Result<(), String> {
        let back = self.cluster.database.accepting(BACK_WITHIN).await;
        self.database_is_back(back.ok_or("the database does not come back")?).await
    }

    async fn fill_disk(&mut self, fault: &Fault) -> Result<(), String> {
        let disk = self.cluster.disk.as_ref().ok_or("there is no small disk")?;
        disk.fill()?;
        // a table may have some room left
        sleep(fault.lasts.max(Duration::from_millis(300))).await;
        disk.release();
        // its write-ahead log may have had no room: then it gets over that by itself, or has ended, and whoever minds it
        // starts it again
        while self.cluster.database.accepting(Duration::from_millis(300)).await.is_none() {
            if !self.cluster.database.runs().await {
                self.cluster.database.start().await?;
            }
        }
        self.database_answers().await
    }

    async fn partition(&mut self, mode: Mode, fault: &Fault, recovered: &'static str) -> Result<(), String> {
        self.set(fault, mode);
        sleep(fault.lasts).await;
        self.set(fault, Mode::Pass);
        self.all_agree(recovered).await
    }

    /// A session that holds some rows and does nothing delays those rows, and nobody else.
    async fn hold_rows(&mut self, fault: &Fault) -> Result<(), String> {
        let holder = RowHolder::begin(&self.cluster.database).await?;
        let begun = Instant::now();
        let (_, last) = self.all_write().await?;
        self.report.recovered("rows held by a stranger → every replica has written others", last - begun);
        sleep(fault.lasts).await;
        holder.end().await?;
        self.all_write_again().await
    }

    async fn strike_replicas(&mut self, fault: &Fault, which: std::ops::Range<usize>) -> Result<(), String> {
        for number in which.clone() {
            let replica = &mut self.cluster.replicas[number];
            match fault.kind {
                Kind::KillReplica => replica.kill(),
                Kind::RestartReplica => replica.stop(STOP_WITHIN).await?,
                _ => replica.signal(Signal::STOP),
            }
        }
        if fault.kind == Kind::FreezeReplica {
            sleep(fault.lasts).await;
            for number in which {
                self.cluster.replicas[number].signal(Signal::CONT);
            }
            return self.all_agree("replica thawed → all replicas agree").await;
        }
        let started = Instant::now();
        for number in which.clone() {
            self.cluster.replicas[number].start();
        }
        for number in which {
            let ready = self.cluster.replicas[number].ready(BACK_WITHIN).await;
            let ready = ready.ok_or_else(|| format!("replica {number} is not ready again"))?;
            self.report.recovered(REPLICA_READY, ready - started);
        }
        self.all_write_again().await
    }
}
