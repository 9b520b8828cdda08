//! Use cases of service instances.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{App, AppError, Caller, Consistency, Snapshot, Written, permit, reads::LANE_PATIENCE};
use crate::{
    domain::{
        Action, Cause, Command, Instance, InstanceId, Precondition, Refusal, Resource, Row, ServiceName,
        State, Status,
        registry::{RegisterInstance, ReportHealth, UpdateInstance},
    },
    liveness::Known,
    log::Outcome,
    store::{Patience, StoreError, idempotency},
};

/// How often the poll of a service that gave no interval comes.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// An instance with what is known of it outside the log.
#[derive(Clone, Debug)]
pub struct Shown {
    pub instance: Arc<Instance>,
    pub known: Known,
}

impl Shown {
    /// Failures in a row, those included that changed nothing any more.
    pub fn failures(&self) -> i64 {
        let health = self.instance.health;
        let beyond = if self.known.changes == health.changes { self.known.failures } else { 0 };
        i64::from(health.failures) + beyond
    }

    pub fn last_seen(&self) -> DateTime<Utc> {
        self.known.last_seen.unwrap_or(self.instance.registered_at).max(self.instance.registered_at)
    }
}

/// The health of one instance, check by check.
#[derive(Clone, Debug)]
pub struct Health {
    pub shown: Shown,
    pub checks: Vec<CheckDetail>,
}

#[derive(Clone, Debug)]
pub struct CheckDetail {
    pub id: &'static str,
    pub kind: &'static str,
    pub target: String,
    pub status: Status,
    pub output: Option<Arc<str>>,
    pub latency_ms: Option<f32>,
    pub failures: i64,
    pub last_run_at: Option<DateTime<Utc>>,
    pub next_run_at: Option<DateTime<Utc>>,
}

impl App {
    pub fn new_instance_id(&self) -> InstanceId {
        InstanceId(Uuid::now_v7())
    }

    /// Registers an instance, or takes what is new where it is registered. Either way it is a sign of life.
    pub async fn register(
        &self,
        caller: &Caller,
        command: RegisterInstance,
        load: Option<f32>,
    ) -> Result<Written<Shown>, AppError> {
        permit(&caller.rights, Resource::Service, Action::Write, command.service.as_str())?;
        let outcome = self.0.log.write(caller.clone(), Command::RegisterInstance(command)).await?;
        self.registered(outcome, load)
    }

    /// The same for many: each by itself, and together as quick as one.
    pub async fn register_all(
        &self,
        caller: &Caller,
        commands: Vec<(usize, RegisterInstance, Option<f32>)>,
    ) -> Vec<(usize, Result<Written<Shown>, AppError>)> {
        let mut results = Vec::with_capacity(commands.len());
        let (mut sent, mut orders) = (Vec::new(), Vec::new());
        for (index, command, load) in commands {
            match permit(&caller.rights, Resource::Service, Action::Write, command.service.as_str()) {
                Ok(()) => {
                    sent.push((index, load));
                    orders.push((caller.of_item(index), Command::RegisterInstance(command)));
                }
                Err(error) => results.push((index, Err(error))),
            }
        }
        let outcomes = self.0.log.write_all(orders).await;
        results.extend(sent.into_iter().zip(outcomes).map(|((index, load), outcome)| {
            (index, outcome.map_err(AppError::from).and_then(|outcome| self.registered(outcome, load)))
        }));
        results
    }

    fn registered(&self, outcome: Outcome, load: Option<f32>) -> Result<Written<Shown>, AppError> {
        let is_new = outcome.created;
        let written = self.seen_row(outcome, load)?;
        let instance = &written.value.instance;
        self.0.metrics.registered(instance.service.as_str());
        if written.changed {
            tracing::info!(
                service_name = instance.service.as_str(),
                service_id = %instance.id,
                address = instance.spec.host.as_str(),
                port = instance.spec.port,
                event_type = if is_new { "registration" } else { "update" },
                "Service registered"
            );
        }
        Ok(written)
    }

    pub async fn update(
        &self,
        caller: &Caller,
        command: UpdateInstance,
        load: Option<f32>,
    ) -> Result<Written<Shown>, AppError> {
        let outcome = self.0.log.write(caller.clone(), Command::UpdateInstance(command)).await?;
        self.seen_row(outcome, load)
    }

    /// What a request with an idempotency key came to when it was carried out before. A door asks where it would
    /// refuse the repetition for what the request itself has changed.
    pub async fn repeated(&self, caller: &Caller) -> Result<Option<Written<Shown>>, AppError> {
        let Some(own) = &caller.idempotency else { return Ok(None) };
        let kept = match self.kept(&own.key, Patience::USED).await {
            // the connection had ended while nobody used it
            Err(StoreError::Broken(_) | StoreError::Timeout(_)) => {
                self.0.lanes.forget_idle();
                self.kept(&own.key, Patience::FRESH).await?
            }
            result => result?,
        };
        let Some(kept) = kept else { return Ok(None) };
        self.seen_row(own.recall(kept.as_ref())?, None).map(Some)
    }

    async fn kept(
        &self,
        key: &str,
        patience: Patience,
    ) -> Result<Option<Result<idempotency::Kept, StoreError>>, StoreError> {
        let mut lane = self.0.lanes.take(LANE_PATIENCE).await?;
        let mut kept = idempotency::find(&mut lane.connection, &[key], patience).await?;
        lane.give_back();
        Ok(kept.remove(key))
    }

    pub async fn unregister(
        &self,
        caller: &Caller,
        id: InstanceId,
        precondition: Precondition,
    ) -> Result<Written<()>, AppError> {
        let command = Command::UnregisterInstance { id, precondition };
        let outcome = self.0.log.write(caller.clone(), command).await?;
        if let Some(event) = &outcome.event {
            tracing::info!(
                service_name = event.change.service().map(ServiceName::as_str),
                service_id = %id,
                event_type = "deregistration",
                "Service unregistered"
            );
        }
        Ok(Written { revision: outcome.revision, changed: outcome.event.is_some(), value: () })
    }

    /// What somebody says of an instance's health. It counts as a result of the instance's own check.
    pub async fn report_health(
        &self,
        caller: &Caller,
        id: InstanceId,
        healthy: bool,
        output: Option<Arc<str>>,
    ) -> Result<Written<Shown>, AppError> {
        let report = ReportHealth { id, healthy, cause: Cause::Report, output: output.clone(), judged: None };
        let at = self.now();
        let outcome = self.0.log.write(caller.clone(), Command::ReportHealth(report)).await?;
        if !outcome.recalled {
            self.0.liveness.checked(id, at, None, output.as_deref());
            self.count_repeated_failure(&outcome, id, healthy);
        }
        self.seen_row(outcome, None)
    }

    /// The result of asking an instance. `judged` is the URL that was asked.
    pub async fn checked(&self, id: InstanceId, judged: &str, result: CheckResult) -> Result<(), AppError> {
        let CheckResult { healthy, latency, output } = result;
        let latency_ms = latency.as_secs_f32() * 1000.0;
        let Some(instance) = State::instance(&*self.snapshot()?, id) else { return Ok(()) };
        if instance.spec.poll_url().as_deref() != Some(judged) {
            return Ok(());
        }
        self.0.metrics.checked(instance.service.as_str(), latency.as_secs_f64());
        let at = self.now();
        self.0.liveness.checked(id, at, Some(latency_ms), output.as_deref());
        if healthy {
            self.0.liveness.seen(id, at, None);
            if instance.health.status == Status::Healthy && instance.health.failures == 0 {
                return Ok(());
            }
        }
        let report = ReportHealth { id, healthy, cause: Cause::Check, output, judged: Some(judged.into()) };
        let outcome = self.0.log.write(Caller::checker(), Command::ReportHealth(report)).await?;
        let still_asked_there = matches!(
            &outcome.row,
            Some(Row::Instance(instance)) if instance.spec.poll_url().as_deref() == Some(judged)
        );
        if still_asked_there {
            self.count_repeated_failure(&outcome, id, healthy);
        }
        if let Some(event) = &outcome.event {
            tracing::info!(
                service_name = event.change.service().map(ServiceName::as_str),
                service_id = %id,
                healthy,
                event_type = event.change.kind(),
                "Service health changed"
            );
        }
        Ok(())
    }

    /// A failure beyond the one that made the instance unhealthy changes no row, and is counted all the same.
    fn count_repeated_failure(&self, outcome: &Outcome, id: InstanceId, healthy: bool) {
        if let (false, None, Some(Row::Instance(instance))) = (healthy, &outcome.event, &outcome.row)
            && instance.health.status == Status::Unhealthy
        {
            self.0.liveness.failed(id, instance.health);
        }
    }

    /// A sign of life, in memory. An instance that is not known here may have registered elsewhere a moment ago.
    pub async fn heartbeat(&self, id: InstanceId, load: Option<f32>) -> Result<(), AppError> {
        let known = |snapshot: Arc<Snapshot>| State::instance(&*snapshot, id).is_some();
        if !known(self.snapshot()?) && !known(self.snapshot_at(Consistency::Strong).await?) {
            return Err(Refusal::NoSuchInstance.into());
        }
        self.0.liveness.seen(id, self.now(), load);
        Ok(())
    }

    pub fn shown(&self, instance: Arc<Instance>) -> Shown {
        let known = self.0.liveness.known(instance.id);
        Shown { instance, known }
    }

    /// When an instance was last checked, or reported on.
    pub fn last_check(&self, id: InstanceId) -> Option<DateTime<Utc>> {
        self.0.liveness.known(id).last_check
    }

    pub fn health(&self, id: InstanceId) -> Result<Health, AppError> {
        let instance = State::instance(&*self.snapshot()?, id).ok_or(Refusal::NoSuchInstance)?;
        let shown = self.shown(instance);
        let interval = TimeDelta::from_std(POLL_INTERVAL).unwrap_or_default();
        let checks = shown.instance.spec.poll_url().map(|target| CheckDetail {
            id: "http",
            kind: "http",
            target,
            status: shown.instance.health.status,
            output: shown.known.output.clone(),
            latency_ms: shown.known.latency_ms,
            failures: shown.failures(),
            last_run_at: shown.known.last_check,
            next_run_at: shown.known.last_check.map(|at| at + interval),
        });
        Ok(Health { checks: checks.into_iter().collect(), shown })
    }

    fn seen_row(&self, outcome: Outcome, load: Option<f32>) -> Result<Written<Shown>, AppError> {
        let Some(Row::Instance(instance)) = outcome.row else {
            return Err(Refusal::NoSuchInstance.into());
        };
        // that it has just registered is in its row
        if !outcome.recalled && (!outcome.created || load.is_some()) {
            self.0.liveness.seen(instance.id, self.now(), load);
        }
        Ok(Written {
            revision: outcome.revision,
            changed: outcome.event.is_some(),
            value: self.shown(instance),
        })
    }
}

/// What asking an instance came to.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub healthy: bool,
    pub latency: Duration,
    pub output: Option<Arc<str>>,
}
