//! An error with all its causes, as one text.

use std::error::Error;

/// The error and its causes, each once: some errors repeat their cause in their own text.
pub fn chain(error: &dyn Error) -> String {
    chain_with(error, ": ")
}

pub fn chain_with(error: &dyn Error, separator: &str) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !last.ends_with(&next) {
            text.push_str(separator);
            text.push_str(&next);
        }
        last = next;
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer one: {0}")]
    struct Repeating(#[source] Plain);

    #[derive(Debug, thiserror::Error)]
    #[error("the middle one")]
    struct Plain(#[source] io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Repeating(Plain(io::Error::other("the root")));
        assert_eq!(chain_with(&error, "\ncaused by: "), "the outer one: the middle one\ncaused by: the root");
    }
}
