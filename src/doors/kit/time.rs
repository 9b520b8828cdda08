//! Times on the wire: RFC 3339, UTC, always six decimals and Z, so that they sort as text.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

pub fn six_decimals(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// For `#[serde(serialize_with)]`.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&six_decimals(*time))
}

/// For `#[serde(serialize_with)]`: `null` for a time that has not come.
pub fn serialize_optional<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_decimals_whatever_they_are() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (1_700_000_000, 1_000, "2023-11-14T22:13:20.000001Z"),
            (1_700_000_000, 120_000_000, "2023-11-14T22:13:20.120000Z"),
            (1_700_000_000, 999_999_999, "2023-11-14T22:13:20.999999Z"),
        ] {
            assert_eq!(six_decimals(DateTime::from_timestamp(seconds, nanos).unwrap()), text);
        }
    }
}
