//! Use cases of tokens.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{App, AppError, Caller, Written, permit};
use crate::{
    auth::digest,
    domain::{
        Action, Command, Digest, Policies, Refusal, Resource, Row, State, Token, TokenId, TokenName,
        registry::CreateToken,
    },
};

/// What a secret begins with, so that it is recognised where it should not be.
const PREFIX: &str = "rct_";

/// What the bearer shows. It is told once and kept nowhere.
pub struct Secret(String);

impl Secret {
    /// 256 random bits.
    fn new() -> Result<Self, AppError> {
        let mut bits = [0_u8; 32];
        rand::fill(&mut bits).map_err(|error| AppError::Internal(Box::new(error)))?;
        Ok(Self(format!("{PREFIX}{}", Digest(bits))))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A token as it is asked for.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: TokenName,
    pub policies: Policies,
    /// None: until it is revoked.
    pub ttl: Option<Duration>,
}

impl App {
    /// The token, and its secret where this request has made it and not an earlier one under the same key.
    pub async fn create_token(
        &self,
        caller: &Caller,
        new: NewToken,
    ) -> Result<Written<(Arc<Token>, Option<Secret>)>, AppError> {
        let NewToken { name, policies, ttl } = new;
        permit(&caller.rights, Resource::Token, Action::Write, name.as_str())?;
        if !caller.rights.cover(&policies) {
            return Err(AppError::MoreThanOwn);
        }
        let secret = Secret::new()?;
        let expires_at = ttl.and_then(|ttl| end_of(ttl, self.now()));
        let command = CreateToken {
            id: TokenId(Uuid::now_v7()),
            name,
            policies,
            digest: digest(secret.reveal().as_bytes()),
            expires_at,
        };
        let outcome = self.0.log.write(caller.clone(), Command::CreateToken(command)).await?;
        let Some(Row::Token(token)) = outcome.row else { return Err(Refusal::NoSuchToken.into()) };
        let secret = (!outcome.recalled).then_some(secret);
        if secret.is_some() {
            tracing::info!(
                token = token.name.as_str(),
                token_id = %token.id,
                actor = &*caller.actor,
                event_type = "token",
                "Token created"
            );
        }
        Ok(Written { revision: outcome.revision, changed: secret.is_some(), value: (token, secret) })
    }

    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<Written<()>, AppError> {
        let known = |snapshot: &super::Snapshot| State::token(snapshot, id);
        let token = match known(&*self.snapshot()?) {
            Some(token) => Some(token),
            // made elsewhere a moment ago
            None => known(&*self.snapshot_at(super::Consistency::Strong).await?),
        };
        if let Some(token) = &token {
            permit(&caller.rights, Resource::Token, Action::Write, token.name.as_str())?;
        } else if caller.idempotency.is_none() {
            return Err(Refusal::NoSuchToken.into());
        }
        let outcome = self.0.log.write(caller.clone(), Command::RevokeToken { id }).await?;
        if let (Some(token), Some(_)) = (token, &outcome.event) {
            tracing::info!(
                token = token.name.as_str(),
                token_id = %id,
                actor = &*caller.actor,
                event_type = "token",
                "Token revoked"
            );
        }
        Ok(Written { revision: outcome.revision, changed: outcome.event.is_some(), value: () })
    }
}

fn end_of(ttl: Duration, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    TimeDelta::from_std(ttl).ok().and_then(|ttl| now.checked_add_signed(ttl))
}
