//! TLS as the server speaks it: its certificate, its key, and what it asks of its clients.
//!
//! Invariant: what is current is usable. Files that have become bad are told of, and change nothing. Of a key's file
//! nothing is ever shown, not even what is wrong with its text.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_util::sync::CancellationToken;

use super::{certificate, clients::OwnToo, files::Files};
use crate::{clock, settings, telemetry::chain};

const CERT: &str = "ROLLCALL_TLS_CERT";
const KEY: &str = "ROLLCALL_TLS_KEY";
const CLIENT_CA: &str = "ROLLCALL_TLS_CLIENT_CA";
/// The newer first: a client that speaks both gets HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

pub struct Tls {
    settings: settings::Tls,
    files: Files,
    current: ArcSwap<Current>,
}

/// By what a new connection is greeted. One that was greeted by an older one is not touched.
pub struct Current {
    config: Arc<ServerConfig>,
    own: CertificateDer<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the file {} ({setting}) cannot be read", path.display())]
    Unreadable { setting: &'static str, path: PathBuf, source: io::Error },
    #[error("the file {} ({setting}) holds no certificates in PEM", path.display())]
    NoCertificate { setting: &'static str, path: PathBuf },
    #[error("the file {} ({KEY}) holds no private key in PEM that is not encrypted", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate of {} ({CERT}) and the key of {} ({KEY}) cannot be used", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("the authorities of {} ({CLIENT_CA}) cannot be used", path.display())]
    Authorities { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("TLS cannot be set up")]
    Provider(#[source] rustls::Error),
}

impl Tls {
    pub async fn load(settings: settings::Tls) -> Result<Self, TlsError> {
        let authorities = settings.clients.as_ref().map(|clients| clients.authorities.as_path());
        let paths = [settings.certificate.as_path(), &settings.key].into_iter().chain(authorities);
        let files = Files::about_to_be_read(paths).await;
        let current = ArcSwap::from_pointee(Current::load(&settings).await?);
        Ok(Self { settings, files, current })
    }

    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Reads the files again whenever one of them changes, until it is told to stop.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut files = self.files.clone();
        while stop.run_until_cancelled(files.change()).await.is_some() {
            self.read_again().await;
        }
    }

    async fn read_again(&self) {
        match Current::load(&self.settings).await {
            Ok(current) => {
                self.current.store(Arc::new(current));
                tracing::info!("the files for TLS have changed: new connections are greeted by the new ones");
            }
            Err(error) => tracing::warn!(error = chain(&error), "the old files for TLS are kept"),
        }
    }
}

impl Current {
    async fn load(settings: &settings::Tls) -> Result<Self, TlsError> {
        let (certificates, key) = identity(settings).await?;
        let own = certificates
            .first()
            .cloned()
            .ok_or_else(|| TlsError::NoCertificate { setting: CERT, path: settings.certificate.clone() })?;
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Provider)?;
        let builder = match &settings.clients {
            Some(clients) => {
                builder.with_client_cert_verifier(verifier(clients, own.clone(), provider).await?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(|source| TlsError::Pair {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
            source,
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        if settings.clients.is_some() {
            // Whoever resumes a session is not asked for a certificate again, which may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            // Tickets are kept by the clients; the library's own store would hold a few hundred sessions.
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Provider)?;
        }
        if let Some(expires_at) = certificate::expires_at(&own).filter(|end| *end <= clock::now()) {
            tracing::warn!(%expires_at, "the certificate of {CERT} has expired: clients will refuse it");
        }
        Ok(Self { config: Arc::new(config), own })
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// The name in the certificate of a client that has shown one.
    pub fn client_of(&self, connection: &ServerConnection) -> Option<Arc<str>> {
        let shown = connection.peer_certificates()?.first()?;
        if *shown == self.own { None } else { certificate::name_in(shown) }
    }
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The server's certificate with those that lead to its authority, and its key.
pub async fn identity(
    settings: &settings::Tls,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let certificates = certificates(CERT, &settings.certificate).await?;
    let key = read(KEY, &settings.key).await?;
    // Why it cannot be parsed is not told: the reason may quote the key.
    let key =
        PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey { path: settings.key.clone() })?;
    Ok((certificates, key))
}

async fn verifier(
    clients: &settings::Clients,
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |source| TlsError::Authorities { path: clients.authorities.clone(), source };
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, &clients.authorities).await? {
        authorities.add(certificate).map_err(|error| unusable(error.into()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    let others = builder.build().map_err(|error| unusable(error.into()))?;
    Ok(if clients.required { Arc::new(OwnToo { own, others }) } else { others })
}

async fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(setting, path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        // The key may stand in the same file, so here too the reason is not told.
        Ok(_) | Err(_) => Err(TlsError::NoCertificate { setting, path: path.to_owned() }),
    }
}

async fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
