//! What this replica proves by who it is, and what it believes others by.

use std::sync::Arc;

use super::{error::ServeError, tasks::Tasks};
use crate::{
    auth::{Keys, Tls},
    settings::Settings,
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

    /// From now on their files are looked at.
    pub fn follow(&self, tasks: &Tasks) {
        tasks.spawn("keys", self.keys.clone().follow(tasks.stop()));
        if let Some(tls) = self.tls.clone() {
            tasks.spawn("tls", tls.follow(tasks.stop()));
        }
    }
}
