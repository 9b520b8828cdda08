//! Who somebody turned out to be.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};

use crate::domain::{Rights, Token};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As the audit names him.
    pub actor: Arc<str>,
    pub rights: Rights,
}

impl Identity {
    /// Whoever comes where nobody is asked.
    pub fn anybody() -> &'static Arc<Self> {
        static ANYBODY: LazyLock<Arc<Identity>> =
            LazyLock::new(|| Arc::new(Identity { actor: "anonymous".into(), rights: Rights::All }));
        &ANYBODY
    }

    pub(super) fn root() -> Self {
        Self { actor: "root".into(), rights: Rights::All }
    }

    pub(super) fn of_token(token: &Token) -> Self {
        let actor = format!("token:{}", token.name.as_str()).into();
        Self { actor, rights: Rights::Given(token.policies.clone()) }
    }
}

/// An identity, and how long it is one.
#[derive(Clone, Debug)]
pub struct Known {
    pub identity: Arc<Identity>,
    pub until: Option<DateTime<Utc>>,
}
