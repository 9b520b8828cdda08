//! Use cases of service instances.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{App, AppError, Caller, Written, permit, reads::LANE_PATIENCE};
use crate::{
    domain::{
        Action, Command, Instance, InstanceId, Precondition, Refusal, Resource, Row, ServiceName, Spec,
        check::{Check, Kind},
        registry::{RegisterInstance, UpdateInstance},
    },
    liveness::Known,
    log::Outcome,
    store::{Patience, StoreError, idempotency},
};

/// An instance with what is known of it outside the log.
#[derive(Clone, Debug)]
pub struct Shown {
    pub instance: Arc<Instance>,
    pub known: Known,
}

impl Shown {
    /// The most failures in a row of any check, those included that changed nothing any more.
    pub fn failures(&self) -> i64 {
        let beyond = match self.instance.health.states() {
            [only] if only.changes == self.known.changes => self.known.failures,
            // those of checks that have names are told check by check
            _ => 0,
        };
        i64::from(self.instance.health.failures()) + beyond
    }

    pub fn last_seen(&self) -> DateTime<Utc> {
        self.known.last_seen.unwrap_or(self.instance.registered_at).max(self.instance.registered_at)
    }
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
        self.permit_checks(&command.spec)?;
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
            let permitted =
                permit(&caller.rights, Resource::Service, Action::Write, command.service.as_str());
            match permitted.and_then(|()| self.permit_checks(&command.spec)) {
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
        let (is_new, recalled) = (outcome.created, outcome.recalled);
        let written = self.seen_row(outcome, load)?;
        let instance = &written.value.instance;
        if !recalled {
            self.renew(instance);
        }
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
        self.permit_checks(&command.spec)?;
        let outcome = self.0.log.write(caller.clone(), Command::UpdateInstance(command)).await?;
        self.seen_row(outcome, load)
    }

    /// Programs are run where the operator has said which.
    fn permit_checks(&self, spec: &Spec) -> Result<(), AppError> {
        let runs = |check: &Arc<Check>| check.ask.kind() == Kind::Script;
        match spec.listed().iter().position(runs).filter(|_| !self.0.asking.probes.run_scripts()) {
            Some(check) => Err(AppError::ScriptsOff { check }),
            None => Ok(()),
        }
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

    pub fn shown(&self, instance: Arc<Instance>) -> Shown {
        let known = self.0.liveness.known(instance.id);
        Shown { instance, known }
    }

    pub(super) fn seen_row(&self, outcome: Outcome, load: Option<f32>) -> Result<Written<Shown>, AppError> {
        if let Some(Row::Instance(instance)) = &outcome.row
            // that it has just registered is in its row
            && !outcome.recalled
            && (!outcome.created || load.is_some())
        {
            self.0.liveness.seen(instance.id, self.now(), load);
            self.watch_load(instance.id, load);
        }
        self.found_row(outcome)
    }

    /// The instance as a write left it, which nobody else was heard of by.
    pub(super) fn found_row(&self, outcome: Outcome) -> Result<Written<Shown>, AppError> {
        let Some(Row::Instance(instance)) = outcome.row else {
            return Err(Refusal::NoSuchInstance.into());
        };
        Ok(Written {
            revision: outcome.revision,
            changed: outcome.event.is_some(),
            value: self.shown(instance),
        })
    }
}
