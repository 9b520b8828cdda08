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
