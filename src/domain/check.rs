//! What is asked of an instance to learn how it fares, how often, and how the answers count.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{
    duration::{as_optional_text, as_text},
    expect::Expect,
    fault::{Fault, text_within},
    health::{Status, Thresholds},
    ids::Host,
    target::{Address, Endpoint, Place},
};

/// How many checks an instance may have.
pub const MOST_CHECKS: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub id: CheckId,
    #[serde(flatten)]
    pub ask: Ask,
    #[serde(with = "as_text")]
    pub interval: Duration,
    #[serde(with = "as_text")]
    pub timeout: Duration,
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// How often a failure is made sure of before it counts, and after what time.
    pub retries: u32,
    #[serde(with = "as_text")]
    pub retry_delay: Duration,
    /// An instance that has been unhealthy for so long is removed.
    #[serde(with = "as_optional_text")]
    pub deregister_after: Option<Duration>,
    pub initial_status: Status,
}

/// Names a check among those of its instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CheckId(SmolStr);

impl CheckId {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let text = text_within(text, 1, 100)?;
        if text.chars().any(char::is_control) {
            return Err(Fault::new("must not contain control characters"));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CheckId {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

/// The kinds of checks, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Http,
    Tcp,
    Grpc,
    Ttl,
    Script,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Http, Self::Tcp, Self::Grpc, Self::Ttl, Self::Script];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::Ttl => "ttl",
            Self::Script => "script",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The id of a check that was given none: an instance has one of a kind, as a rule.
    pub fn default_id(self) -> CheckId {
        CheckId(SmolStr::new_static(self.as_str()))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    Http(HttpAsk),
    /// That a connection comes about.
    Tcp {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<Address>,
    },
    /// By the standard health protocol.
    Grpc {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<Address>,
        /// Empty for the server as a whole.
        service: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<Tls>,
    },
    /// Nobody asks: the instance tells, at least so often.
    Ttl {
        #[serde(with = "as_text")]
        ttl: Duration,
    },
    /// A program of the folder that the operator allows. No shell.
    Script {
        script: String,
        args: Vec<String>,
    },
}

impl Ask {
    /// Whether it goes to the address of the instance itself.
    pub fn is_at_host(&self) -> bool {
        match self {
            Self::Http(ask) => matches!(ask.place, Place::Path(_)),
            Self::Tcp { url } | Self::Grpc { url, .. } => url.is_none(),
            Self::Ttl { .. } | Self::Script { .. } => false,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Http(_) => Kind::Http,
            Self::Tcp { .. } => Kind::Tcp,
            Self::Grpc { .. } => Kind::Grpc,
            Self::Ttl { .. } => Kind::Ttl,
            Self::Script { .. } => Kind::Script,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpAsk {
    #[serde(flatten)]
    pub place: Place,
    pub method: Method,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Expect::is_default")]
    pub expect: Expect,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl HttpAsk {
    /// Where it asks. With a word on TLS a path is asked for over TLS.
    pub fn url(&self, host: &Host, port: u16) -> String {
        let url = self.place.endpoint().url(host, port);
        match (&self.place, url.strip_prefix("http://")) {
            (Place::Path(_), Some(rest)) if self.tls.is_some() => format!("https://{rest}"),
            _ => url,
        }
    }

    pub fn get(endpoint: Endpoint) -> Self {
        Self {
            place: Place::of(endpoint),
            method: Method::Get,
            headers: BTreeMap::new(),
            expect: Expect::default(),
            tls: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Options,
}

impl Method {
    pub const ALL: [Self; 5] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Options];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Options => "OPTIONS",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text))
    }
}

/// How a target proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// False: any certificate will do.
    pub verify: bool,
    /// Certificates in PEM to trust instead of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name to ask for, where it is not the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None }
    }
}

impl Check {
    pub const INTERVAL: Duration = Duration::from_secs(30);
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// A check with the default of everything that is not what it asks.
    pub fn new(id: CheckId, ask: Ask) -> Self {
        Self {
            id,
            ask,
            interval: Self::INTERVAL,
            timeout: Self::TIMEOUT,
            thresholds: Thresholds::default(),
            retries: 0,
            retry_delay: Duration::ZERO,
            deregister_after: None,
            initial_status: Status::Unknown,
        }
    }

    /// Where it asks, for people. None where nobody asks.
    pub fn target(&self, host: &Host, port: u16) -> Option<String> {
        let at = |url: &Option<Address>| match url {
            Some(address) => address.host.with_port(address.port),
            None => host.with_port(port),
        };
        match &self.ask {
            Ask::Http(ask) => Some(ask.url(host, port)),
            Ask::Tcp { url } => Some(format!("tcp://{}", at(url))),
            Ask::Grpc { url, service, .. } => Some(format!("grpc://{}/{service}", at(url))),
            Ask::Ttl { .. } => None,
            Ask::Script { script, .. } => Some(script.clone()),
        }
    }

    /// The one poll of an instance that was registered without a word about checks.
    pub fn poll(endpoint: Endpoint) -> Self {
        Self::new(Kind::Http.default_id(), Ask::Http(HttpAsk::get(endpoint)))
    }
}

/// The bounds of what a check may say, for all doors.
pub mod bounds {
    use std::{ops::RangeInclusive, time::Duration};

    use crate::domain::{Fault, duration};

    const DAY: Duration = Duration::from_hours(24);

    pub const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
    pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_mins(5);
    pub const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 366);
    pub const RETRY_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
    pub const DEREGISTER_AFTER: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_hours(24 * 366);
    pub const THRESHOLD: RangeInclusive<u16> = 1..=1000;
    pub const RETRIES: RangeInclusive<u16> = 0..=10;

    /// A duration by its text, within bounds.
    pub fn duration_within(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
        let value = duration::parse(text)?;
        if bounds.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (duration::text(*bounds.start()), duration::text(*bounds.end()));
        Err(format!("must be from {least} to {most}").into())
    }
}
