//! What an answer to an HTTP check must be for the instance to be well.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{fault::Fault, health::Seen};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// Empty: 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Statuses>,
    /// Those that say: alive, and not well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Statuses>,
    /// What the body must have, by the path of each member, dots between its steps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Value>,
    /// The path of a number from 0 to 1 in the body that is taken as the instance's load. It must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub seen: Seen,
    /// Why it is not well.
    pub output: Option<String>,
    pub load: Option<f32>,
}

impl Expect {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn reads_body(&self) -> bool {
        !self.json.is_empty() || self.load.is_some()
    }

    /// Whether an answer with this status has to be read further.
    pub fn needs_body(&self, status: u16) -> bool {
        self.reads_body() && self.judge_status(status) == Seen::Passing
    }

    fn judge_status(&self, status: u16) -> Seen {
        if self.degraded.iter().any(|statuses| statuses.contain(status)) {
            return Seen::Warning;
        }
        let well = match self.status.as_slice() {
            [] => (200..300).contains(&status),
            expected => expected.iter().any(|statuses| statuses.contain(status)),
        };
        if well { Seen::Passing } else { Seen::Failing }
    }

    pub fn judge(&self, status: u16, body: &[u8]) -> Judged {
        let not = |seen, output: String| Judged { seen, output: Some(output), load: None };
        match self.judge_status(status) {
            Seen::Passing => {}
            seen => return not(seen, format!("answered {status}")),
        }
        if !self.reads_body() {
            return Judged { seen: Seen::Passing, output: None, load: None };
        }
        match self.judge_body(body) {
            Ok(load) => Judged { seen: Seen::Passing, output: None, load },
            Err(fault) => not(Seen::Failing, fault),
        }
    }

    fn judge_body(&self, body: &[u8]) -> Result<Option<f32>, String> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| format!("answered no JSON: {error}"))?;
        for (path, expected) in &self.json {
            match member(&body, path) {
                Some(value) if value == expected => {}
                Some(value) => return Err(format!("'{path}' is {}, not {expected}", brief(value))),
                None => return Err(format!("the body has no '{path}'")),
            }
        }
        let Some(path) = &self.load else { return Ok(None) };
        let load = member(&body, path).and_then(Value::as_f64).filter(|load| (0.0..=1.0).contains(load));
        #[expect(clippy::cast_possible_truncation, reason = "a share needs no more digits than that")]
        let load = load.map(|load| load as f32);
        load.map(Some).ok_or_else(|| format!("'{path}' is no number from 0 to 1"))
    }
}

fn member<'v>(body: &'v Value, path: &str) -> Option<&'v Value> {
    // a name with dots in it is found as it stands
    body.get(path).or_else(|| path.split('.').try_fold(body, |value, step| value.get(step)))
}

/// A value as it can stand in a message: it comes from a stranger.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Status codes: one such as 204, a range such as 200-204, or a class such as 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Statuses(RangeInclusive<u16>);

impl Statuses {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        const HELP: Fault =
            Fault::new("must be status codes such as 204, 200-204 or 2xx, each from 100 to 599");
        let code = |text: &str| {
            let all_digits = text.len() == 3 && text.bytes().all(|digit| digit.is_ascii_digit());
            text.parse::<u16>().ok().filter(|code| all_digits && (100..600).contains(code)).ok_or(HELP)
        };
        let range = if let Some((from, to)) = text.split_once('-') {
            code(from)?..=code(to)?
        } else if let Some(class) = text.strip_suffix("xx") {
            let first = code(&format!("{class}00"))?;
            first..=first + 99
        } else {
            let only = code(text)?;
            only..=only
        };
        if range.is_empty() { Err(HELP) } else { Ok(Self(range)) }
    }

    fn contain(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.0.start(), self.0.end());
        if from == to { write!(f, "{from}") } else { write!(f, "{from}-{to}") }
    }
}

impl TryFrom<String> for Statuses {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> Self {
        statuses.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expect(value: Value) -> Expect {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn without_a_word_every_2xx_is_well() {
        for (status, seen) in [
            (200, Seen::Passing),
            (204, Seen::Passing),
            (299, Seen::Passing),
            (199, Seen::Failing),
            (300, Seen::Failing),
            (301, Seen::Failing),
            (404, Seen::Failing),
            (429, Seen::Failing),
            (500, Seen::Failing),
        ] {
            let judged = Expect::default().judge(status, b"");
            assert_eq!(judged.seen, seen, "{status}");
            assert_eq!(judged.output.is_none(), seen == Seen::Passing);
        }
    }

    #[test]
    fn statuses_can_be_named() {
        let rule = expect(json!({"status": ["204", "3xx", "410-412"], "degraded": ["429"]}));
        for (status, seen) in [
            (204, Seen::Passing),
            (200, Seen::Failing),
            (302, Seen::Passing),
            (411, Seen::Passing),
            (413, Seen::Failing),
            (429, Seen::Warning),
        ] {
            assert_eq!(rule.judge(status, b"").seen, seen, "{status}");
        }
        for bad in ["", "2x", "600", "099", "204-200", "2xx-3xx", "+20", "20-2000", "xx", "é"] {
            assert!(Statuses::parse(bad).is_err(), "{bad}");
        }
        for text in ["204", "200-299", "410-412"] {
            assert_eq!(String::from(Statuses::parse(text).unwrap()), text);
        }
        assert_eq!(Statuses::parse("5xx").unwrap().to_string(), "500-599");
        assert!(Statuses::try_from("x".to_owned()).is_err());
    }

    #[test]
    fn a_body_can_be_asked_for_and_gives_its_load() {
        let rule =
            expect(json!({"status": ["200"], "json": {"status": "healthy"}, "load": "load_percentage"}));
        let judge = |body: &str| rule.judge(200, body.as_bytes());
        assert_eq!(
            judge(r#"{"status":"healthy","load_percentage":0.25}"#),
            Judged { seen: Seen::Passing, output: None, load: Some(0.25) }
        );
        for (body, told) in [
            (r#"{"status":"ill","load_percentage":0.25}"#, "'status' is \"ill\", not \"healthy\""),
            (r#"{"load_percentage":0.25}"#, "the body has no 'status'"),
            (r#"{"status":"healthy"}"#, "'load_percentage' is no number from 0 to 1"),
            (r#"{"status":"healthy","load_percentage":1.5}"#, "'load_percentage' is no number from 0 to 1"),
            (r#"{"status":"healthy","load_percentage":"0"}"#, "'load_percentage' is no number from 0 to 1"),
        ] {
            let judged = judge(body);
            assert_eq!((judged.seen, judged.output.as_deref()), (Seen::Failing, Some(told)));
        }
        assert!(judge("<html>").output.unwrap().starts_with("answered no JSON"));
        assert_eq!(rule.judge(204, b"").seen, Seen::Failing);
    }

    #[test]
    fn members_are_found_by_their_path() {
        let rule = expect(json!({"json": {"db.ok": true, "a.b": 1}}));
        assert_eq!(rule.judge(200, br#"{"db":{"ok":true},"a.b":1}"#).seen, Seen::Passing);
        assert_eq!(rule.judge(200, br#"{"db":{"ok":1},"a.b":1}"#).seen, Seen::Failing);
        let long = rule.judge(200, format!(r#"{{"db":{{"ok":"{}"}},"a.b":1}}"#, "é".repeat(500)).as_bytes());
        assert!(long.output.unwrap().chars().count() < 200);
    }
}
