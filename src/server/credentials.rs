//! What this replica proves by who it is, and what it believes others by.

use std::sync::Arc;

use super::{error::ServeError, tasks::Tasks};
use crate::{
    auth::{Auth, Keys, Tls},
    settings::{Secret, Settings},
};

pub struct Credentials {
    /// `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    pub keys: Keys,
}

impl Credentials {
    pub async fn load(settings: &Settings) -> Result<Self, ServeError> {
        let tls = match settings.tls.clone() {
            Some(tls) => Some(Arc::new(Tls::load(tls).await?)),
            None => None,
        };
        Ok(Self { tls, keys: Keys::load(settings.jwt.clone()).await? })
    }

    /// Who may come in.
    pub fn auth(&self, settings: &Settings) -> Auth {
        let root = settings.root_token.as_ref().map(Secret::reveal);
        Auth::new(settings.is_auth_required(), root, self.keys.clone())
    }

    /// From now on their files are looked at.
    pub fn follow(&self, tasks: &Tasks) {
        tasks.spawn("keys", self.keys.clone().follow(tasks.stop()));
        if let Some(tls) = self.tls.clone() {
            tasks.spawn("tls", tls.follow(tasks.stop()));
        }
    }
}
