//! A configuration: a JSON object for a service and an environment.
//!
//! The row of a deleted one stays, without content, so that its versions go on.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    fault::Fault,
    ids::{Environment, Revision, ServiceName, Version},
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigKey {
    pub service: ServiceName,
    pub environment: Environment,
}

impl ConfigKey {
    /// The row's id. It follows from the key, so that the absence of a row can be named as well as its version.
    pub fn id(&self) -> Uuid {
        const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5a0c_93b4_4c55_8a0e_2b64_0f4f_7d11);
        let mut name = self.service.as_str().as_bytes().to_vec();
        name.push(0);
        name.extend_from_slice(self.environment.as_str().as_bytes());
        Uuid::new_v5(&NAMESPACE, &name)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigEntry {
    pub key: ConfigKey,
    /// None once it was deleted.
    pub content: Option<Content>,
    pub comment: Option<Arc<str>>,
    pub actor: Arc<str>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: Version,
    #[serde(skip)]
    pub revision: Revision,
}

/// A JSON object, kept as the text that was sent: no number loses a digit.
#[derive(Clone, Debug)]
pub struct Content(Arc<RawValue>);

impl Content {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let value: Value = serde_json::from_str(text).map_err(|error| Fault::from(error.to_string()))?;
        if !value.is_object() {
            return Err(Fault::new("must be a JSON object"));
        }
        if let Some(place) = place_of_nul(&value) {
            return Err(format!("must not contain the character U+0000 (at {place})").into());
        }
        // in a field that another of the same name hides
        if escapes_nul(text) {
            return Err(Fault::new("must not contain the character U+0000"));
        }
        let raw =
            RawValue::from_string(text.trim().to_owned()).map_err(|error| Fault::from(error.to_string()))?;
        Ok(Self(raw.into()))
    }

    pub fn text(&self) -> &str {
        self.0.get()
    }

    fn value(&self) -> Option<Value> {
        serde_json::from_str(self.text()).ok()
    }
}

/// Two contents are the same when they mean the same.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() || self.value() == other.value()
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}

/// Whether a JSON text has the character U+0000 in one of its strings: elsewhere there is no backslash.
fn escapes_nul(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('\\') {
        if after.starts_with("u0000") {
            return true;
        }
        rest = after.get(1..).unwrap_or_default();
    }
    false
}

fn place_of_nul(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| place_of_nul(item).map(|rest| format!("/{index}{rest}"))),
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            if name.contains('\0') {
                return Some("a field's name".to_owned());
            }
            place_of_nul(item).map(|rest| format!("/{name}{rest}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_an_object_kept_as_sent() {
        let text = r#"{"n": 12345678901234567890123.4500, "s": "é"}"#;
        let content = Content::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(content.text(), text);
        assert_eq!(serde_json::to_string(&content).unwrap(), text);
        assert_eq!(serde_json::from_str::<Content>(text).unwrap(), content);
        let nul = [r#"{"a":["b\u0000"]}"#, r#"{"\u0000":1}"#, r#"{"a":"b\\\u0000","a":1}"#];
        for bad in ["", "[]", "1", "null", "{", "{\"a\":1}x"].into_iter().chain(nul) {
            assert!(Content::parse(bad).is_err(), "{bad}");
        }
        assert!(Content::parse(r#"{"a":"\\u0000"}"#).is_ok(), "a backslash and five letters");
        assert!(Content::parse(r#"{"a":["x","b\u0000"]}"#).unwrap_err().to_string().contains("/a/1"));
    }

    #[test]
    fn contents_are_equal_when_they_mean_the_same() {
        let one = Content::parse(r#"{"a":1,"b":2}"#).unwrap();
        assert_eq!(one, Content::parse(r#"{ "b":2, "a":1 }"#).unwrap());
        assert_ne!(one, Content::parse(r#"{"a":1}"#).unwrap());
    }

    #[test]
    fn an_id_follows_from_the_key() {
        let key = |service: &str, environment: &str| ConfigKey {
            service: ServiceName::parse(service).unwrap(),
            environment: Environment::parse(environment).unwrap(),
        };
        assert_eq!(key("a", "b").id(), key("a", "b").id());
        assert_ne!(key("a", "b").id(), key("ab", "b").id());
    }
}
