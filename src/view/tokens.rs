//! The tokens, by their ids and by what their bearers show.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use crate::domain::{Digest, Token, TokenId};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    all: OrdMap<TokenId, Arc<Token>>,
    by_digest: HashMap<Digest, TokenId>,
}

impl Tokens {
    pub fn get(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.all.get(&id)
    }

    /// To look a digest up tells nobody anything who measures the time it takes: he cannot choose the digest of what he
    /// shows.
    pub fn find(&self, digest: &Digest) -> Option<&Arc<Token>> {
        self.all.get(self.by_digest.get(digest)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, token: Arc<Token>) {
        self.by_digest.insert(token.digest, token.id);
        self.all.insert(token.id, token);
    }

    pub(super) fn remove(&mut self, id: TokenId) {
        if let Some(gone) = self.all.remove(&id) {
            self.by_digest.remove(&gone.digest);
        }
    }
}

impl FromIterator<Arc<Token>> for Tokens {
    fn from_iter<I: IntoIterator<Item = Arc<Token>>>(tokens: I) -> Self {
        let mut all = Self::default();
        tokens.into_iter().for_each(|token| all.insert(token));
        all
    }
}
