//! Who asks, and what he may do.
//!
//! A connection remembers who its last request was from. What it remembers falls with any change of tokens or keys, and
//! is looked at anew after a while in any case: a clock may have been set.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{App, AppError, Snapshot};
use crate::{
    auth::{Credential, Identity, Known, Refused},
    domain::{Action, InstanceId, Resource, Rights, ServiceName},
    view::Tokens,
};

/// How long it is taken for granted.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// Who spoke last on a connection.
#[derive(Default)]
pub struct Memory(ArcSwapOption<Remembered>);

/// By hand: it holds what was shown.
impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

/// All that a plain question needs lies together: it is looked at for each of them.
struct Remembered {
    tokens: Arc<Tokens>,
    keys: u64,
    until: Instant,
    /// Whether he may read every service.
    reads_all: bool,
    authorization: Option<Text>,
    identity: Arc<Identity>,
}

impl Remembered {
    fn is_of(&self, shown: Credential<'_>) -> bool {
        match (&self.authorization, shown.authorization) {
            (Some(known), Some(shown)) => verify_slices_are_equal(known.bytes(), shown).is_ok(),
            (None, None) => true,
            _ => false,
        }
    }
}

/// A text that is mostly short.
enum Text {
    Short { length: usize, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// As long as a token that was given here, and its scheme.
const SHORT: usize = 96;

impl Text {
    fn of(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                Self::Short { length: text.len(), bytes }
            }
            None => Self::Long(text.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..*length).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl App {
    /// Who shows this. Known at once where it is what the connection showed before.
    pub fn identify(&self, shown: Credential<'_>, memory: &Memory) -> Result<Arc<Identity>, Refused> {
        let auth = &self.0.auth;
        if !auth.is_required() {
            return Ok(Identity::anybody().clone());
        }
        let snapshot = self.0.view.snapshot();
        let asked = Instant::now();
        let mut known = None;
        if self.knows(shown, memory, &snapshot, asked, |of| known = Some(of.identity.clone())) {
            return known.ok_or(Refused::Invalid);
        }
        // read before they are used: what changes meanwhile makes the memory fall
        let keys = auth.generation();
        let now = self.now();
        let Known { identity, until } =
            auth.identify(shown, |digest| snapshot.tokens().find(digest).cloned(), now)?;
        let left = until.map_or(REMEMBERED_FOR, |end| (end - now).to_std().unwrap_or_default());
        memory.0.store(Some(Arc::new(Remembered {
            tokens: snapshot.tokens().clone(),
            keys,
            until: asked + left.min(REMEMBERED_FOR),
            reads_all: identity.rights.allow_all(Resource::Service, Action::Read),
            authorization: shown.authorization.map(Text::of),
            identity: identity.clone(),
        })));
        Ok(identity)
    }

    /// Whether the connection remembers who shows this, where that matters.
    pub fn remembers(&self, shown: Credential<'_>, memory: &Memory) -> bool {
        !self.0.auth.is_required()
            || self.knows(shown, memory, &self.0.view.snapshot(), Instant::now(), |_| ())
    }

    /// Whether the connection remembers who shows this, and that he may do this to this service.
    pub fn lets(
        &self,
        action: Action,
        shown: Credential<'_>,
        memory: &Memory,
        snapshot: &Snapshot,
        now: Instant,
        service: &str,
    ) -> bool {
        if !self.0.auth.is_required() {
            return true;
        }
        let mut may = false;
        self.knows(shown, memory, snapshot, now, |of| {
            may = (action == Action::Read && of.reads_all)
                || of.identity.rights.allow(Resource::Service, action, service);
        });
        may
    }

    fn knows(
        &self,
        shown: Credential<'_>,
        memory: &Memory,
        snapshot: &Snapshot,
        now: Instant,
        tell: impl FnOnce(&Remembered),
    ) -> bool {
        let remembered = memory.0.load();
        let Some(remembered) = remembered.as_ref() else { return false };
        let holds = now < remembered.until
            && remembered.keys == self.0.auth.generation()
            && Arc::ptr_eq(&remembered.tokens, snapshot.tokens())
            && remembered.is_of(shown);
        if holds {
            tell(remembered);
        }
        holds
    }

    /// The service of an instance. One that is not known here may have registered elsewhere a moment ago.
    pub async fn service_of(&self, id: InstanceId) -> Result<Option<ServiceName>, AppError> {
        let service = |snapshot: &Snapshot| snapshot.find(id).map(|instance| instance.service.clone());
        if let Some(known) = service(&*self.snapshot()?) {
            return Ok(Some(known));
        }
        Ok(service(&*self.snapshot_at(super::Consistency::Strong).await?))
    }
}

/// Refuses what somebody may not do.
pub fn permit(rights: &Rights, resource: Resource, action: Action, name: &str) -> Result<(), AppError> {
    if rights.allow(resource, action, name) {
        return Ok(());
    }
    Err(AppError::Forbidden { resource, action })
}
