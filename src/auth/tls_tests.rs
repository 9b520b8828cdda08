use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With the files of a server that is known to itself only.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        folder.write("cert.pem", &certificate.pem());
        folder.write("key.pem", &key.serialize_pem());
        folder
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn settings(&self) -> settings::Tls {
        let path = |name: &str| self.0.path().join(name);
        settings::Tls { certificate: path("cert.pem"), key: path("key.pem"), clients: None }
    }

    async fn refused(&self) -> String {
        chain(&Current::load(&self.settings()).await.err().expect("it is refused"))
    }
}

fn with_authorities(folder: &Folder, authorities: &Path) -> settings::Tls {
    let clients = settings::Clients { authorities: authorities.to_owned(), required: true };
    settings::Tls { clients: Some(clients), ..folder.settings() }
}

#[tokio::test]
async fn good_files_are_taken_in_one_or_in_two() {
    let folder = Folder::new();
    assert!(Current::load(&folder.settings()).await.is_ok());
    let both = folder.read("key.pem") + &folder.read("cert.pem");
    folder.write("cert.pem", &both);
    folder.write("key.pem", &both);
    assert!(Current::load(&folder.settings()).await.is_ok());
    assert!(Current::load(&with_authorities(&folder, &folder.settings().certificate)).await.is_ok());
}

#[tokio::test]
async fn a_bad_file_is_named_with_its_setting_and_nothing_of_the_key_is_shown() {
    let folder = Folder::new();
    let (certificate, key) = (folder.read("cert.pem"), folder.read("key.pem"));
    let other = KeyPair::generate().unwrap().serialize_pem();
    let in_one_line = key.replace('\n', "");
    let secret = key.lines().nth(1).unwrap();
    for (cert, key, setting, reason) in [
        ("", key.as_str(), "cert.pem (ROLLCALL_TLS_CERT)", "no certificates in PEM"),
        (&key, &key, "cert.pem (ROLLCALL_TLS_CERT)", "no certificates in PEM"),
        (&in_one_line, &key, "cert.pem (ROLLCALL_TLS_CERT)", "no certificates in PEM"),
        (&certificate, "", "key.pem (ROLLCALL_TLS_KEY)", "no private key in PEM"),
        (&certificate, &certificate, "key.pem (ROLLCALL_TLS_KEY)", "no private key in PEM"),
        (&certificate, &in_one_line, "key.pem (ROLLCALL_TLS_KEY)", "no private key in PEM"),
        (&certificate, &key[..key.len() - 40], "key.pem (ROLLCALL_TLS_KEY)", "no private key in PEM"),
        (&certificate, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "ROLLCALL_TLS_KEY", "not encrypted"),
        (&certificate, &other, "ROLLCALL_TLS_KEY", "cannot be used"),
        (&certificate.replace("MII", "AAA"), &key, "ROLLCALL_TLS_CERT", "cannot be used"),
    ] {
        folder.write("cert.pem", cert);
        folder.write("key.pem", key);
        let text = folder.refused().await;
        assert!(text.contains(setting) && text.contains(reason), "{text}");
        for part in [secret, &secret[..20]] {
            assert!(!text.contains(part), "{text}");
        }
    }

    folder.write("cert.pem", &certificate);
    folder.write("key.pem", &key);
    let none = folder.0.path().join("none.pem");
    let text = chain(&Current::load(&with_authorities(&folder, &none)).await.err().unwrap());
    assert!(text.contains("none.pem (ROLLCALL_TLS_CLIENT_CA) cannot be read"), "{text}");
    fs::remove_file(folder.settings().key).unwrap();
    let text = folder.refused().await;
    assert!(text.contains("key.pem (ROLLCALL_TLS_KEY) cannot be read"), "{text}");
}

#[tokio::test]
async fn files_that_have_become_bad_change_nothing() {
    let (folder, other) = (Folder::new(), Folder::new());
    let tls = Tls::load(folder.settings()).await.unwrap();
    let first = tls.current();
    folder.write("key.pem", &other.read("key.pem"));
    tls.read_again().await;
    assert!(Arc::ptr_eq(&tls.current(), &first));
    folder.write("cert.pem", &other.read("cert.pem"));
    tls.read_again().await;
    assert!(tls.current().own != first.own);
}

/// What the server makes of a client that shows this, without a network in between.
async fn greeted(tls: &Tls, client: rustls::ClientConfig) -> Option<Option<Arc<str>>> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let current = tls.current();
    let accepted = tokio_rustls::TlsAcceptor::from(current.config()).accept(far);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connected = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near);
    let (accepted, _connected) = tokio::join!(accepted, connected);
    Some(current.client_of(accepted.ok()?.get_ref().1))
}

#[tokio::test]
async fn a_client_has_the_name_of_its_certificate_and_the_server_itself_has_none() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let path = folder.write("ca.pem", &authority.pem());
    let tls = Tls::load(with_authorities(&folder, &path)).await.unwrap();
    let issuer = rcgen::Issuer::new(params, key);

    let shown = |certificate: CertificateDer<'static>, key: &KeyPair| {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_file(folder.settings().certificate).unwrap();
        roots.add(own).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .unwrap()
    };
    let mut orders = CertificateParams::default();
    orders.subject_alt_names = vec![rcgen::SanType::URI("spiffe://x/sa/orders".try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = orders.signed_by(&key, &issuer).unwrap();
    let client = shown(certificate.der().clone(), &key);
    assert_eq!(greeted(&tls, client).await.unwrap().as_deref(), Some("orders"));

    let itself = crate::auth::towards_itself(&tls.settings).await.unwrap();
    assert_eq!(greeted(&tls, itself).await, Some(None));

    // The server's certificate without its key is worth nothing.
    let own = CertificateDer::from_pem_file(folder.settings().certificate).unwrap();
    let stolen = KeyPair::generate().unwrap();
    let provider = provider();
    let signer =
        provider.key_provider.load_private_key(PrivateKeyDer::try_from(stolen.serialize_der()).unwrap());
    let identity = rustls::sign::CertifiedKey::new(vec![own.clone()], signer.unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(own).unwrap();
    let thief = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    assert_eq!(greeted(&tls, thief).await, None);
}
