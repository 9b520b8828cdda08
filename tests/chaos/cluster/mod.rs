//! What a scenario runs on: a database, and replicas that reach it through proxies.

mod disk;
mod folder;
pub mod postgres;
mod replica;
mod tools;
mod wait;
mod weather;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use disk::Disk;
pub use folder::Folder;
pub use postgres::{End, Postgres};
pub use replica::Replica;
pub use wait::wait_for;
pub use weather::Weather;

use self::tools::Tools;
use crate::proxy::Proxy;

pub const REPLICAS: usize = 3;
/// In seconds.
const HOUR: i64 = 3600;
const READY_WITHIN: Duration = Duration::from_secs(30);

pub struct Cluster {
    // In the order of their end: who uses something before what is used.
    pub replicas: Vec<Replica>,
    pub proxies: Vec<Proxy>,
    pub database: Postgres,
    pub disk: Option<Disk>,
    /// Why there is no small disk.
    pub no_disk: Option<String>,
    folder: Arc<Folder>,
}

/// What a scenario needs of its cluster.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The size of a disk of its own.
    pub disk: Option<u64>,
    /// Another build of the server.
    pub binary: Option<String>,
    /// The port of the targets, if the replicas are to ask for health. The clock of the first one is wrong then.
    pub targets: Option<u16>,
}

impl Cluster {
    /// A fresh database and replicas that are ready.
    pub async fn start(needs: &Needs) -> Result<Self, String> {
        let folder = Arc::new(Folder::new());
        let tools = Tools::find();
        let (disk, no_disk) = match needs.disk {
            None => (None, None),
            Some(_) if !tools.is_root() => (None, Some("only root may mount a small filesystem".to_owned())),
            Some(size) => match Disk::mount(folder.path(), size) {
                Ok(disk) => (Some(disk), None),
                Err(reason) => (None, Some(reason)),
            },
        };
        let place = disk.as_ref().map_or(folder.path(), Disk::path).join("primary");
        let database = new_server(&tools, &place, &folder.path().join("socket"));
        database.initialise().await?;
        database.configure();
        database.start().await?;
        create_database(&database).await.map_err(|error| error.to_string())?;
        let mut cluster = Self { replicas: Vec::new(), proxies: Vec::new(), database, disk, no_disk, folder };
        let binary = needs.binary.clone().unwrap_or(env!("CARGO_BIN_EXE_rollcall").to_owned());
        cluster.start_replicas(&PathBuf::from(binary), needs.targets).await?;
        Ok(cluster)
    }

    async fn start_replicas(&mut self, binary: &Path, targets: Option<u16>) -> Result<(), String> {
        let library = match targets {
            Some(port) => Some((Weather::library(self.folder.path())?, port)),
            None => None,
        };
        for number in 0..REPLICAS {
            let proxy = Proxy::start(self.database.socket_file()).await.map_err(|error| error.to_string())?;
            let mut replica = Replica::new(&self.folder, number, binary.to_owned(), proxy.port);
            if let Some((library, port)) = &library {
                let seconds = if number == 1 { -HOUR } else { HOUR };
                let weather = Weather::new(library, self.folder.path(), number, seconds, *port);
                if number == 0 {
                    weather.skew();
                }
                replica.meet(weather);
            }
            replica.start();
            self.proxies.push(proxy);
            self.replicas.push(replica);
        }
        for replica in &mut self.replicas {
            if replica.ready(READY_WITHIN).await.is_none() {
                let said = std::fs::read_to_string(replica.log_file()).unwrap_or_default();
                return Err(format!(
                    "replica {} was not ready within {READY_WITHIN:?}: {said}",
                    replica.number
                ));
            }
        }
        Ok(())
    }

    /// Where another server of this cluster may have its data and its socket.
    pub fn another_server(&self, name: &str) -> Postgres {
        let place = self.folder.path().join(name);
        new_server(self.database.tools(), &place, &self.folder.path().join(format!("{name}-socket")))
    }

    pub fn bases(&self) -> Vec<String> {
        self.replicas.iter().map(Replica::base).collect()
    }

    pub fn log_files(&self) -> Vec<PathBuf> {
        self.replicas.iter().map(Replica::log_file).collect()
    }

    /// All proxies, or the one of a replica.
    pub fn proxies_of(&self, replica: Option<usize>) -> impl Iterator<Item = &Proxy> {
        self.proxies.iter().enumerate().filter_map(move |(number, proxy)| {
            replica.is_none_or(|replica| replica == number).then_some(proxy)
        })
    }
}

fn new_server(tools: &Tools, data: &Path, socket: &Path) -> Postgres {
    std::fs::create_dir_all(data).unwrap();
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).unwrap();
    tools.hand_over(data);
    Postgres::at(tools, data.to_owned(), socket.to_owned())
}

/// The database of the service (`DATABASE`), owned by a role that is no superuser (`SERVICE_ROLE`).
async fn create_database(server: &Postgres) -> Result<(), sqlx::Error> {
    let mut connection = server.connect_to_maintain().await?;
    sqlx::query("create role rollcall login createrole").execute(&mut connection).await?;
    sqlx::query("create database registry owner rollcall").execute(&mut connection).await?;
    Ok(())
}
