//! Who asks whom: the ids that tie an answer, the log and the caller's own traces together.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::BufMut;
use uuid::{Builder, Uuid};

use super::values::value;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of the request at hand: the caller's own, or a new one.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(X_REQUEST_ID).filter(|value| is_valid(value)) {
            Some(value) => Self(value.clone()),
            None => Self::new(),
        }
    }

    fn new() -> Self {
        Self(value(put_new))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Writes a new one.
pub fn put_new(text: &mut impl BufMut) {
    let mut buffer = Uuid::encode_buffer();
    text.put_slice(new_uuid().hyphenated().encode_lower(&mut buffer).as_bytes());
}

fn is_valid(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// A UUID without asking the system for randomness each time: a random start, and from there a walk through the
/// lower 62 bits in steps of an odd size, which meets each value once before it repeats. A thread takes many steps at
/// once, so that threads do not wait for each other's count.
fn new_uuid() -> Uuid {
    static START: OnceLock<Uuid> = OnceLock::new();
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    const AT_ONCE: u64 = 1024;
    thread_local! {
        static OWN: Cell<u64> = const { Cell::new(0) };
    }
    let start = START.get_or_init(Uuid::new_v4).as_u128();
    let mut count = OWN.get();
    if count.is_multiple_of(AT_ONCE) {
        count = TAKEN.fetch_add(AT_ONCE, Ordering::Relaxed);
    }
    OWN.set(count + 1);
    let walk = count.wrapping_mul(STEP) & (u64::MAX >> 2);
    Builder::from_random_bytes((start ^ u128::from(walk)).to_be_bytes()).into_uuid()
}

/// The caller's trace context, where it is one: `00-<trace>-<span>-<flags>`.
pub fn traceparent(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(TRACEPARENT)?;
    is_trace_context(value.to_str().ok()?).then(|| value.clone())
}

fn is_trace_context(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |part: &str| part.bytes().any(|b| b != b'0');
    let mut parts = text.splitn(5, '-');
    let (Some(version), Some(trace), Some(span), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    // a later version of the format may have more parts
    let ends = parts.next().is_none() || version != "00";
    let known = hex(version, 2) && version != "ff" && hex(flags, 2) && ends;
    known && hex(trace, 32) && nonzero(trace) && hex(span, 16) && nonzero(span)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn id_for(sent: &[u8]) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn the_callers_own_id_is_kept_if_it_can_be() {
        let long = [b'a'; 128];
        for sent in [b"a".as_slice(), b"550e8400-e29b", b"~!\"{}", &long] {
            assert_eq!(id_for(sent).as_str().as_bytes(), sent);
        }
        let too_long = [b'a'; 129];
        for sent in [b"".as_slice(), b"a b", "ä".as_bytes(), &too_long] {
            assert!(Uuid::parse_str(id_for(sent).as_str()).is_ok(), "{sent:?}");
        }
        assert!(Uuid::parse_str(RequestId::of(&HeaderMap::new()).as_str()).is_ok());
    }

    #[test]
    fn new_ids_are_random_uuids_and_differ() {
        let of_a_thread = || (0..5000).map(|_| new_uuid()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(of_a_thread)).collect();
        let ids: HashSet<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 20_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
    }

    #[test]
    fn a_trace_context_is_recognised() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, good) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), true),
            (format!("cc-{trace}-00f067aa0ba902b7-01-more"), true),
            (format!("00-{trace}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{trace}-00f067aa0ba902b7-01"), false),
            (format!("00-{trace}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), false),
            (format!("00-{trace}-00f067aa0ba902b7"), false),
            ("garbage".to_owned(), false),
        ] {
            assert_eq!(is_trace_context(&text), good, "{text}");
        }
    }
}
