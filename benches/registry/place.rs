//! Where the databases are: a server of the embedded kind, so durable as in production, in a folder that goes
//! away afterwards.

use std::path::PathBuf;

use rollcall::store::private::PrivatePostgres;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::{
    bodies,
    load::{self, Amount},
    program::Program,
};

const AT_ONCE: u64 = 1000;

pub struct Place {
    folder: TempDir,
    postgres: PrivatePostgres,
}

impl Place {
    pub async fn open() -> Self {
        let folder = tempfile::Builder::new().prefix("rollcall-bench-").tempdir().unwrap();
        let postgres = PrivatePostgres::start(&folder.path().join("data"), None).await.unwrap();
        Self { folder, postgres }
    }

    pub async fn close(self) {
        self.postgres.stop().await.unwrap();
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        let options = self.postgres.superuser_options(database);
        options.disable_statement_logging().connect().await.unwrap()
    }

    /// A new database of this name; its URL.
    pub async fn create(&self, database: &str) -> String {
        let mut connection = self.connect("postgres").await;
        // a name of this program's own
        let statement = format!("create database {database}");
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
        connection.close().await.unwrap();
        self.url(database)
    }

    pub fn url(&self, database: &str) -> String {
        let options = self.postgres.superuser_options(database);
        let socket = options.get_socket().unwrap().display().to_string();
        let (user, port) = (options.get_username(), options.get_port());
        format!("postgres://{user}@localhost:{port}/{database}?host={socket}")
    }

    /// A registry with so many services of so many instances each.
    pub async fn registry(&self, database: &str, services: u64, instances: u64) -> Program {
        self.registry_with(database, services, instances, &[]).await
    }

    /// The same with settings of its own, once it is filled.
    pub async fn registry_with(
        &self,
        database: &str,
        services: u64,
        instances: u64,
        settings: &[(&str, &str)],
    ) -> Program {
        let url = self.create(database).await;
        let all = services * instances;
        if all == 0 {
            return Program::rollcall(&url, &self.folder(database), settings).await;
        }
        let program = Program::rollcall(&url, &self.folder(database), &[]).await;
        let address = program.address;
        let fill = move |number: u64, into: &mut Vec<u8>| {
            let numbers = number * AT_ONCE..((number + 1) * AT_ONCE).min(all);
            let items: Vec<String> =
                numbers.map(|instance| bodies::registration(instance % services, instance)).collect();
            bodies::post("/api/v1/services/register/batch", &format!("[{}]", items.join(",")), into);
        };
        tokio::task::spawn_blocking(move || {
            load::run(address, 4, Amount::Count(all.div_ceil(AT_ONCE)), 0, &fill).flawless()
        })
        .await
        .unwrap();
        // what the load left behind is none of what is measured next
        let mut connection = self.connect(database).await;
        connection.execute("vacuum analyze").await.unwrap();
        connection.execute("checkpoint").await.unwrap();
        // and the signs of life of so many at once are no longer to be written
        program.stop().await;
        Program::rollcall(&url, &self.folder(database), settings).await
    }
}
