//! What is wrong with a value, in words for the person who sent it.

use std::borrow::Cow;

use thiserror::Error;

/// Why a single value was refused. The caller knows which field it stood in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Fault(pub Cow<'static, str>);

impl Fault {
    pub const fn new(message: &'static str) -> Self {
        Self(Cow::Borrowed(message))
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self(Cow::Owned(message))
    }
}

/// A fault and the field it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub message: String,
}

impl Violation {
    pub fn new(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

/// `PostgreSQL` text cannot hold U+0000, so no text with it gets past the domain.
pub fn without_nul(text: &str) -> Result<&str, Fault> {
    if text.contains('\0') { Err(Fault::new("must not contain the character U+0000")) } else { Ok(text) }
}

/// A text of `shortest..=longest` characters that `PostgreSQL` can hold.
pub fn text_within(text: &str, shortest: usize, longest: usize) -> Result<&str, Fault> {
    let length = text.chars().count();
    if length < shortest || length > longest {
        return Err(format!("must have {shortest} to {longest} characters, has {length}").into());
    }
    without_nul(text)
}
