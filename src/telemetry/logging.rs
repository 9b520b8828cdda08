//! Log lines: JSON for machines, or text for a human on a terminal, on standard output.
//!
//! A JSON line is flat: `timestamp`, `level`, `message`, the event's fields and `target` side by side.
//! Invariant: one event is one line, and no byte of it can steer a terminal, whatever a client sent: what is
//! not printable leaves here escaped.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write},
};

use tracing::{Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
        time::FormatTime,
    },
    util::SubscriberInitExt as _,
};

use crate::{
    clock,
    settings::{LogFormat, Settings},
};

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("the levels of ROLLCALL_LOG cannot be used")]
    Levels(#[from] tracing_subscriber::filter::ParseError),
    #[error("another log is already installed in this process")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Installs the log of this process. Panics are logged from then on too: a task that panics is otherwise seen
/// by nobody who reads only the log.
pub fn init_logging(settings: &Settings) -> Result<(), LoggingError> {
    let terminal = io::stdout().is_terminal();
    let human = match settings.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let filter = EnvFilter::try_new(&settings.log)?;
    if human {
        human_lines(filter, terminal, io::stdout).try_init()?;
    } else {
        json_lines(filter, io::stdout).try_init()?;
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn json_lines<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_timer(Timestamp)
        .with_env_filter(filter)
        // A closed standard output must not become a panic for want of a standard error.
        .log_internal_errors(false)
        .with_writer(EscapingJson(writer))
        .finish()
}

fn human_lines<W>(filter: EnvFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .fmt_fields(debug_fn(human_field).delimited(" "))
        .with_ansi(colours)
        .with_timer(Timestamp)
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer)
        .finish()
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let cause = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(cause, place, "A task panicked: this is a defect of rollcall");
}

/// RFC 3339 in UTC with exactly six decimals, so that times sort as text.
struct Timestamp;

impl FormatTime for Timestamp {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", clock::now().format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

fn human_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    for letter in format!("{value:?}").chars() {
        if letter.is_control() {
            write!(writer, "{}", letter.escape_default())?;
        } else {
            write!(writer, "{letter}")?;
        }
    }
    Ok(())
}

/// JSON escapes the control characters below space; DEL and those from U+0080 to U+009F (some terminals obey
/// them) pass as they are. They stand inside strings only, so an escape in their place means the same.
struct EscapingJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for EscapingJson<W> {
    type Writer = EscapingJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingJson(self.0.make_writer())
    }
}

impl<W: Write> Write for EscapingJson<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // An event arrives whole, in one write.
        match str::from_utf8(line) {
            Ok(text) if text.chars().any(steers) => {
                let mut escaped = String::with_capacity(text.len() + 16);
                for letter in text.chars() {
                    if steers(letter) {
                        // Writing to a String cannot fail.
                        let _always_ok = write!(escaped, "\\u{:04x}", u32::from(letter));
                    } else {
                        escaped.push(letter);
                    }
                }
                self.0.write_all(escaped.as_bytes())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn steers(letter: char) -> bool {
    letter.is_control() && letter >= '\u{7f}'
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn json(levels: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json_lines(EnvFilter::new(levels), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        lines.text()
    }

    fn human(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = human_lines(EnvFilter::new("info"), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        lines.text()
    }

    const HOSTILE: &str = "a\n{\"level\":\"ERROR\"}\r\u{1b}[2J\u{7f}\u{9b}31m\u{0}é";

    #[test]
    fn a_json_line_has_its_fields_at_the_top() {
        let text = json("info", || {
            tracing::info!(
                service_name = "billing",
                service_id = "7a",
                address = "10.0.0.1",
                port = 80,
                event_type = "registration",
                "Service registered"
            );
        });
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["message"], "Service registered");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["service_name"], "billing");
        assert_eq!(line["port"], 80);
        assert_eq!(line["event_type"], "registration");
        assert_eq!(line["target"], "rollcall::telemetry::logging::tests");
        let timestamp = line["timestamp"].as_str().expect("a text");
        assert_eq!(timestamp.len(), "2026-01-01T00:00:00.000000Z".len(), "{timestamp}");
        assert!(timestamp.ends_with('Z'));
        assert!(chrono::DateTime::parse_from_rfc3339(timestamp).is_ok());
    }

    #[test]
    fn hostile_text_stays_one_json_line_and_means_the_same() {
        let text = json("info", || tracing::info!(name = HOSTILE, shown = %HOSTILE, "{HOSTILE}"));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        for field in ["message", "name", "shown"] {
            assert_eq!(line[field], HOSTILE);
        }
    }

    #[test]
    fn hostile_text_stays_one_human_line() {
        let text = human(|| tracing::info!(name = HOSTILE, shown = %HOSTILE, debug = ?HOSTILE, "{HOSTILE}"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert!(text.contains("\\u{1b}[2J") && text.contains('é'), "{text}");
    }

    #[test]
    fn a_human_line_reads_like_a_sentence_with_its_fields() {
        let text = human(|| tracing::warn!(service_name = "billing", port = 80, "Service registered"));
        let expected =
            "WARN rollcall::telemetry::logging::tests: Service registered service_name=\"billing\" port=80";
        assert!(text.trim_end().ends_with(expected), "{text}");
    }

    #[test]
    fn the_levels_decide_what_is_logged() {
        assert_eq!(json("warn", || tracing::info!("quiet")), "");
        assert_ne!(json("warn,rollcall=info", || tracing::info!("heard")), "");
    }

    #[test]
    fn a_span_is_shown_with_its_fields() {
        let text = json("info", || {
            let span = tracing::info_span!("request", request_id = "r-1");
            span.in_scope(|| tracing::info!("inside"));
        });
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["span"]["request_id"], "r-1");
    }
}
