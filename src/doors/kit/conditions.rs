//! What a caller demands of the state it meets: If-Match and If-None-Match, as RFC 9110 has them.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{IF_MATCH, IF_NONE_MATCH},
        request::Parts,
    },
};

use super::{problem::Problem, values};
use crate::domain::{Precondition, Version, Violation};

/// The entity tag of a version or a revision: the number in quotes.
pub fn entity_tag(number: i64) -> HeaderValue {
    values::quoted(number)
}

/// The precondition of a write.
#[derive(Debug)]
pub struct Preconditions(pub Precondition);

impl<S: Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        precondition(&parts.headers).map(Self).map_err(|violation| Problem::bad_parameter(vec![violation]))
    }
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, Violation> {
    let if_match = list_of(headers, &IF_MATCH)?;
    let if_none_match = list_of(headers, &IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::None),
        (Some(_), Some(_)) => Err(Violation::new("If-None-Match", "cannot be used together with If-Match")),
        (Some(Tags::Any), None) => Ok(Precondition::Exists),
        (Some(Tags::List(tags)), None) => {
            Ok(Precondition::Version(tags.iter().filter_map(Tag::version).collect()))
        }
        (None, Some(Tags::Any)) => Ok(Precondition::Absent),
        (None, Some(Tags::List(_))) => {
            Err(Violation::new("If-None-Match", "must be * where something is written"))
        }
    }
}

fn list_of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Violation> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    Tags::parse(values).map(Some).ok_or_else(|| {
        let name = if *name == IF_MATCH { "If-Match" } else { "If-None-Match" };
        Violation::new(name, "must be * or a list of entity tags such as \"3\"")
    })
}

/// What a reader has already.
#[derive(Debug, Default)]
pub struct IfNoneMatch(Option<Tags>);

impl IfNoneMatch {
    /// Whether the reader has what this tag stands for. The comparison is weak: a tag that a proxy weakened counts.
    pub fn has(&self, tag: &HeaderValue) -> bool {
        match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::List(tags)) => tag.as_bytes().strip_prefix(b"\"").is_some_and(|rest| {
                tags.iter().any(|known| rest.strip_suffix(b"\"") == Some(known.opaque.as_bytes()))
            }),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    /// A condition that cannot be understood is not met: the reader gets the whole answer.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if !parts.headers.contains_key(IF_NONE_MATCH) {
            return Ok(Self(None));
        }
        Ok(Self(Tags::parse(parts.headers.get_all(IF_NONE_MATCH).iter())))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: String,
}

impl Tags {
    fn parse<'h>(values: impl Iterator<Item = &'h HeaderValue>) -> Option<Self> {
        let mut tags = Vec::new();
        let mut any = false;
        for value in values {
            let mut rest = value.to_str().ok()?.trim();
            if rest == "*" {
                any = true;
                continue;
            }
            while !rest.is_empty() {
                let (tag, after) = Tag::take(rest)?;
                tags.push(tag);
                rest = after.trim_start();
                rest = match rest.strip_prefix(',') {
                    Some(more) => more.trim_start(),
                    None if rest.is_empty() => rest,
                    None => return None,
                };
            }
        }
        match (any, tags.is_empty()) {
            (true, true) => Some(Self::Any),
            (false, false) => Some(Self::List(tags)),
            _ => None,
        }
    }
}

impl Tag {
    /// The tag at the beginning of a text, and what follows it. A bare number is taken for the tag it stands for.
    fn take(text: &str) -> Option<(Self, &str)> {
        let (weak, text) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (opaque, rest) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None if weak => return None,
            None => {
                let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                text.split_at_checked(end).filter(|(number, _)| !number.is_empty())?
            }
        };
        Some((Self { weak, opaque: opaque.to_owned() }, rest))
    }

    /// The version it names. A weak tag names none, nor does one that was not made here.
    fn version(&self) -> Option<Version> {
        let version: Version = self.opaque.parse().ok()?;
        (!self.weak && version.to_string() == self.opaque).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn if_match_names_versions() {
        for (values, expected) in [
            (vec![], Ok(Precondition::None)),
            (vec!["*"], Ok(Precondition::Exists)),
            (vec!["\"3\""], Ok(Precondition::Version(vec![3]))),
            (vec!["3"], Ok(Precondition::Version(vec![3]))),
            (vec!["\"3\", 4 ,\"a,b\""], Ok(Precondition::Version(vec![3, 4]))),
            (vec!["\"3\"", "\"5\""], Ok(Precondition::Version(vec![3, 5]))),
            (vec!["W/\"3\""], Ok(Precondition::Version(vec![]))),
            (vec!["\"03\", \"+3\", \"\", \"99999999999999999999\""], Ok(Precondition::Version(vec![]))),
            (vec![""], Err(())),
            (vec!["abc"], Err(())),
            (vec!["\"3"], Err(())),
            (vec!["\"3\" \"4\""], Err(())),
            (vec!["3x"], Err(())),
            (vec!["W/3"], Err(())),
            (vec!["-1"], Err(())),
            (vec!["*", "\"3\""], Err(())),
        ] {
            let list: Vec<_> = values.iter().map(|value| (IF_MATCH, *value)).collect();
            assert_eq!(precondition(&headers(&list)).map_err(|_| ()), expected, "{values:?}");
        }
        let violation = precondition(&headers(&[(IF_MATCH, "abc")])).unwrap_err();
        assert_eq!(violation.field, "If-Match");
    }

    #[test]
    fn if_none_match_on_a_write_means_create_only() {
        assert_eq!(precondition(&headers(&[(IF_NONE_MATCH, "*")])), Ok(Precondition::Absent));
        assert!(precondition(&headers(&[(IF_NONE_MATCH, "\"3\"")])).is_err());
        assert!(precondition(&headers(&[(IF_NONE_MATCH, "*"), (IF_MATCH, "\"3\"")])).is_err());
    }

    #[tokio::test]
    async fn a_reader_that_has_it_already_is_recognised() {
        for (sent, has) in [
            (None, false),
            (Some("\"7\""), true),
            (Some("W/\"7\""), true),
            (Some("\"6\", \"7\""), true),
            (Some("*"), true),
            (Some("\"8\""), false),
            (Some("garbage"), false),
        ] {
            let mut request = axum::http::Request::new(());
            if let Some(sent) = sent {
                request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static(sent));
            }
            let (mut parts, ()) = request.into_parts();
            let condition = IfNoneMatch::from_request_parts(&mut parts, &()).await.unwrap();
            assert_eq!(condition.has(&entity_tag(7)), has, "{sent:?}");
        }
    }
}
