//! A server in this process, on a port of its own.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rollcall::server::Server;
use rollcall::settings::{Limits, Origins, Settings};
use tempfile::TempDir;

use super::{Client, Database, PATIENCE, wait_until};

pub struct TestApp {
    // In the order of their end: the server before its folder and its database.
    server: Option<Server>,
    client: Client,
    _data: TempDir,
    database: Option<Arc<Database>>,
}

impl TestApp {
    /// On a fresh database. Nobody is polled, so that a status is what the test made of it.
    pub async fn start() -> Self {
        Self::start_on(&Database::fresh().await).await
    }

    /// On a fresh database, with the checker at work.
    pub async fn start_checking() -> Self {
        let database = Database::fresh().await;
        let url = database.url();
        Self::launch(url, Some(database), |_| ()).await
    }

    /// On a fresh database, with limits of its own.
    pub async fn start_within(limits: Limits) -> Self {
        let database = Database::fresh().await;
        Self::start_with(&database, |settings| settings.limits = limits).await
    }

    /// On a fresh database, for web pages of these origins.
    pub async fn start_for(origins: Origins) -> Self {
        let database = Database::fresh().await;
        Self::start_with(&database, |settings| settings.cors_origins = Some(origins)).await
    }

    /// One more replica on a database.
    pub async fn start_on(database: &Arc<Database>) -> Self {
        Self::start_with(database, |_| ()).await
    }

    /// Two replicas on one fresh database.
    pub async fn pair() -> (Self, Self) {
        let first = Self::start().await;
        let second = Self::start_on(first.database()).await;
        (first, second)
    }

    /// One more replica on a database, with settings of its own.
    pub async fn start_with(database: &Arc<Database>, set: impl FnOnce(&mut Settings)) -> Self {
        let set = |settings: &mut Settings| {
            settings.checker = false;
            set(settings);
        };
        Self::launch(database.url(), Some(Arc::clone(database)), set).await
    }

    /// On whatever stands at the address.
    pub async fn start_at(url: String) -> Self {
        Self::launch(url, None, |settings| settings.checker = false).await
    }

    /// The same, with the checker at work.
    pub async fn start_checking_at(url: String) -> Self {
        Self::launch(url, None, |_| ()).await
    }

    async fn launch(url: String, database: Option<Arc<Database>>, set: impl FnOnce(&mut Settings)) -> Self {
        Self::run(url, database, set, Client::new).await
    }

    /// On a fresh database, with settings and a client of its own.
    pub async fn start_over(change: impl FnOnce(&mut Settings), client: impl FnOnce(&str) -> Client) -> Self {
        let database = Database::fresh().await;
        let url = database.url();
        let change = |settings: &mut Settings| {
            settings.checker = false;
            change(settings);
        };
        Self::run(url, Some(database), change, client).await
    }

    async fn run(
        url: String,
        database: Option<Arc<Database>>,
        change: impl FnOnce(&mut Settings),
        client: impl FnOnce(&str) -> Client,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut settings = Settings::for_tests(Some(url), data.path().to_owned());
        change(&mut settings);
        let server = Server::start(settings).await.expect("the server starts");
        let client = client(&server.url());
        wait_until(PATIENCE, "the server is ready", async || {
            (client.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
        Self { server: Some(server), client, _data: data, database }
    }

    pub fn port(&self) -> u16 {
        self.server.as_ref().unwrap().address().port()
    }

    pub fn database(&self) -> &Arc<Database> {
        self.database.as_ref().expect("a server with a database of the tests")
    }

    pub async fn stop(mut self) {
        self.server.take().unwrap().stop().await.expect("an orderly stop");
    }
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else { return };
        if std::thread::panicking() {
            return;
        }
        tokio::task::block_in_place(|| {
            let stopping = tokio::time::timeout(Duration::from_secs(10), server.stop());
            let stopped = tokio::runtime::Handle::current().block_on(stopping);
            let _ = stopped.expect("the server stops within 10 s");
        });
    }
}
