//! HTTPS: by whom it can be spoken, what becomes of those who do not speak it, and files that change meanwhile.

mod authority;
mod clients;
mod connections;
mod files;
mod process;

use std::path::PathBuf;

use rollcall::settings::{Clients, Limits, Settings, Tls};
use tempfile::TempDir;

use self::authority::{Authority, Identity};
use crate::support::{Client, PATIENCE, TestApp};

/// The files of a server, and the authority that it has its certificate from.
pub struct Files {
    pub authority: Authority,
    folder: TempDir,
}

impl Files {
    pub fn new() -> Self {
        let files = Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap() };
        files.put(&files.authority.server());
        files.write("ca.pem", files.authority.certificate());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn put(&self, server: &Identity) {
        self.write("cert.pem", &server.certificate);
        self.write("key.pem", &server.key);
    }

    fn settings(&self) -> Tls {
        Tls { certificate: self.path("cert.pem"), key: self.path("key.pem"), clients: None }
    }

    pub fn with_clients(&self, required: bool) -> Tls {
        Tls { clients: Some(Clients { authorities: self.path("ca.pem"), required }), ..self.settings() }
    }

    /// Whom it believes, and as whom it speaks.
    pub fn http(&self, identity: Option<&Identity>) -> reqwest::ClientBuilder {
        // the client itself may wait for ever for a connection that the server has refused
        let http =
            reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([self.authority.root()]);
        match identity {
            Some(identity) => http.identity(identity.for_requests()),
            None => http,
        }
    }

    async fn start(&self, tls: Tls, limits: Limits) -> TestApp {
        let identity = self.authority.client("tests");
        let http = self.http(Some(&identity)).build().unwrap();
        let change = |settings: &mut Settings| {
            settings.tls = Some(tls);
            settings.limits = limits;
        };
        TestApp::start_over(change, |base| Client::over(base, http)).await
    }
}

/// How it ended: the status, or nothing when there was no answer.
async fn asked(http: reqwest::ClientBuilder, port: u16) -> Option<u16> {
    let url = format!("https://127.0.0.1:{port}/health/live");
    let answer = http.build().unwrap().get(url).send().await.ok()?;
    Some(answer.status().as_u16())
}
