//! Durations as people write them: 300ms, 10s, 1m30s, 12h, 7d.

use std::{fmt::Write as _, time::Duration};

use super::fault::Fault;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

pub fn parse(text: &str) -> Result<Duration, Fault> {
    const HELP: Fault = Fault::new("must be a duration such as 300ms, 10s, 1m or 12h");
    let (mut rest, mut millis, mut smallest) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits).ok_or(HELP)?;
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at_checked(letters).ok_or(HELP)?;
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(HELP)?;
        // from the large to the small, each once
        if size >= smallest {
            return Err(HELP);
        }
        let number: u64 = number.parse().map_err(|_| HELP)?;
        millis = number.checked_mul(size).and_then(|more| millis.checked_add(more)).ok_or(HELP)?;
        (rest, smallest) = (after, size);
    }
    if text.is_empty() { Err(HELP) } else { Ok(Duration::from_millis(millis)) }
}

/// The shortest text that says the same.
pub fn text(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in UNITS.into_iter().rev() {
        if millis >= size {
            let _infallible = write!(text, "{}{unit}", millis / size);
            millis %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// For serde: a duration as its text.
pub mod as_text {
    use std::{borrow::Cow, time::Duration};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse(&Cow::<str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
pub mod as_optional_text {
    use std::{borrow::Cow, time::Duration};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&super::text(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<Cow<str>>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_leads_to_its_shortest_text_and_back() {
        for (millis, expected) in [
            (0, "0s"),
            (300, "300ms"),
            (10_000, "10s"),
            (60_000, "1m"),
            (90_500, "1m30s500ms"),
            (3_600_000, "1h"),
            (90_061_001, "1d1h1m1s1ms"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(text(duration), expected);
            assert_eq!(parse(expected), Ok(duration));
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("300ms", Some(300)),
            ("10s", Some(10_000)),
            ("1m", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("12h", Some(43_200_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("-1s", None),
            ("1.5s", None),
            ("10 s", None),
            ("10S", None),
            ("10é", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text:?}");
        }
    }
}
