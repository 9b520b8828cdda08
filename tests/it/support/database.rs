//! A fresh database a test, copied from a template that was migrated once.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;
use url::Url;

use super::{Folder, Postgres, run};

static SHARED: OnceCell<Shared> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One server for all tests of this process. It is never dropped: its guardian outlives the process.
struct Shared {
    server: Url,
    template: String,
    _postgres: Option<Postgres>,
    _farewell: Option<Folder>,
}

pub struct Database {
    server: Url,
    name: String,
}

impl Database {
    /// As `rollcall migrate` leaves it.
    pub async fn fresh() -> Arc<Self> {
        let shared = shared().await;
        Self::create(&shared.server, &format!("TEMPLATE {}", shared.template)).await
    }

    /// Nothing in it yet.
    pub async fn empty() -> Arc<Self> {
        Self::create(&server().await.server, "TEMPLATE template0").await
    }

    async fn create(server: &Url, options: &str) -> Arc<Self> {
        let name = format!("{}_{}", prefix(), NUMBER.fetch_add(1, Ordering::Relaxed));
        execute(server, &format!("CREATE DATABASE {name} {options}")).await;
        Arc::new(Self { server: server.clone(), name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        at(&self.server, &self.name)
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A drop cannot await, and the test's own runtime may be ending: a thread with one of its own.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")));
        });
        let dropped = dropping.join().is_ok();
        assert!(dropped || std::thread::panicking(), "the database {} could not be dropped", self.name);
    }
}

async fn server() -> &'static Shared {
    SHARED
        .get_or_init(|| async {
            let template = format!("{}_template", prefix());
            if let Ok(given) = std::env::var("ROLLCALL_TEST_DATABASE_URL") {
                let server = Url::parse(&given).expect("ROLLCALL_TEST_DATABASE_URL is a URL");
                let farewell = format!("psql '{given}' -c 'DROP DATABASE IF EXISTS {template}'");
                let farewell = Folder::with_farewell(&farewell);
                return Shared { server, template, _postgres: None, _farewell: Some(farewell) };
            }
            let postgres = Postgres::start_new().await;
            Shared { server: postgres.url(), template, _postgres: Some(postgres), _farewell: None }
        })
        .await
}

async fn shared() -> &'static Shared {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let shared = server().await;
    MIGRATED
        .get_or_init(|| async {
            execute(&shared.server, &format!("CREATE DATABASE {} TEMPLATE template0", shared.template)).await;
            let url = at(&shared.server, &shared.template);
            let output =
                run(Command::new(env!("CARGO_BIN_EXE_rollcall")).arg("migrate"), &[("DATABASE_URL", &url)]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "rollcall migrate: {}\n{said}", output.status);
        })
        .await;
    shared
}

fn prefix() -> String {
    format!("rollcall_test_{}", std::process::id())
}

fn at(server: &Url, name: &str) -> String {
    let mut url = server.clone();
    url.set_path(name);
    url.into()
}

async fn execute(server: &Url, statement: &str) {
    let mut connection = PgConnection::connect(server.as_str()).await.unwrap();
    connection.execute(AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
}
