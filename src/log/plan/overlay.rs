//! The state as the commands of a batch leave it so far.

use std::{
    cell::{Ref, RefCell},
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use serde_json::value::RawValue;

use crate::{
    domain::{
        ConfigEntry, ConfigKey, Instance, InstanceId, Key, Row, RowKey, ServiceName, State, Token, TokenId,
        Version,
    },
    store::append::SweepPass,
    view::Snapshot,
};

/// Something a decision can rest on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rest {
    Row(RowKey),
    /// Which instance, if any, has this identity.
    Identity(ServiceName, Key),
    /// That no other pass removes what is ill.
    Sweep,
}

/// A row that the batch changes.
pub(super) struct Touched {
    pub group: i32,
    pub before: Version,
    pub row: Option<Row>,
    /// The specification in the row as JSON, where it is at hand.
    pub spec_text: Option<Arc<RawValue>>,
    pub last_event: i32,
}

/// The state as the commands so far leave it, noting what each decision rests on.
pub(super) struct Overlay<'a> {
    pub base: &'a Snapshot,
    pub touched: HashMap<RowKey, Touched, RandomState>,
    pub identities: HashMap<(ServiceName, Key), (i32, Option<InstanceId>), RandomState>,
    /// The pass that removes what is ill, if this batch has one.
    pub sweep: Option<SweepPass>,
    /// Few: each once.
    rests: RefCell<Vec<Rest>>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a Snapshot) -> Self {
        Self {
            base,
            touched: HashMap::default(),
            identities: HashMap::default(),
            sweep: None,
            rests: RefCell::default(),
        }
    }

    /// A new decision begins.
    pub fn begin(&self) {
        self.rests.borrow_mut().clear();
    }

    /// What the last decision rests on.
    pub fn rests(&self) -> Ref<'_, Vec<Rest>> {
        self.rests.borrow()
    }

    pub fn rest_on(&self, rest: Rest) {
        let mut rests = self.rests.borrow_mut();
        if !rests.contains(&rest) {
            rests.push(rest);
        }
    }

    pub fn row(&self, key: &RowKey) -> Option<Row> {
        self.rest_on(Rest::Row(key.clone()));
        match self.touched.get(key) {
            Some(touched) => touched.row.clone(),
            None => self.base_row(key),
        }
    }

    pub fn base_row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Instance(id) => State::instance(self.base, *id).map(Row::Instance),
            RowKey::Config(key) => State::config(self.base, key).map(Row::Config),
            RowKey::Token(id) => State::token(self.base, *id).map(Row::Token),
        }
    }

    /// The groups that the last decision rests on.
    pub fn owners(&self) -> BTreeSet<i32> {
        let group = |rest: &Rest| match rest {
            Rest::Row(key) => self.touched.get(key).map(|touched| touched.group),
            Rest::Identity(service, key) => {
                self.identities.get(&(service.clone(), key.clone())).map(|(group, _)| *group)
            }
            Rest::Sweep => self.sweep.map(|sweep| sweep.group),
        };
        self.rests.borrow().iter().filter_map(group).collect()
    }
}

impl State for Overlay<'_> {
    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        match self.row(&RowKey::Instance(id)) {
            Some(Row::Instance(instance)) => Some(instance),
            _ => None,
        }
    }

    fn instance_at(&self, service: &ServiceName, key: &Key) -> Option<Arc<Instance>> {
        let identity = (service.clone(), key.clone());
        let known = self.identities.get(&identity);
        self.rest_on(Rest::Identity(identity.0, identity.1));
        let id = match known {
            Some((_, id)) => *id,
            None => self.base.instance_at(service, key).map(|instance| instance.id),
        };
        self.instance(id?)
    }

    fn config(&self, key: &ConfigKey) -> Option<Arc<ConfigEntry>> {
        match self.row(&RowKey::Config(key.clone())) {
            Some(Row::Config(entry)) => Some(entry),
            _ => None,
        }
    }

    fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        match self.row(&RowKey::Token(id)) {
            Some(Row::Token(token)) => Some(token),
            _ => None,
        }
    }
}
