//! Header values that every answer has anew: short texts, written one behind the other into memory that they share.
//!
//! To allocate each by itself costs more than to write it.

use std::cell::RefCell;

use axum::http::HeaderValue;
use bytes::{BufMut, BytesMut};

/// Much longer than a value, so that most find room.
const TOGETHER: usize = 4096;
const LONGEST: usize = 64;
/// Numbers as most answers have them.
const DIGITS: usize = 20;

thread_local! {
    static TEXTS: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static LAST: RefCell<(Option<i64>, HeaderValue)> =
        const { RefCell::new((None, HeaderValue::from_static(""))) };
}

/// A value of at most 64 bytes of visible ASCII.
pub fn value(write: impl FnOnce(&mut BytesMut)) -> HeaderValue {
    let written = TEXTS.with_borrow_mut(|texts| {
        if texts.capacity() < LONGEST {
            *texts = BytesMut::with_capacity(TOGETHER);
        }
        write(texts);
        texts.split().freeze()
    });
    HeaderValue::from_maybe_shared(written).unwrap_or(HeaderValue::from_static(""))
}

pub fn number(number: i64) -> HeaderValue {
    value(|text| put_number(text, number))
}

/// A number that many answers in a row have, as a revision is: it is written once.
pub fn lasting(number: i64) -> HeaderValue {
    LAST.with_borrow_mut(|(last, written)| {
        if *last != Some(number) {
            (*last, *written) = (Some(number), self::number(number));
        }
        written.clone()
    })
}

/// A number as an entity tag.
pub fn quoted(number: i64) -> HeaderValue {
    value(|text| {
        text.put_u8(b'"');
        put_number(text, number);
        text.put_u8(b'"');
    })
}

pub fn put_number(text: &mut impl BufMut, number: i64) {
    let mut digits = [0_u8; DIGITS];
    let mut rest = number.unsigned_abs();
    let mut begin = DIGITS;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        begin = place;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        text.put_u8(b'-');
    }
    text.put_slice(digits.get(begin..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for of in [0, 1, 9, 10, 42, 1_000_000_007, i64::MAX, -1, i64::MIN] {
            assert_eq!(number(of), of.to_string());
            assert_eq!(quoted(of), format!("\"{of}\""));
            assert_eq!((lasting(of), lasting(of)), (number(of), number(of)));
        }
    }

    #[test]
    fn values_stay_as_they_are_while_others_are_written() {
        let values: Vec<_> = (0..10_000).map(number).collect();
        for (of, value) in values.iter().enumerate() {
            assert_eq!(*value, of.to_string());
        }
    }
}
