//! Reads what a registration says of its checks.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::registration::{LONGEST_WORD, MOST_ENTRIES};
use crate::{
    domain::{
        Check, CheckId, Fault, Status,
        check::{Ask, HttpAsk, Kind, MOST_CHECKS, Method, Tls, bounds},
        expect::{Expect, Statuses},
        fault::text_within,
        health::Thresholds,
        target::{Address, Endpoint, Place},
    },
    doors::kit::{
        Fields,
        fields::{number_within, parsed, text, yes_or_no},
    },
};

const LONGEST_HEADER: usize = 4096;
const LONGEST_PATH: usize = 255;
/// Some authorities sign with long chains.
const LONGEST_PEM: usize = 16 * 1024;
/// They say how a message is framed, which is not for its sender to choose.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The checks of a registration, each with an id of its own. None where nothing is said of them. `endpoint` is where an
/// HTTP check goes that does not say so itself.
pub fn read_checks(fields: &mut Fields<'_, '_>, endpoint: &Endpoint) -> Option<Vec<Check>> {
    let checks = fields.objects("checks", MOST_CHECKS, |fields| read_check(fields, endpoint))?;
    for (index, check) in checks.iter().enumerate() {
        if checks.iter().take(index).any(|other| other.id == check.id) {
            let message = format!("'{}' names another check of the list already", check.id);
            fields.refuse(&format!("checks[{index}].id"), message);
        }
    }
    Some(checks)
}

fn read_check(fields: &mut Fields<'_, '_>, endpoint: &Endpoint) -> Option<Check> {
    let kind = fields.required("kind", parsed(kind));
    let id = fields.optional("id", parsed(CheckId::parse));
    let ask = kind.and_then(|kind| match kind {
        Kind::Http => read_http(fields, endpoint),
        Kind::Tcp => Some(Ask::Tcp { url: fields.optional("url", parsed(Address::parse)) }),
        Kind::Grpc => Some(Ask::Grpc {
            url: fields.optional("url", parsed(Address::parse)),
            service: fields.optional("service", text(0, LONGEST_WORD)).unwrap_or_default(),
            tls: read_tls(fields),
        }),
        Kind::Ttl => {
            let ttl = fields.required("ttl", parsed(|text| bounds::duration_within(text, &bounds::TTL)));
            ttl.map(|ttl| Ask::Ttl { ttl })
        }
        Kind::Script => {
            let args = fields.list("args", MOST_ENTRIES, text(0, LONGEST_HEADER));
            fields.required("script", parsed(script)).map(|script| Ask::Script { script, args })
        }
    });
    let mut duration =
        |name: &str, bounds| fields.optional(name, parsed(|text| bounds::duration_within(text, bounds)));
    let interval = duration("interval", &bounds::INTERVAL);
    let timeout = duration("timeout", &bounds::TIMEOUT);
    let retry_delay = duration("retry_delay", &bounds::RETRY_DELAY);
    let deregister_after = duration("deregister_after", &bounds::DEREGISTER_AFTER);
    let retries = fields.optional("retries", number_within(bounds::RETRIES));
    let mut threshold = |name: &str| fields.optional(name, number_within(bounds::THRESHOLD));
    let usual = Thresholds::default();
    let thresholds = Thresholds {
        degraded_after: threshold("degraded_after").unwrap_or(usual.degraded_after),
        unhealthy_after: threshold("unhealthy_after").unwrap_or(usual.unhealthy_after),
        healthy_after: threshold("healthy_after").unwrap_or(usual.healthy_after),
    };
    let initial_status = fields.optional("initial_status", parsed(initial_status));
    let mut check = Check::new(id.unwrap_or_else(|| kind.unwrap_or(Kind::Http).default_id()), ask?);
    check.interval = interval.unwrap_or(check.interval);
    check.timeout = timeout.unwrap_or(check.timeout);
    check.retries = retries.unwrap_or(0).into();
    check.retry_delay = retry_delay.unwrap_or_default();
    check.deregister_after = deregister_after;
    check.thresholds = thresholds;
    check.initial_status = initial_status.unwrap_or(check.initial_status);
    Some(check)
}

fn kind(text: &str) -> Result<Kind, Fault> {
    let names = Kind::ALL.map(Kind::as_str).join(", ");
    Kind::parse(text).ok_or_else(|| format!("must be one of {names}").into())
}

fn initial_status(text: &str) -> Result<Status, Fault> {
    const FIRST: [Status; 5] =
        [Status::Unknown, Status::Starting, Status::Healthy, Status::Degraded, Status::Unhealthy];
    let names = FIRST.map(Status::as_str).join(", ");
    let status = Status::parse(text).filter(|status| FIRST.contains(status));
    status.ok_or_else(|| format!("must be one of {names}").into())
}

fn read_http(fields: &mut Fields<'_, '_>, endpoint: &Endpoint) -> Option<Ask> {
    let path = fields.optional("path", parsed(path));
    let url = fields.optional("url", parsed(whole_url));
    let place = match (path, url) {
        (Some(_), Some(_)) => {
            fields.refuse("path", "says with 'url' where to ask: one of the two is enough");
            return None;
        }
        (Some(path), None) => Place::Path(path),
        (None, Some(url)) => Place::Url(url),
        (None, None) => Place::of(endpoint.clone()),
    };
    let method = fields.optional("method", parsed(method)).unwrap_or(Method::Get);
    let headers = fields.map("headers", MOST_ENTRIES, LONGEST_WORD, text(0, LONGEST_HEADER));
    for (name, value) in &headers {
        if let Err(fault) = header(name, value) {
            fields.refuse(&format!("headers.{name}"), fault);
        }
    }
    let expect = fields.nested("expect", read_expect).unwrap_or_default();
    Some(Ask::Http(HttpAsk { place, method, headers, expect, tls: read_tls(fields) }))
}

fn path(text: &str) -> Result<Endpoint, Fault> {
    let endpoint = Endpoint::parse(text)?;
    if endpoint.is_path() { Ok(endpoint) } else { Err(Fault::new("must begin with '/'")) }
}

fn whole_url(text: &str) -> Result<Endpoint, Fault> {
    let endpoint = Endpoint::parse(text)?;
    if endpoint.is_path() { Err(Fault::new("must be a whole http or https URL")) } else { Ok(endpoint) }
}

fn method(text: &str) -> Result<Method, Fault> {
    let names = Method::ALL.map(Method::as_str).join(", ");
    Method::parse(text).ok_or_else(|| format!("must be one of {names}").into())
}

fn header(name: &str, value: &str) -> Result<(), Fault> {
    let known = name.parse::<HeaderName>().map_err(|_| Fault::new("is no name of a header"))?;
    if FRAMING.contains(&known.as_str()) {
        return Err(Fault::new("is not for a check to set"));
    }
    HeaderValue::from_str(value).map_err(|_| Fault::new("must have visible ASCII characters only"))?;
    Ok(())
}

fn read_expect(fields: &mut Fields<'_, '_>) -> Expect {
    Expect {
        status: fields.one_or_more("status", MOST_ENTRIES, statuses),
        degraded: fields.one_or_more("degraded", MOST_ENTRIES, statuses),
        json: fields
            .nested("json", |members| {
                let mut json = BTreeMap::new();
                for (path, value) in members.others(&[]) {
                    match text_within(&path, 1, LONGEST_PATH) {
                        Ok(_) => drop(json.insert(path, value)),
                        Err(fault) => members.refuse("", fault),
                    }
                }
                json
            })
            .unwrap_or_default(),
        load: fields.optional("load", text(1, LONGEST_PATH)),
    }
}

/// A number is a status code too, however it is written.
fn statuses(value: &Value) -> Result<Statuses, Fault> {
    match value {
        Value::Number(_) => Statuses::parse(&number_within(100..=599)(value)?.to_string()),
        value => parsed(Statuses::parse)(value),
    }
}

/// `true` is the machine's own trust in certificates.
fn read_tls(fields: &mut Fields<'_, '_>) -> Option<Tls> {
    if let Some(wanted) = fields.flag("tls") {
        return wanted.then(Tls::default);
    }
    fields.nested("tls", |fields| Tls {
        verify: fields.optional("verify", yes_or_no).unwrap_or(true),
        ca: fields.optional("ca", parsed(certificates)),
        server_name: fields.optional("server_name", text(1, LONGEST_WORD)),
    })
}

fn certificates(text: &str) -> Result<String, Fault> {
    let text = text_within(text, 1, LONGEST_PEM)?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Fault::new("must be certificates in PEM"));
    }
    Ok(text.to_owned())
}

/// A file's name, and no way out of its folder.
fn script(text: &str) -> Result<String, Fault> {
    let text = text_within(text, 1, LONGEST_WORD)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.starts_with(['.', '-']) || !text.chars().all(allowed) {
        return Err(Fault::new("must be the name of a file: ASCII letters, digits, '-', '_' and '.'"));
    }
    Ok(text.to_owned())
}
