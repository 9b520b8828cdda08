//! TLS as a check speaks it: whom it believes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::domain::check::Tls;

/// More kinds of trust than this are not remembered.
const MOST_KINDS: usize = 256;

/// Whom to believe, and what is to be spoken.
type Kind = (bool, Option<String>, &'static [u8]);

/// What has been made of the checks' words on trust: to read certificates anew for each request costs more than it.
#[derive(Default)]
pub(super) struct Trust {
    configs: Mutex<HashMap<Kind, Arc<ClientConfig>>>,
}

impl Trust {
    /// Speaks TLS over a connection. `protocol` is what is to be spoken within.
    pub async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        tls: Option<&Tls>,
        protocol: &'static [u8],
    ) -> Result<TlsStream<TcpStream>, String> {
        let tls = tls.cloned().unwrap_or_default();
        let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let config = self.config(tls, protocol)?;
        let secured = TlsConnector::from(config).connect(name, stream).await;
        secured.map_err(|error| format!("TLS: {}", super::root_cause(&error)))
    }

    fn config(&self, tls: Tls, protocol: &'static [u8]) -> Result<Arc<ClientConfig>, String> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tls.verify, tls.ca, protocol);
        if let Some(config) = configs.get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(build(key.0, key.1.as_deref(), protocol)?);
        if configs.len() >= MOST_KINDS {
            configs.clear();
        }
        configs.insert(key, config.clone());
        Ok(config)
    }
}

fn build(verify: bool, ca: Option<&str>, protocol: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let told = |error: rustls::Error| error.to_string();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(told)?;
    let mut config = match (verify, ca) {
        (false, _) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
        (true, Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("the check's own CA: {error}"))?;
                roots.add(certificate).map_err(told)?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        (true, None) => builder.with_platform_verifier().map_err(told)?.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_owned()];
    Ok(config)
}

/// Believes anybody to be the target, because the check says so.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
