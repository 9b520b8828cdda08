//! The order of a list, and how it goes on from page to page.
//!
//! A cursor is a place in the order, not a count: what is added or removed between two pages makes no instance
//! appear twice or be left out.

use std::{cmp::Ordering, fmt::Write as _};

use uuid::Uuid;

use crate::domain::{Fault, Instance, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    RegisteredAt,
    UpdatedAt,
    Status,
}

const FIELDS: [(&str, Field); 4] = [
    ("name", Field::Name),
    ("registered_at", Field::RegisteredAt),
    ("updated_at", Field::UpdatedAt),
    ("status", Field::Status),
];

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    field: Field,
    descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { field: Field::Name, descending: false }
    }
}

impl Sort {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        let field = FIELDS.into_iter().find(|(known, _)| *known == name).map(|(_, field)| field);
        field.map(|field| Self { field, descending }).ok_or_else(|| {
            format!(
                "must be one of {}, with '-' before it for descending",
                FIELDS.map(|(name, _)| name).join(", ")
            )
            .into()
        })
    }

    /// Whether it is the order of the names, in which the registry is kept.
    pub fn is_by_name(self) -> bool {
        self == Self::default()
    }

    fn text(self) -> String {
        let name = FIELDS.into_iter().find(|(_, field)| *field == self.field).map_or("", |(name, _)| name);
        format!("{}{name}", if self.descending { "-" } else { "" })
    }

    pub fn compare(self, one: &Instance, other: &Instance) -> Ordering {
        self.order(&Place::of(self, one), &Place::of(self, other))
    }

    fn order(self, one: &Place<'_>, other: &Place<'_>) -> Ordering {
        let order = one.cmp(other);
        if self.descending { order.reverse() } else { order }
    }
}

/// Where an instance stands: by what the list is ordered, then by id, so that no two stand in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a>(Value<'a>, Uuid);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Status(Status),
}

impl<'a> Place<'a> {
    fn of(sort: Sort, instance: &'a Instance) -> Self {
        let value = match sort.field {
            Field::Name => Value::Text(instance.service.as_str()),
            Field::RegisteredAt => Value::Number(instance.registered_at.timestamp_micros()),
            Field::UpdatedAt => Value::Number(instance.updated_at.timestamp_micros()),
            Field::Status => Value::Status(instance.status()),
        };
        Self(value, instance.id.0)
    }
}

/// The last place that a reader has seen, and the order it was seen in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    sort: Sort,
    value: String,
    id: Uuid,
}

impl Cursor {
    pub fn at(sort: Sort, instance: &Instance) -> Self {
        let Place(value, id) = Place::of(sort, instance);
        let value = match value {
            Value::Text(text) => text.to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Status(status) => status.as_str().to_owned(),
        };
        Self { sort, value, id }
    }

    /// As a text without meaning to its bearer, in letters that need no escape in a URL.
    pub fn write(&self) -> String {
        let text = format!("{} {} {}", self.sort.text(), self.value, self.id.simple());
        text.bytes().fold(String::new(), |mut hex, byte| {
            // a String takes whatever is written to it
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub fn read(text: &str) -> Result<Self, Fault> {
        let parts = || {
            let bytes: Option<Vec<u8>> = (0..text.len())
                .step_by(2)
                .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect();
            let plain = String::from_utf8(bytes?).ok()?;
            let mut parts = plain.split(' ');
            let (sort, value, id) = (parts.next()?, parts.next()?, parts.next()?);
            let cursor = Self {
                sort: Sort::parse(sort).ok()?,
                value: value.to_owned(),
                id: Uuid::try_parse(id).ok()?,
            };
            cursor.place().filter(|_| parts.next().is_none())?;
            Some(cursor)
        };
        parts().ok_or(Fault::new("is not a cursor that a Link header named"))
    }

    /// A cursor means nothing in another order than its own.
    pub fn is_of(&self, sort: Sort) -> bool {
        self.sort == sort
    }

    /// In the order of names: the name that the list goes on from.
    pub fn name(&self) -> &str {
        &self.value
    }

    pub fn is_before(&self, instance: &Instance) -> bool {
        self.place()
            .is_some_and(|place| self.sort.order(&place, &Place::of(self.sort, instance)) == Ordering::Less)
    }

    fn place(&self) -> Option<Place<'_>> {
        let value = match self.sort.field {
            Field::Name => Value::Text(&self.value),
            Field::RegisteredAt | Field::UpdatedAt => Value::Number(self.value.parse().ok()?),
            Field::Status => Value::Status(Status::parse(&self.value)?),
        };
        Some(Place(value, self.id))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;
    use crate::{
        domain::{CheckState, Health},
        doors::native::sample,
    };

    fn instance(number: u128, name: &str, second: i64, status: Status) -> Instance {
        let registration = json!({"name": name, "type": "api", "host": "a", "port": 1});
        let mut instance = sample::instance(number, &registration);
        instance.health = Health::of([CheckState::new(status)]);
        instance.registered_at = DateTime::from_timestamp(second, 7000).unwrap();
        instance.updated_at = DateTime::from_timestamp(-second, 0).unwrap();
        instance
    }

    fn some() -> Vec<Instance> {
        vec![
            instance(4, "b", 1, Status::Healthy),
            instance(1, "b", 3, Status::Unknown),
            instance(3, "a", 3, Status::Healthy),
            instance(2, "c", 2, Status::Unhealthy),
        ]
    }

    fn ids(instances: &[Instance]) -> Vec<u128> {
        instances.iter().map(|instance| instance.id.0.as_u128()).collect()
    }

    #[test]
    fn lists_have_an_order() {
        for (text, expected) in [
            ("name", [3, 1, 4, 2]),
            ("-name", [2, 4, 1, 3]),
            ("registered_at", [4, 2, 1, 3]),
            ("-registered_at", [3, 1, 2, 4]),
            ("updated_at", [1, 3, 2, 4]),
            ("status", [1, 3, 4, 2]),
            ("-status", [2, 4, 3, 1]),
        ] {
            let sort = Sort::parse(text).unwrap();
            let mut instances = some();
            instances.sort_by(|one, other| sort.compare(one, other));
            assert_eq!(ids(&instances), expected, "{text}");
            assert_eq!(sort.text(), text);
        }
        for bad in ["", "-", "--name", "Name", "load"] {
            assert!(Sort::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_goes_on_after_its_place_even_if_nobody_stands_there_any_more() {
        for text in ["name", "-name", "registered_at", "-updated_at", "status", "-status"] {
            let sort = Sort::parse(text).unwrap();
            let mut instances = some();
            instances.sort_by(|one, other| sort.compare(one, other));
            let written = Cursor::at(sort, &instances.remove(1)).write();
            let cursor = Cursor::read(&written).unwrap();
            assert!(cursor.is_of(sort));
            let rest: Vec<_> =
                instances.iter().filter(|instance| cursor.is_before(instance)).cloned().collect();
            assert_eq!(ids(&rest), ids(&instances[1..]), "{text}");
        }
    }

    #[test]
    fn a_cursor_is_not_made_up() {
        let good = Cursor::at(Sort::default(), &some()[0]).write();
        assert!(good.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(Cursor::read(&good).unwrap().name(), "b");
        let hex = |text: &str| {
            let pairs: Vec<_> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            pairs.concat()
        };
        for bad in
            ["", "x", "zz", "é", &good[1..], &hex("name a"), &hex(&format!("status ill {}", Uuid::nil()))]
        {
            assert!(Cursor::read(bad).is_err(), "{bad}");
        }
    }
}
