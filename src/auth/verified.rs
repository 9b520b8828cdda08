//! Those of the signed tokens that were found to be good: to verify one again costs more than the rest of a request.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};

use super::{
    Identity, Known,
    jwt::{Keys, LEEWAY},
};
use crate::{
    domain::{Digest, Rights, ServiceName},
    telemetry::chain,
};

/// How many are kept. Services renew their tokens, so that old ones make room by themselves.
const MOST: usize = 10_000;

pub struct Verified {
    keys: Keys,
    good: RwLock<Good>,
}

/// What was verified by the keys of one generation.
#[derive(Default)]
struct Good {
    generation: u64,
    known: HashMap<Digest, (Arc<Identity>, DateTime<Utc>)>,
}

impl Verified {
    pub fn by(keys: Keys) -> Self {
        Self { keys, good: RwLock::default() }
    }

    pub fn generation(&self) -> u64 {
        self.keys.generation()
    }

    /// Whose token this is. None where it is not to be believed.
    pub fn identify(&self, token: &str, digest: Digest, now: DateTime<Utc>) -> Option<Known> {
        // read before it is verified: by newer keys it is verified again
        let generation = self.generation();
        if let Some(known) = self.recall(&digest, generation, now) {
            return Some(known);
        }
        let claims = match self.keys.verify(token, now) {
            Ok(claims) => claims,
            Err(refused) => {
                tracing::debug!(reason = chain(&refused), "a token is not believed");
                return None;
            }
        };
        let service = match ServiceName::parse(&claims.service_name) {
            Ok(service) => service,
            Err(fault) => {
                tracing::debug!(reason = chain(&fault), "a token names something that is no service");
                return None;
            }
        };
        let until = claims.expires_at + LEEWAY;
        let identity =
            Arc::new(Identity { actor: format!("jwt:{service}").into(), rights: Rights::Own(service) });
        self.remember(digest, generation, (identity.clone(), until), now);
        Some(Known { identity, until: Some(until) })
    }

    fn recall(&self, digest: &Digest, generation: u64, now: DateTime<Utc>) -> Option<Known> {
        let good = self.good.read().unwrap_or_else(PoisonError::into_inner);
        let (identity, until) = good.known.get(digest).filter(|_| good.generation == generation)?;
        (now < *until).then(|| Known { identity: identity.clone(), until: Some(*until) })
    }

    fn remember(
        &self,
        digest: Digest,
        generation: u64,
        known: (Arc<Identity>, DateTime<Utc>),
        now: DateTime<Utc>,
    ) {
        let mut good = self.good.write().unwrap_or_else(PoisonError::into_inner);
        if good.generation > generation {
            return;
        }
        if good.generation < generation {
            *good = Good { generation, known: HashMap::new() };
        }
        if good.known.len() >= MOST {
            good.known.retain(|_, (_, until)| now < *until);
        }
        if good.known.len() >= MOST {
            good.known.clear();
        }
        good.known.insert(digest, known);
    }
}
