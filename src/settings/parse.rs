//! From the text of a setting to its type: pure functions, one a kind of value.
//!
//! Invariant: each says only yes or why not; naming the setting and its source is the caller's, who knows.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// More than a process can have file descriptors for, or can answer in a second.
const MOST: usize = 1_000_000;

pub fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

pub fn address(text: &str) -> Option<SocketAddr> {
    text.trim().parse().ok()
}

/// At least one: zero connections would be a server that serves nobody.
pub fn count(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|count| (1..=MOST).contains(count))
}

/// The same, for what is reckoned with.
pub fn small_count(text: &str) -> Option<u32> {
    count(text).and_then(|count| u32::try_from(count).ok())
}

/// Absolute, so that no later change of the working folder (or of the user) moves it.
#[expect(clippy::unnecessary_wraps, reason = "it stands beside the others in one table of parsers")]
pub fn path(text: &str) -> Option<PathBuf> {
    Some(std::path::absolute(text).unwrap_or_else(|_| Path::new(text).to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside the others in one table of parsers")]
pub fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Whether a certificate is required.
pub fn required(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "optional" => Some(false),
        "required" => Some(true),
        _ => None,
    }
}

pub fn log_format(text: &str) -> Option<LogFormat> {
    match text.trim().to_ascii_lowercase().as_str() {
        "auto" => Some(LogFormat::Auto),
        "json" => Some(LogFormat::Json),
        "human" => Some(LogFormat::Human),
        _ => None,
    }
}

/// A mistyped level is a valid directive (it switches on the module of that name and silences all else), so a
/// lone word must be a level.
pub fn log_levels(text: &str) -> Option<String> {
    let lone_words = text.split(',').map(str::trim).filter(|part| !part.contains(['=', ':', '[', '/']));
    for word in lone_words.filter(|word| !word.is_empty()) {
        word.parse::<tracing::level_filters::LevelFilter>().ok()?;
    }
    EnvFilter::try_new(text.trim()).ok()?;
    Some(text.trim().to_owned())
}

/// Nobody must be able to guess it, and everybody must be able to send it in a header.
pub fn root_token(text: &str) -> Result<&str, &'static str> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has spaces, or characters that are not ASCII");
    }
    if text.len() < 32 { Err("it is shorter than 32 characters") } else { Ok(text) }
}

/// Checks what can be known without connecting. The reason never quotes the text: all of it may be secret when
/// it is not the URL that it should be.
pub fn database_url(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let url = url::Url::parse(text).map_err(|error| match error {
        url::ParseError::InvalidPort => "the port is not a number up to 65535",
        url::ParseError::EmptyHost
        | url::ParseError::IdnaError
        | url::ParseError::InvalidIpv4Address
        | url::ParseError::InvalidIpv6Address
        | url::ParseError::InvalidDomainCharacter => "the host is not valid",
        _ => "it is not a URL",
    })?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("it does not begin with postgres:// or postgresql://");
    }
    // What follows an unencoded # is cut off by every parser: a part of the password, most times.
    if url.fragment().is_some() {
        return Err("it holds a # that is not encoded as %23");
    }
    if url.cannot_be_a_base() || !text.contains("://") {
        return Err("the // after the scheme is missing");
    }
    let socket = url.query_pairs().any(|(key, value)| key == "host" && !value.is_empty());
    if url.host_str().is_none_or(str::is_empty) && !socket {
        return Err("it names no host (a socket's folder goes into ?host=/folder)");
    }
    Ok(text.to_owned())
}

/// For logs: who and where, without the password and without the parameters, which may hold one too.
pub fn redacted(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return "(not a URL)".to_owned() };
    let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{user}{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_judged_without_connecting() {
        for good in [
            "postgres://rollcall:secret@db.example:5432/rollcall",
            "postgresql://rollcall@localhost/rollcall?sslmode=require",
            "postgres://u:p%40ss%23@[::1]:5433/x",
            "postgresql:///rollcall?host=/var/run/postgresql&user=rollcall",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/rollcall",
            " postgres://u@h/d ",
        ] {
            assert_eq!(database_url(good), Ok(good.trim().to_owned()));
        }
        for (bad, reason) in [
            ("host=localhost password=s3cret", "it is not a URL"),
            ("rollcall:s3cret@localhost/rollcall", "it does not begin with postgres:// or postgresql://"),
            ("mysql://u:s3cret@localhost/x", "it does not begin with postgres:// or postgresql://"),
            ("postgres://u:s3cret@localhost:54x2/x", "the port is not a number up to 65535"),
            ("postgres://u:s3cret@localhost:99999/x", "the port is not a number up to 65535"),
            ("postgres://u:s3cret@[::g]/x", "the host is not valid"),
            ("postgres://u:s3#cret@localhost/x", "the port is not a number up to 65535"),
            ("postgres://u:12#cret@localhost/x", "it holds a # that is not encoded as %23"),
            ("postgres:u:s3cret@localhost/x", "the // after the scheme is missing"),
            ("postgres:/rollcall", "the // after the scheme is missing"),
            ("postgres:///rollcall", "it names no host (a socket's folder goes into ?host=/folder)"),
        ] {
            assert_eq!(database_url(bad), Err(reason), "{bad}");
        }
    }

    #[test]
    fn a_redacted_url_says_where_but_not_how() {
        assert_eq!(
            redacted("postgres://rollcall:s3cret@db:5432/registry?password=s3cret"),
            "postgres://rollcall@db:5432/registry"
        );
        assert_eq!(redacted("postgresql:///x?host=/run&password=s3cret"), "postgresql:///x");
        assert_eq!(redacted("s3cret"), "(not a URL)");
    }

    #[test]
    fn a_mistyped_level_is_not_taken_for_a_module() {
        for good in
            ["info", "WARN", "off", "info,sqlx=warn", "rollcall::log=debug,info", "warn,[request]=trace"]
        {
            assert_eq!(log_levels(good).as_deref(), Some(good));
        }
        for bad in ["inof", "info,verbose", "info,sqlx=loud", "rollcall=debug=info"] {
            assert_eq!(log_levels(bad), None, "{bad}");
        }
    }

    #[test]
    fn switches_are_understood_in_the_usual_spellings() {
        for (text, value) in [
            ("on", Some(true)),
            (" True ", Some(true)),
            ("yes", Some(true)),
            ("1", Some(true)),
            ("OFF", Some(false)),
            ("false", Some(false)),
            ("no", Some(false)),
            ("0", Some(false)),
            ("maybe", None),
            ("2", None),
        ] {
            assert_eq!(switch(text), value, "{text}");
        }
    }
}
