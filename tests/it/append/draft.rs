//! A batch in the making, group by group. Each change is made on the rows as the changes before it leave them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rollcall::clock;
use rollcall::domain::event::HealthChanged;
use rollcall::domain::target::Endpoint;
use rollcall::domain::{
    Cause, Change, CheckId, CheckState, Checks, ConfigEntry, ConfigKey, Content, Digest, Environment, Event,
    Health, Host, Instance, InstanceId, Key, Metadata, Policies, Row, RowKey, ServiceName, ServiceType, Spec,
    State, Status, TokenId, TokenName, Version, evolve, registry::CreateToken,
};
use rollcall::store::append::{
    Batch, ConfigChange, Guard, InstanceChange, KeptAnswer, NewEvent, Silence, SweepPass, TokenChange,
};
use rollcall::store::poll::Cursor;
use rollcall::view::Snapshot;
use sqlx::types::chrono::{DateTime, Utc};
use uuid::Uuid;

pub struct Draft {
    base: Snapshot,
    touched: HashMap<RowKey, Touched>,
    pub batch: Batch,
}

struct Touched {
    group: i32,
    before: Version,
    row: Option<Row>,
    last_event: i32,
}

impl Draft {
    pub fn new(base: &Snapshot, cursor: &Cursor) -> Self {
        let batch = Batch {
            id: Uuid::now_v7(),
            cursor: cursor.clone(),
            now: clock::now(),
            groups: 0,
            instances: Vec::new(),
            configs: Vec::new(),
            tokens: Vec::new(),
            guards: Vec::new(),
            silences: Vec::new(),
            sweep: None,
            events: Vec::new(),
            keys: Vec::new(),
        };
        Self { base: base.clone(), touched: HashMap::new(), batch }
    }

    /// What follows belongs to a new group.
    pub fn group(&mut self) -> &mut Self {
        self.batch.groups += 1;
        self
    }

    pub fn guard(&mut self, row: RowKey, version: Version) -> &mut Self {
        self.batch.guards.push(Guard { group: self.batch.groups, row, version });
        self
    }

    /// The group removes what is ill, as this pass.
    pub fn sweep(&mut self, pass: i64) -> &mut Self {
        self.batch.sweep = Some(SweepPass { group: self.batch.groups, pass });
        self
    }

    /// The group rests on the silence of a check.
    pub fn silence(&mut self, instance: InstanceId, check: CheckId, until: DateTime<Utc>) -> &mut Self {
        self.batch.silences.push(Silence { group: self.batch.groups, instance, check, until });
        self
    }

    /// The group's last event is what a request with this key came to.
    pub fn keep(&mut self, key: &str, answer: &str) -> &mut Self {
        let event = i32::try_from(self.batch.events.len()).unwrap();
        let (key, answer, fingerprint) = (key.into(), answer.to_owned(), [7; 32]);
        self.batch.keys.push(KeptAnswer {
            group: self.batch.groups,
            event,
            changed: event > 0,
            key,
            fingerprint,
            answer,
        });
        self
    }

    pub fn register(&mut self, service: &str, key: &str) -> InstanceId {
        let id = InstanceId(Uuid::now_v7());
        self.register_as(id, service, key);
        id
    }

    pub fn register_as(&mut self, id: InstanceId, service: &str, key: &str) -> &mut Self {
        self.change(Change::Registered {
            id,
            service: service_name(service),
            key: Key::given(key).unwrap(),
            spec: Arc::new(spec()),
            health: Health::of([CheckState::new(Status::Healthy)]),
        })
    }

    /// One more change of the instance, another one than the last.
    pub fn report(&mut self, id: InstanceId) -> &mut Self {
        let instance = self.instance(id);
        let status = if instance.status() == Status::Healthy { Status::Degraded } else { Status::Healthy };
        let state = instance.health.state(0).unwrap();
        self.change(Change::HealthChanged(HealthChanged {
            id,
            service: instance.service.clone(),
            version: instance.version + 1,
            old: instance.status(),
            new: Health::of([CheckState { status, changes: state.changes + 1, ..state }]),
            check: None,
            cause: Cause::Report,
            output: Some(format!("line 1\n\"line\" 2 \\ {status:?} ü").into()),
        }))
    }

    pub fn update(&mut self, id: InstanceId, weight: u16) -> &mut Self {
        let instance = self.instance(id);
        self.change(Change::Updated {
            id,
            service: instance.service.clone(),
            version: instance.version + 1,
            spec: Arc::new(Spec { weight, ..(*instance.spec).clone() }),
            health: instance.health.clone(),
        })
    }

    pub fn remove(&mut self, id: InstanceId) -> &mut Self {
        let instance = self.instance(id);
        self.change(Change::Unregistered {
            id,
            service: instance.service.clone(),
            key: instance.key.clone(),
            version: instance.version + 1,
        })
    }

    pub fn put(&mut self, key: &ConfigKey, content: &str) -> &mut Self {
        self.change(Change::ConfigPut {
            key: key.clone(),
            version: self.config(key).map_or(1, |entry| entry.version + 1),
            content: Content::parse(content).unwrap(),
            comment: Some(format!("was\n{content}").into()),
        })
    }

    pub fn delete(&mut self, key: &ConfigKey) -> &mut Self {
        let version = self.config(key).expect("a configuration to delete").version + 1;
        self.change(Change::ConfigDeleted { key: key.clone(), version, comment: None })
    }

    pub fn create_token(&mut self, id: TokenId) -> &mut Self {
        let mut digest = [7; 32];
        digest[..16].copy_from_slice(id.0.as_bytes());
        self.change(Change::TokenCreated(CreateToken {
            id,
            name: TokenName::parse("a token").unwrap(),
            policies: Policies::default(),
            digest: Digest(digest),
            expires_at: None,
        }))
    }

    pub fn revoke_token(&mut self, id: TokenId) -> &mut Self {
        let Some(Row::Token(token)) = self.row(&RowKey::Token(id)) else { panic!("{id} is no token") };
        self.change(Change::TokenRevoked { id, name: token.name.clone(), version: token.version + 1 })
    }

    pub fn change(&mut self, change: Change) -> &mut Self {
        let group = self.batch.groups;
        let data = change.data(None).unwrap();
        let key = change.row();
        let old = self.row(&key);
        let actor: Arc<str> = "somebody".into();
        let event = Event { revision: 0, time: self.batch.now, actor: actor.clone(), change };
        let row = evolve(old.as_ref(), &event);
        let ordinal = i32::try_from(self.batch.events.len()).unwrap() + 1;
        let before = old.as_ref().map_or(0, Row::version);
        let touched =
            self.touched.entry(key).or_insert(Touched { group, before, row: None, last_event: ordinal });
        assert_eq!(touched.group, group, "a row is changed by one group");
        touched.row = row;
        touched.last_event = ordinal;
        let request_id = Some("a request".into());
        let origin = "a test".into();
        self.batch.events.push(NewEvent { group, change: event.change, data, actor, origin, request_id });
        self
    }

    pub fn done(&mut self) -> Batch {
        let mut batch = self.batch.clone();
        for (key, Touched { group, before, row, last_event: event }) in self.touched.drain() {
            match (key, row) {
                (RowKey::Instance(id), row) => {
                    let row = match row {
                        Some(Row::Instance(row)) => {
                            let text = serde_json::value::to_raw_value(&row.spec).unwrap();
                            Some((row, text.into()))
                        }
                        _ => None,
                    };
                    batch.instances.push(InstanceChange { group, id, before, event, row });
                }
                (RowKey::Config(_), Some(Row::Config(row))) => {
                    batch.configs.push(ConfigChange { group, before, event, row });
                }
                (RowKey::Config(_), _) => panic!("the row of a configuration stays"),
                (RowKey::Token(id), row) => {
                    let row = match row {
                        Some(Row::Token(row)) => Some(row),
                        _ => None,
                    };
                    batch.tokens.push(TokenChange { group, id, before, event, row });
                }
            }
        }
        batch
    }

    fn row(&self, key: &RowKey) -> Option<Row> {
        match (self.touched.get(key), key) {
            (Some(touched), _) => touched.row.clone(),
            (None, RowKey::Instance(id)) => State::instance(&self.base, *id).map(Row::Instance),
            (None, RowKey::Config(key)) => State::config(&self.base, key).map(Row::Config),
            (None, RowKey::Token(id)) => State::token(&self.base, *id).map(Row::Token),
        }
    }

    fn instance(&self, id: InstanceId) -> Arc<Instance> {
        match self.row(&RowKey::Instance(id)) {
            Some(Row::Instance(instance)) => instance,
            _ => panic!("{id} is not registered"),
        }
    }

    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>> {
        match self.row(&RowKey::Config(key.clone())) {
            Some(Row::Config(entry)) => Some(entry),
            _ => None,
        }
    }
}

pub fn service_name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

pub fn config_key(service: &str) -> ConfigKey {
    ConfigKey { service: service_name(service), environment: Environment::parse("test").unwrap() }
}

fn spec() -> Spec {
    Spec {
        kind: ServiceType::Api,
        host: Host::parse("10.0.0.1").unwrap(),
        port: 80,
        metadata: Arc::new(Metadata {
            tags: BTreeMap::from([("team".into(), "a".into())]),
            ..Metadata::default()
        }),
        health_check_endpoint: Endpoint::default(),
        weight: Spec::DEFAULT_WEIGHT,
        zone: None,
        region: Some("eu".into()),
        datacenter: None,
        endpoints: BTreeMap::new(),
        url: None,
        topics: Box::default(),
        dependencies: Box::default(),
        checks: Checks::Nobody,
    }
}
