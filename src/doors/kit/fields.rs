//! Reads a JSON object field by field and notes every fault with its place, so that a client learns of all its
//! mistakes at once.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive};

use serde_json::{Map, Value};

use crate::domain::{
    Fault, Violation,
    fault::{text_within, without_nul},
};

/// An object under examination. A field that is `null` counts as not given.
pub struct Fields<'v, 'f> {
    object: &'v Map<String, Value>,
    /// What the names of its fields are preceded by: empty, `metadata.`, `[3].`.
    place: String,
    violations: &'f mut Vec<Violation>,
}

impl<'v, 'f> Fields<'v, 'f> {
    /// The object that a value must be, at a place such as `[3]`; empty for the body itself.
    pub fn of(value: &'v Value, place: &str, violations: &'f mut Vec<Violation>) -> Option<Self> {
        let Value::Object(object) = value else {
            let field = if place.is_empty() { "body" } else { place };
            violations.push(Violation::new(field, "must be a JSON object"));
            return None;
        };
        let place = if place.is_empty() { String::new() } else { format!("{place}.") };
        Some(Self { object, place, violations })
    }

    pub fn refuse(&mut self, name: &str, message: impl Display) {
        self.violations.push(Violation::new(format!("{}{name}", self.place), message));
    }

    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&'v Value) -> Result<T, Fault>) -> Option<T> {
        if self.get(name).is_none() {
            self.refuse(name, "is required");
        }
        self.optional(name, read)
    }

    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&'v Value) -> Result<T, Fault>) -> Option<T> {
        match read(self.get(name)?) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.refuse(name, fault);
                None
            }
        }
    }

    /// An object within the object.
    pub fn nested<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields<'v, '_>) -> T) -> Option<T> {
        let place = format!("{}{name}", self.place);
        let mut fields = Fields::of(self.get(name)?, &place, self.violations)?;
        Some(read(&mut fields))
    }

    /// A field's value where it is true or false, and nothing else.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// A list of at most `most` things. Empty where none is given.
    pub fn list<T>(
        &mut self,
        name: &str,
        most: usize,
        mut read: impl FnMut(&'v Value) -> Result<T, Fault>,
    ) -> Vec<T> {
        let Some(items) = self.optional(name, |value| match value {
            Value::Array(items) if items.len() > most => {
                Err(format!("may have at most {most} items, has {}", items.len()).into())
            }
            Value::Array(items) => Ok(items),
            _ => Err(Fault::new("must be a list")),
        }) else {
            return Vec::new();
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(item) => list.push(item),
                Err(fault) => self.refuse(&format!("{name}[{index}]"), fault),
            }
        }
        list
    }

    /// A list of at most `most` objects. None where none is given; those with faults are left out.
    pub fn objects<T>(
        &mut self,
        name: &str,
        most: usize,
        mut read: impl FnMut(&mut Fields<'v, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.get(name)?;
        let items = self.list(name, most, Ok);
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{}{name}[{index}]", self.place);
            list.extend(Fields::of(item, &place, self.violations).and_then(|mut fields| read(&mut fields)));
        }
        Some(list)
    }

    /// One thing, or a list of at most `most`. Empty where none is given.
    pub fn one_or_more<T>(
        &mut self,
        name: &str,
        most: usize,
        read: impl FnMut(&'v Value) -> Result<T, Fault> + Copy,
    ) -> Vec<T> {
        match self.get(name) {
            Some(Value::Array(_)) => self.list(name, most, read),
            _ => self.optional(name, read).into_iter().collect(),
        }
    }

    /// A map of at most `most` names, each of at most `longest` characters. Empty where none is given.
    pub fn map<T>(
        &mut self,
        name: &str,
        most: usize,
        longest: usize,
        mut read: impl FnMut(&'v Value) -> Result<T, Fault>,
    ) -> BTreeMap<String, T> {
        let Some(entries) = self.optional(name, |value| match value {
            Value::Object(entries) if entries.len() > most => {
                Err(format!("may have at most {most} entries, has {}", entries.len()).into())
            }
            Value::Object(entries) => Ok(entries),
            _ => Err(Fault::new("must be an object")),
        }) else {
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            match text_within(key, 1, longest).and_then(|_| read(value)) {
                Ok(value) => {
                    map.insert(key.clone(), value);
                }
                Err(fault) => self.refuse(&format!("{name}.{}", shown(key)), fault),
            }
        }
        map
    }

    /// The fields other than the known ones, as they are.
    pub fn others(&mut self, known: &[&str]) -> Map<String, Value> {
        let object = self.object;
        let others = object.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        let mut kept = Map::new();
        for (name, value) in others {
            match place_of_nul(name, value) {
                None => {
                    kept.insert(name.clone(), value.clone());
                }
                Some(place) => self.refuse(&place, "must not contain the character U+0000"),
            }
        }
        kept
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }
}

/// A name as it can stand in a message: a client's own text may be of any length.
fn shown(name: &str) -> String {
    name.chars().take(100).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn place_of_nul(name: &str, value: &Value) -> Option<String> {
    let within = match value {
        _ if without_nul(name).is_err() => Some(String::new()),
        Value::String(text) => without_nul(text).is_err().then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| place_of_nul("", item).map(|rest| format!("[{index}]{rest}"))),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, item)| place_of_nul(name, item).map(|rest| format!(".{rest}")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    };
    within.map(|rest| format!("{}{rest}", shown(name)))
}

/// A text of so many characters.
pub fn text(shortest: usize, longest: usize) -> impl Fn(&Value) -> Result<String, Fault> {
    move |value| text_within(as_text(value)?, shortest, longest).map(str::to_owned)
}

/// A text for the domain to parse.
pub fn parsed<T>(parse: impl Fn(&str) -> Result<T, Fault>) -> impl Fn(&Value) -> Result<T, Fault> {
    move |value| parse(as_text(value)?)
}

/// A whole number from `least` to 65535.
pub fn number_from(least: u16) -> impl Fn(&Value) -> Result<u16, Fault> {
    number_within(least..=u16::MAX)
}

/// A whole number within bounds. `8080.0` is one too: JSON knows one kind of number only.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within bounds")]
pub fn number_within(bounds: RangeInclusive<u16>) -> impl Fn(&Value) -> Result<u16, Fault> {
    move |value| {
        let (least, most) = (*bounds.start(), *bounds.end());
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (f64::from(least)..=f64::from(most)).contains(number))
            .map(|number| number as u16)
            .ok_or_else(|| format!("must be an integer from {least} to {most}").into())
    }
}

pub fn yes_or_no(value: &Value) -> Result<bool, Fault> {
    value.as_bool().ok_or(Fault::new("must be true or false"))
}

fn as_text(value: &Value) -> Result<&str, Fault> {
    value.as_str().ok_or(Fault::new("must be a string"))
}

/// A number from 0 to 1.
#[expect(clippy::cast_possible_truncation, reason = "a share needs no more digits than that")]
pub fn share(value: &Value) -> Result<f32, Fault> {
    let share = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
    share.map(|share| share as f32).ok_or(Fault::new("must be a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(value: &Value, place: &str, read: impl FnOnce(&mut Fields<'_, '_>)) -> Vec<(String, String)> {
        let mut violations = Vec::new();
        if let Some(mut fields) = Fields::of(value, place, &mut violations) {
            read(&mut fields);
        }
        violations.into_iter().map(|violation| (violation.field, violation.message)).collect()
    }

    fn places(value: &Value, place: &str, read: impl FnOnce(&mut Fields<'_, '_>)) -> Vec<String> {
        faults(value, place, read).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let body = json!({
            "port": 70000,
            "metadata": {"tags": {"team": 1, "": "x", "ok": "y"}, "capabilities": ["a", 2]},
            "endpoints": {"grpc": 0},
        });
        let read = |fields: &mut Fields<'_, '_>| {
            assert_eq!(fields.required("name", text(1, 9)), None);
            assert_eq!(fields.required("port", number_from(1)), None);
            fields.nested("metadata", |metadata| {
                let tags = metadata.map("tags", 100, 100, text(0, 10));
                assert_eq!(tags.into_keys().collect::<Vec<_>>(), ["ok"]);
                assert_eq!(metadata.list("capabilities", 100, text(0, 10)), ["a"]);
            });
            fields.map("endpoints", 10, 10, number_from(1));
        };
        let expected = [
            "name",
            "port",
            "metadata.tags.",
            "metadata.tags.team",
            "metadata.capabilities[1]",
            "endpoints.grpc",
        ];
        assert_eq!(places(&body, "", read), expected);
        let expected: Vec<_> = expected.iter().map(|field| format!("[3].{field}")).collect();
        assert_eq!(places(&body, "[3]", read), expected);
    }

    #[test]
    fn null_counts_as_not_given() {
        let body = json!({"a": null, "b": null, "c": null, "d": null, "e": null});
        let found = faults(&body, "", |fields| {
            assert_eq!(fields.optional("a", text(1, 9)), None);
            assert_eq!(fields.nested("b", |_| ()), None);
            assert!(fields.list("c", 9, text(1, 9)).is_empty());
            assert!(fields.map("d", 9, 9, text(1, 9)).is_empty());
            fields.required("e", text(1, 9));
        });
        assert_eq!(found, [("e".to_owned(), "is required".to_owned())]);
    }

    #[test]
    fn wrong_kinds_of_json_are_told() {
        for (value, message) in [
            (json!("8080"), "must be an integer from 1 to 65535"),
            (json!(80.5), "must be an integer from 1 to 65535"),
            (json!(0), "must be an integer from 1 to 65535"),
            (json!(-1), "must be an integer from 1 to 65535"),
            (json!(true), "must be an integer from 1 to 65535"),
        ] {
            let body = json!({"port": value});
            let found = faults(&body, "", |fields| assert_eq!(fields.required("port", number_from(1)), None));
            assert_eq!(found, [("port".to_owned(), message.to_owned())]);
        }
        assert_eq!(places(&json!([]), "", |_| ()), ["body"]);
        assert_eq!(places(&json!("x"), "[0]", |_| ()), ["[0]"]);
        let body = json!({"m": [], "l": {}, "n": 1, "t": 1, "long": [1, 2, 3], "wide": {"a": 1, "b": 2}});
        let read = |fields: &mut Fields<'_, '_>| {
            fields.map("m", 9, 9, text(0, 9));
            fields.list("l", 9, text(0, 9));
            fields.nested("n", |_| ());
            fields.optional("t", text(0, 9));
            fields.list("long", 2, number_from(0));
            fields.map("wide", 1, 9, number_from(0));
        };
        assert_eq!(places(&body, "", read), ["m", "l", "n", "t", "long", "wide"]);
    }

    #[test]
    fn the_other_fields_are_kept_but_for_nul() {
        let body = json!({
            "known": 1, "kept": {"deep": [1, null]}, "bad": {"list": ["a", {"x": "b\0"}]}, "na\0me": 1, "text": "\0"
        });
        let found = places(&body, "metadata", |fields| {
            assert_eq!(Value::Object(fields.others(&["known"])), json!({"kept": {"deep": [1, null]}}));
        });
        assert_eq!(found, ["metadata.bad.list[1].x", "metadata.na\u{fffd}me", "metadata.text"]);
    }

    #[test]
    fn nul_is_refused_in_texts() {
        let body = json!({"a": "x\0", "tags": {"k\0": "v", "k": "\0"}});
        let found = places(&body, "", |fields| {
            fields.optional("a", text(0, 9));
            fields.map("tags", 9, 9, text(0, 9));
        });
        assert_eq!(found, ["a", "tags.k", "tags.k\u{fffd}"]);
    }
}
