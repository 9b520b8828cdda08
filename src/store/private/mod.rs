//! The embedded default: a `PostgreSQL` of rollcall's own, for those who have given it no other.
//!
//! It is the installed server, run on a cluster in rollcall's data folder and reached through a Unix socket,
//! so one command gives a registry whose SQL, durability and code are those of any other. Nothing listens on
//! TCP, fsync is on, and what was acknowledged outlives every kind of end: an orderly stop, a kill of
//! rollcall (whose server the next start adopts) and a kill of both.

mod binaries;
mod cluster;
mod error;
mod folder;
mod greeting;
mod server;
mod server_log;
mod server_user;

use std::path::Path;

use sqlx::postgres::PgConnectOptions;

pub use self::error::PrivateError;
use self::{cluster::Cluster, folder::DataFolder, server::Server};

/// The cluster's superuser and rollcall's database.
const NAME: &str = "rollcall";

/// A running server and the data folder it keeps. The folder is locked for as long as this lives. Dropping
/// it without `stop` leaves the server running, to be adopted by the next start.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    cluster: Cluster,
}

impl PrivatePostgres {
    /// Finds the server's binaries, prepares the folder, adopts or starts the cluster, waits until it takes
    /// connections, and makes rollcall's database if it is missing.
    pub async fn start(data_dir: &Path, pg_bin: Option<&Path>) -> Result<Self, PrivateError> {
        let folder = DataFolder::open(data_dir)?;
        let cluster = Cluster::prepare(folder, pg_bin).await?;
        let server = Server::start_or_adopt(&cluster).await?;
        match greeting::ensure_database(&server.address).await {
            Ok(()) => Ok(Self { server, cluster }),
            Err(source) => {
                if let Err(error) = server.stop(&cluster).await {
                    tracing::warn!(%error, "the database that could not be made ready also did not stop");
                }
                Err(PrivateError::Database { path: cluster.path, log: cluster.log, source })
            }
        }
    }

    pub fn connect_options(&self) -> PgConnectOptions {
        self.superuser_options(NAME)
    }

    /// As `connect_options`, for another database of the cluster.
    pub fn superuser_options(&self, database: &str) -> PgConnectOptions {
        self.server.address.options(database)
    }

    /// For the log at the start: the version, the place, and whether it was running already.
    pub fn describe(&self) -> String {
        let origin = if self.server.is_adopted() { "adopted" } else { "started" };
        format!("PostgreSQL {} in {} ({origin})", self.server.version, self.cluster.path.display())
    }

    /// Stops the server, in order if that takes no longer than 25 seconds, else at once, which costs the next
    /// start a recovery but no data.
    pub async fn stop(self) -> Result<(), PrivateError> {
        self.server.stop(&self.cluster).await
    }
}
