//! The parameters of a query, strictly: a broken escape, a repeated single value or a bad value is told, not
//! guessed at. Unknown parameters mean nothing.

use std::fmt::Display;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::problem::Problem;
use crate::domain::{Fault, Violation};

#[derive(Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
    violations: Vec<Violation>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Params {
    pub fn parse(query: &str) -> Result<Self, Problem> {
        let mut params = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Ok(name), Ok(value)) => params.pairs.push((name, value)),
                (Err(fault), _) => params.refuse("query", fault),
                (Ok(name), Err(fault)) => params.refuse(&name, fault),
            }
        }
        if params.violations.is_empty() { Ok(params) } else { Err(Problem::bad_parameter(params.violations)) }
    }

    pub fn refuse(&mut self, name: &str, message: impl Display) {
        self.violations.push(Violation::new(name, message));
    }

    /// A parameter that may be given once.
    pub fn read<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        let mut values =
            self.pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next()?;
        let result =
            if values.next().is_some() { Err(Fault::new("may be given only once")) } else { read(first) };
        result.map_err(|fault| self.refuse(name, fault)).ok()
    }

    /// A parameter that may be given any number of times.
    pub fn read_all<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, Fault>) -> Vec<T> {
        let mut found = Vec::new();
        for (_, value) in self.pairs.iter().filter(|(known, _)| known == name) {
            match read(value) {
                Ok(value) => found.push(value),
                Err(fault) => self.violations.push(Violation::new(name, fault)),
            }
        }
        found
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        self.read(name, |value| Ok(value.to_owned()))
    }

    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, |value| match value {
            _ if value.eq_ignore_ascii_case("true") => Ok(true),
            _ if value.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(Fault::new("must be true or false")),
        })
    }

    /// A whole number within bounds.
    pub fn number(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        self.read(name, |value| {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            digits
                .then(|| value.parse().ok())
                .flatten()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("must be an integer from {least} to {most}").into())
        })
    }

    /// Refuses parameters that would change the answer, and that this version cannot follow.
    pub fn not_supported(&self, names: &[&str]) -> Result<(), Problem> {
        let violations: Vec<_> = names
            .iter()
            .filter(|name| self.pairs.iter().any(|(known, _)| known == *name))
            .map(|name| Violation::new(*name, "is not supported by this version"))
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        let detail = "the answer would depend on parameters that this version does not support";
        Err(Problem::new(StatusCode::BAD_REQUEST, "not_supported", detail).with_violations(violations))
    }

    /// To be called when all parameters were read: tells every fault that was found.
    pub fn finish(&mut self) -> Result<(), Problem> {
        if self.violations.is_empty() {
            return Ok(());
        }
        Err(Problem::bad_parameter(std::mem::take(&mut self.violations)))
    }

    /// The query again, but with `name` set to `value`.
    pub fn with(&self, name: &str, value: &str) -> String {
        let kept = self.pairs.iter().filter(|(known, _)| known != name);
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair(name, value);
        query.finish()
    }
}

fn decode(text: &str) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_pair(rest.next(), rest.next())
                .ok_or(Fault::new("has a '%' that no two hexadecimal digits follow"))?,
            _ => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| Fault::new("is not UTF-8"))?;
    crate::domain::fault::without_nul(&text)?;
    Ok(text)
}

/// Whether a path's escapes are whole and come to UTF-8.
pub fn is_sound_path(path: &str) -> bool {
    !path.contains('%') || decode(path).is_ok()
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn fields(problem: &Problem) -> Vec<String> {
        let body = serde_json::to_value(problem.body("", "")).unwrap();
        let errors = body["errors"].as_array().unwrap().iter();
        errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn values_are_decoded() {
        let mut params = Params::parse("q=a+b%20c%C3%A9&tag=x%3Dy&tag=auth=&&empty&limit=7").unwrap();
        assert_eq!(params.text("q").as_deref(), Some("a b cé"));
        assert_eq!(params.text("empty").as_deref(), Some(""));
        assert_eq!(params.text("absent"), None);
        assert_eq!(params.read_all("tag", |tag| Ok(tag.to_owned())), ["x=y", "auth="]);
        assert_eq!(params.number("limit", 1, 10), Some(7));
        params.finish().unwrap();
    }

    #[test]
    fn broken_escapes_are_refused() {
        for query in ["q=%", "q=%zz", "q=%4", "q=%ff", "q=%C3", "q=a%00b", "q=%+4"] {
            assert_eq!(fields(&Params::parse(query).unwrap_err()), ["q"], "{query}");
        }
        assert_eq!(fields(&Params::parse("%ff=1").unwrap_err()), ["query"]);
        for (path, sound) in
            [("/a", true), ("/a%20b+", true), ("/%C3%A9", true), ("/%", false), ("/%FF", false)]
        {
            assert_eq!(is_sound_path(path), sound, "{path}");
        }
    }

    #[test]
    fn every_bad_value_is_told_at_once() {
        let mut params = Params::parse("a=1&a=2&n=x&b=maybe&m=99999999999999999999&s=-1").unwrap();
        assert_eq!(params.text("a"), None);
        assert_eq!(params.number("n", 1, 10), None);
        assert_eq!(params.flag("b"), None);
        assert_eq!(params.number("m", 0, i64::MAX), None);
        assert_eq!(params.number("s", -5, 5), None);
        assert_eq!(fields(&params.finish().unwrap_err()), ["a", "n", "b", "m", "s"]);
    }

    #[test]
    fn flags_are_true_or_false() {
        let mut params = Params::parse("a=true&b=False&c=1").unwrap();
        assert_eq!((params.flag("a"), params.flag("b"), params.flag("c")), (Some(true), Some(false), None));
    }

    #[test]
    fn what_comes_with_a_later_version_is_named() {
        let params = Params::parse("near=eu&other=1").unwrap();
        params.not_supported(&["filter"]).unwrap();
        let problem = params.not_supported(&["filter", "near"]).unwrap_err();
        assert_eq!(fields(&problem), ["near"]);
        let body = serde_json::to_value(problem.body("", "")).unwrap();
        assert_eq!(body["code"], Value::from("not_supported"));
    }

    #[test]
    fn a_query_can_be_written_again() {
        let params = Params::parse("tag=a%3Db&cursor=old&q=x+y%26").unwrap();
        assert_eq!(params.with("cursor", "new"), "tag=a%3Db&q=x+y%26&cursor=new");
    }
}
