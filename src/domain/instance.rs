//! A service instance: what its owner says of it, and how it fares.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    fault::Violation,
    health::{Health, Thresholds},
    ids::{Host, InstanceId, Key, Revision, ServiceName, Version},
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
    pub registered_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: Version,
    #[serde(skip)]
    pub revision: Revision,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// Nothing was said: one HTTP poll of the health endpoint.
    #[default]
    Poll,
    /// An explicit empty list: nobody asks, it is healthy until somebody reports otherwise.
    Nobody,
}

impl Checks {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The health of an instance that has just been registered.
    pub fn first_health(self) -> Health {
        match self {
            Self::Poll => Health::UNKNOWN,
            Self::Nobody => Health::HEALTHY,
        }
    }

    pub fn thresholds(self) -> Thresholds {
        match self {
            Self::Poll => Thresholds { degraded_after: 1, unhealthy_after: 3 },
            Self::Nobody => Thresholds { degraded_after: 1, unhealthy_after: 1 },
        }
    }
}

impl Serialize for Checks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Poll => serializer.serialize_none(),
            Self::Nobody => serializer.collect_seq(std::iter::empty::<Value>()),
        }
    }
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Vec<Value>>::deserialize(deserializer)? {
            None => Ok(Self::Poll),
            Some(list) if list.is_empty() => Ok(Self::Nobody),
            Some(_) => Err(serde::de::Error::custom("lists of checks are not known to this version")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub version: String,
    pub environment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Keys that mean nothing to rollcall, given back as they came.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub other: Map<String, Value>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            version: "unknown".to_owned(),
            environment: "development".to_owned(),
            region: None,
            tags: BTreeMap::new(),
            capabilities: Vec::new(),
            other: Map::new(),
        }
    }
}

/// What the owner of an instance says of it.
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
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<ServiceName>,
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
        let polled_at_host = self.checks == Checks::Poll && self.health_check_endpoint.is_path();
        if let (true, Some(Err(fault))) = (polled_at_host, self.host.ip().map(allow_address)) {
            violations.push(Violation::new("host", format!("its health would be polled there: {fault}")));
        }
        if violations.is_empty() { Ok(self) } else { Err(violations) }
    }

    /// Where its health is asked for, or None where nobody asks.
    pub fn poll_url(&self) -> Option<String> {
        match self.checks {
            Checks::Poll => Some(self.health_check_endpoint.url(&self.host, self.port)),
            Checks::Nobody => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
            topics: Vec::new(),
            dependencies: Vec::new(),
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
        Arc::make_mut(&mut large.metadata)
            .other
            .insert("blob".into(), Value::String("x".repeat(LONGEST_SPEC)));
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
        full.dependencies = vec![ServiceName::parse("db").unwrap()];
        for spec in [full, spec("a", 1)] {
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec, "{text}");
        }
        assert!(serde_json::from_str::<Checks>("[{}]").is_err());
        assert_eq!(serde_json::from_str::<Checks>("null").unwrap(), Checks::Poll);
        assert_eq!(serde_json::to_string(&Checks::Poll).unwrap(), "null");
    }

    #[test]
    fn types_lead_back_to_their_names() {
        for kind in ServiceType::ALL {
            assert_eq!(ServiceType::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
    }
}
