//! What an instance's owner adds to what rollcall needs to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub version: String,
    pub environment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Keys that mean nothing to rollcall, given back as they came.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub other: Map<String, Value>,
}

impl Metadata {
    /// Whether it is the same to the last sign: numbers that are equal may be written in two ways.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let written = |keys: &Map<String, Value>| Value::Object(keys.clone()).to_string();
        self == other && (self.other.is_empty() || written(&self.other) == written(&other.other))
    }
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
