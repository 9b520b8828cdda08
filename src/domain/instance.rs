//! A service instance: what its owner says of it, and how it fares.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    alert::Alert,
    check::{Check, CheckId, Kind},
    fault::Violation,
    health::{CheckState, Health, Status, Thresholds},
    ids::{Host, InstanceId, Key, Revision, ServiceName, Version},
    metadata::Metadata,
    overriding::Override,
    target::{Endpoint, allow_address},
};

/// The longest text a specification may come to as JSON. Rows and events both carry it, and both pay for it.
const LONGEST_SPEC: usize = 32 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub service: ServiceName,
    pub key: Key,
    pub spec: Arc<Spec>,
    pub health: Health,
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Arc<Override>>,
    /// The last time that its load was worth one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Arc<Alert>>,
    pub registered_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: Version,
    #[serde(skip)]
    pub revision: Revision,
}

impl Instance {
    /// What it is shown as: what an operator set, else what its checks come to.
    pub fn status(&self) -> Status {
        self.overridden.as_ref().map_or_else(|| self.health.status(), |above| above.status.status())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceType {
    Api,
    Worker,
    Scheduler,
    Gateway,
    Cache,
    Database,
    MessageBroker,
    Monitoring,
    Other,
}

impl ServiceType {
    pub const ALL: [Self; 9] = [
        Self::Api,
        Self::Worker,
        Self::Scheduler,
        Self::Gateway,
        Self::Cache,
        Self::Database,
        Self::MessageBroker,
        Self::Monitoring,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
            Self::Gateway => "gateway",
            Self::Cache => "cache",
            Self::Database => "database",
            Self::MessageBroker => "message_broker",
            Self::Monitoring => "monitoring",
            Self::Other => "other",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Who asks after the instance's health.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Checks {
    /// Nothing was said: one HTTP poll of the health endpoint.
    #[default]
    Poll,
    /// An explicit empty list: nobody asks, it is healthy until somebody reports otherwise.
    Nobody,
    /// Never empty, each with an id of its own.
    Listed(Arc<[Arc<Check>]>),
}

impl Checks {
    pub fn listed(checks: Vec<Check>) -> Self {
        if checks.is_empty() {
            Self::Nobody
        } else {
            Self::Listed(checks.into_iter().map(Arc::new).collect())
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The health of an instance that has just been registered.
    pub fn first_health(&self) -> Health {
        match self {
            Self::Poll => Health::of([CheckState::new(Status::Unknown)]),
            Self::Nobody => Health::of([CheckState::new(Status::Healthy)]),
            Self::Listed(checks) => {
                Health::of(checks.iter().map(|check| CheckState::new(check.initial_status)))
            }
        }
    }

    /// How many results in a row it takes. One report decides where nobody asks.
    pub fn thresholds(&self, check: usize) -> Thresholds {
        match self {
            Self::Poll => Thresholds::default(),
            Self::Nobody => Thresholds { degraded_after: 1, unhealthy_after: 1, healthy_after: 1 },
            Self::Listed(checks) => {
                checks.get(check).map_or_else(Thresholds::default, |check| check.thresholds)
            }
        }
    }
}

impl Serialize for Checks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Poll => serializer.serialize_none(),
            Self::Nobody => serializer.collect_seq(std::iter::empty::<Check>()),
            Self::Listed(checks) => checks.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Vec<Check>>::deserialize(deserializer)?.map_or(Self::Poll, Self::listed))
    }
}

/// What a verdict of the checker is about: a check as it was when it was made, and where it went. When either is another
/// one by now, the verdict is about something that no longer exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub check: Arc<Check>,
    pub host: Host,
    pub port: u16,
}

/// What the owner of an instance says of it. It is kept small: a large registry has a hundred thousand of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    #[serde(rename = "type")]
    pub kind: ServiceType,
    pub host: Host,
    pub port: u16,
    /// Often the same in all instances of a service, and then kept once.
    pub metadata: Arc<Metadata>,
    pub health_check_endpoint: Endpoint,
    pub weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub topics: Box<[String]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub dependencies: Box<[ServiceName]>,
    #[serde(default, skip_serializing_if = "Checks::is_default")]
    pub checks: Checks,
}

impl Spec {
    pub const DEFAULT_WEIGHT: u16 = 1;

    /// The rules that need more than one field, after each has been parsed by itself: a region given once holds
    /// in both places, the whole stays within its size, and the poll does not go where it may not.
    pub fn complete(mut self) -> Result<Self, Vec<Violation>> {
        if self.region.is_none() {
            self.region.clone_from(&self.metadata.region);
        } else if self.metadata.region.is_none() {
            Arc::make_mut(&mut self.metadata).region.clone_from(&self.region);
        }
        let mut violations = Vec::new();
        let size = serde_json::to_string(&self).map_or(usize::MAX, |text| text.len());
        if size > LONGEST_SPEC {
            violations.push(Violation::new(
                "metadata",
                format!("the registration comes to {size} bytes, more than the {LONGEST_SPEC} it may have"),
            ));
        }
        let polled_at_host = match &self.checks {
            Checks::Poll => self.health_check_endpoint.is_path(),
            Checks::Nobody => false,
            Checks::Listed(checks) => checks.iter().any(|check| check.ask.is_at_host()),
        };
        if let (true, Some(Err(fault))) = (polled_at_host, self.host.ip().map(allow_address)) {
            violations.push(Violation::new("host", format!("its health would be asked for there: {fault}")));
        }
        if violations.is_empty() { Ok(self) } else { Err(violations) }
    }

    /// Its checks, the one that was not named among them.
    pub fn checks(&self) -> Vec<Arc<Check>> {
        match &self.checks {
            Checks::Poll => vec![Arc::new(Check::poll(self.health_check_endpoint.clone()))],
            Checks::Nobody => Vec::new(),
            Checks::Listed(checks) => checks.to_vec(),
        }
    }

    /// The checks that were named.
    pub fn listed(&self) -> &[Arc<Check>] {
        match &self.checks {
            Checks::Listed(checks) => checks,
            Checks::Poll | Checks::Nobody => &[],
        }
    }

    /// The place of a check among those of the instance.
    pub fn place_of(&self, id: &CheckId) -> Option<usize> {
        match &self.checks {
            Checks::Poll => (*id == Kind::Http.default_id()).then_some(0),
            Checks::Nobody => None,
            Checks::Listed(checks) => checks.iter().position(|check| check.id == *id),
        }
    }

    /// The id of the check at a place, if it was given one: the poll that nobody asked for has none.
    pub fn id_at(&self, place: usize) -> Option<CheckId> {
        match &self.checks {
            Checks::Poll | Checks::Nobody => None,
            Checks::Listed(checks) => checks.get(place).map(|check| check.id.clone()),
        }
    }

    /// The place of the check that a verdict is about, if it still is about one.
    pub fn place_of_judged(&self, judged: &Judged) -> Option<usize> {
        let place = self.place_of(&judged.check.id)?;
        let same = match &self.checks {
            Checks::Poll => *judged.check == Check::poll(self.health_check_endpoint.clone()),
            Checks::Nobody => false,
            Checks::Listed(checks) => checks.get(place).is_some_and(|check| *check == judged.check),
        };
        (same && self.host == judged.host && self.port == judged.port).then_some(place)
    }

    /// The health of an instance whose specification is replaced by this one: a check of the same id and
    /// kind keeps its state, whatever else is said of it now, and a new one begins in a stretch of its own.
    pub fn health_after(&self, old: &Self, health: &Health) -> Health {
        if self.checks == old.checks {
            return health.clone();
        }
        let stretch = health.states().iter().map(|state| state.changes).max().unwrap_or(0).wrapping_add(1);
        let fresh = self.checks.first_health();
        let old_checks = old.checks();
        let states = self.checks();
        let kept = |place: usize| {
            let check = states.get(place)?;
            let same = |old: &Arc<Check>| old.id == check.id && old.ask.kind() == check.ask.kind();
            Some(health.state(old_checks.iter().position(same)?)?.within(check.thresholds))
        };
        Health::of(
            fresh
                .states()
                .iter()
                .enumerate()
                .map(|(place, state)| kept(place).unwrap_or(CheckState { changes: stretch, ..*state })),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::check::Ask;

    pub(crate) fn spec(host: &str, port: u16) -> Spec {
        Spec {
            kind: ServiceType::Api,
            host: Host::parse(host).unwrap(),
            port,
            metadata: Arc::default(),
            health_check_endpoint: Endpoint::default(),
            weight: Spec::DEFAULT_WEIGHT,
            zone: None,
            region: None,
            datacenter: None,
            endpoints: BTreeMap::new(),
            url: None,
            topics: Box::default(),
            dependencies: Box::default(),
            checks: Checks::Poll,
        }
    }

    #[test]
    fn a_region_given_once_holds_in_both_places() {
        let outer = Spec { region: Some("eu".into()), ..spec("a", 1) }.complete().unwrap();
        assert_eq!(outer.metadata.region.as_deref(), Some("eu"));
        let mut inner = spec("a", 1);
        Arc::make_mut(&mut inner.metadata).region = Some("us".into());
        assert_eq!(inner.complete().unwrap().region.as_deref(), Some("us"));
        let mut both = Spec { region: Some("eu".into()), ..spec("a", 1) };
        Arc::make_mut(&mut both.metadata).region = Some("us".into());
        let both = both.complete().unwrap();
        assert_eq!((both.region.as_deref(), both.metadata.region.as_deref()), (Some("eu"), Some("us")));
    }

    #[test]
    fn a_specification_has_a_largest_size() {
        let mut large = spec("a", 1);
        Arc::make_mut(&mut large.metadata).other.insert("blob".into(), "x".repeat(LONGEST_SPEC).into());
        assert_eq!(large.complete().unwrap_err().first().unwrap().field, "metadata");
    }

    #[test]
    fn a_poll_does_not_go_to_the_link() {
        assert_eq!(spec("169.254.169.254", 80).complete().unwrap_err().first().unwrap().field, "host");
        assert!(Spec { checks: Checks::Nobody, ..spec("169.254.169.254", 80) }.complete().is_ok());
        assert!(spec("127.0.0.1", 80).complete().is_ok());
    }

    #[test]
    fn a_specification_survives_its_own_text() {
        let mut full = spec("::1", 65535);
        Arc::make_mut(&mut full.metadata).tags.insert("team".into(), "a".into());
        Arc::make_mut(&mut full.metadata).other.insert("k".into(), serde_json::json!([1, null, {"a": "b"}]));
        full.checks = Checks::Nobody;
        full.dependencies = [ServiceName::parse("db").unwrap()].into();
        let listed = Spec { checks: all_kinds(), ..spec("b", 2) };
        for spec in [full, listed, spec("a", 1)] {
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec, "{text}");
        }
        assert!(serde_json::from_str::<Checks>("[{}]").is_err());
        assert_eq!(serde_json::from_str::<Checks>("[]").unwrap(), Checks::Nobody);
        assert_eq!(serde_json::from_str::<Checks>("null").unwrap(), Checks::Poll);
        assert_eq!(serde_json::to_string(&Checks::Poll).unwrap(), "null");
    }

    /// A check of each kind, with something said about everything.
    pub(crate) fn all_kinds() -> Checks {
        let text = r#"[
            {"id":"web","kind":"http","url":"https://a/ok","method":"HEAD","headers":{"x-a":"b"},
             "expect":{"status":["200-204"],"degraded":["429"],"json":{"a.b":1},"load":"load"},
             "tls":{"verify":false,"server_name":"b"},
             "interval":"5s","timeout":"1s","degraded_after":2,"unhealthy_after":4,"healthy_after":3,
             "retries":2,"retry_delay":"100ms","deregister_after":"1m","initial_status":"healthy"},
            {"id":"own","kind":"http","path":"/ok","method":"GET",
             "interval":"30s","timeout":"10s","degraded_after":1,"unhealthy_after":3,"healthy_after":1,
             "retries":0,"retry_delay":"0s","deregister_after":null,"initial_status":"unknown"},
            {"id":"tcp","kind":"tcp","url":"db:5432",
             "interval":"30s","timeout":"10s","degraded_after":1,"unhealthy_after":3,"healthy_after":1,
             "retries":0,"retry_delay":"0s","deregister_after":null,"initial_status":"unknown"},
            {"id":"grpc","kind":"grpc","service":"orders","tls":{"verify":true},
             "interval":"30s","timeout":"10s","degraded_after":1,"unhealthy_after":3,"healthy_after":1,
             "retries":0,"retry_delay":"0s","deregister_after":null,"initial_status":"unknown"},
            {"id":"ttl","kind":"ttl","ttl":"15s",
             "interval":"30s","timeout":"10s","degraded_after":1,"unhealthy_after":3,"healthy_after":1,
             "retries":0,"retry_delay":"0s","deregister_after":null,"initial_status":"unknown"},
            {"id":"script","kind":"script","script":"ping","args":["-c","1"],
             "interval":"30s","timeout":"10s","degraded_after":1,"unhealthy_after":3,"healthy_after":1,
             "retries":0,"retry_delay":"0s","deregister_after":null,"initial_status":"unknown"}
        ]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn checks_are_found_by_their_id_and_by_what_they_are() {
        let own = spec("a", 80);
        let listed = Spec { checks: all_kinds(), ..spec("a", 80) };
        let nobody = Spec { checks: Checks::Nobody, ..spec("a", 80) };
        let id = |text: &str| CheckId::parse(text).unwrap();
        assert_eq!(own.place_of(&id("http")), Some(0));
        assert_eq!((own.place_of(&id("tcp")), nobody.place_of(&id("http"))), (None, None));
        assert_eq!(listed.place_of(&id("ttl")), Some(4));
        let judged = |spec: &Spec, place: usize| Judged {
            check: spec.checks().get(place).unwrap().clone(),
            host: spec.host.clone(),
            port: spec.port,
        };
        assert_eq!(own.place_of_judged(&judged(&own, 0)), Some(0));
        assert_eq!(listed.place_of_judged(&judged(&listed, 3)), Some(3));
        assert_eq!(spec("b", 80).place_of_judged(&judged(&own, 0)), None);
        assert_eq!(spec("a", 81).place_of_judged(&judged(&own, 0)), None);
        assert_eq!(nobody.place_of_judged(&judged(&own, 0)), None);
        let elsewhere = Spec { health_check_endpoint: Endpoint::parse("/ok").unwrap(), ..spec("a", 80) };
        assert_eq!(elsewhere.place_of_judged(&judged(&own, 0)), None);
        assert!(nobody.checks().is_empty());
    }

    #[test]
    fn checks_that_stay_keep_their_state_when_others_come_and_go() {
        let old = Spec { checks: all_kinds(), ..spec("a", 80) };
        let checks: Vec<Check> = old.checks().iter().map(|check| Check::clone(check)).collect();
        let mut health = old.checks.first_health();
        assert_eq!(health.state(0).unwrap().status, Status::Healthy);
        for place in 0..checks.len() {
            let state = CheckState { changes: 4, ..CheckState::new(Status::Degraded) };
            health = health.with(place, state);
        }
        let mut fewer: Vec<Check> = checks.into_iter().rev().collect();
        fewer.truncate(3);
        fewer.first_mut().unwrap().ask = Ask::Tcp { url: None };
        fewer.get_mut(1).unwrap().interval = std::time::Duration::from_secs(1);
        let new = Spec { checks: Checks::listed(fewer), ..spec("a", 80) };
        let after = new.health_after(&old, &health);
        let states: Vec<_> = after.states().iter().map(|state| (state.status, state.changes)).collect();
        assert_eq!(states, [(Status::Unknown, 5), (Status::Degraded, 4), (Status::Degraded, 4)]);
        assert_eq!(old.health_after(&old, &health), health);
        let nobody = Spec { checks: Checks::Nobody, ..spec("a", 80) };
        assert_eq!(nobody.health_after(&old, &health).status(), Status::Healthy);
    }

    #[test]
    fn an_override_stands_above_the_checks() {
        let mut instance = Instance {
            id: InstanceId(uuid::Uuid::from_u128(1)),
            service: ServiceName::parse("a").unwrap(),
            key: Key::given("a").unwrap(),
            spec: Arc::new(spec("a", 1)),
            health: Health::of([CheckState::new(Status::Healthy)]),
            overridden: None,
            alert: None,
            registered_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            version: 1,
            revision: 1,
        };
        assert_eq!(instance.status(), Status::Healthy);
        let status = crate::domain::overriding::Overriding::Drain;
        instance.overridden = Some(Arc::new(Override { status, reason: None, by: "me".into(), until: None }));
        assert_eq!(instance.status(), Status::Stopping);
        let text = serde_json::to_string(&instance).unwrap();
        assert_eq!(serde_json::from_str::<Instance>(&text).unwrap().overridden, instance.overridden);
    }

    #[test]
    fn types_lead_back_to_their_names() {
        for kind in ServiceType::ALL {
            assert_eq!(ServiceType::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
    }
}
