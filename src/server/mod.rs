//! The composition root: what the process is made of, in which order it starts and stops.
//!
//! A background task that ends before it was asked to brings the process down in order, with an error: half a registry
//! is worse than one that is started again.

mod credentials;
mod error;
mod listener;
mod tasks;

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use credentials::Credentials;
pub use error::ServeError;
use tasks::Tasks;

pub use crate::auth::{TlsError, towards_itself};
use crate::{
    app::{App, Asking, loads},
    checker::{Checker, Leases, Sweeper},
    doors::{
        kit::{Admission, security::Security},
        native::{Front, Terms},
    },
    liveness::{Flusher, Liveness},
    log::{Anchors, Follower, Log, Writer, run_listener, run_notifier, run_presence, run_upkeep},
    probe::{self, Probes},
    settings::{Loaded, Settings},
    store::{Database, Lanes, StoreError, migrate as store_migrate, private::PrivatePostgres},
    telemetry::Metrics,
    view::View,
};

/// Connections for reads that need the database: the audit, and reads that ask for the newest state.
const READ_LANES: usize = 4;
const MIGRATION_RETRY: Duration = Duration::from_millis(500);
/// How long requests that are under way may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// How long the tasks of each stage may take to end after that.
const STAGE_WITHIN: Duration = Duration::from_secs(12);

/// A running replica.
pub struct Server {
    address: SocketAddr,
    /// Whether it speaks TLS.
    secured: bool,
    app: App,
    /// Accepting and answering.
    front: Tasks,
    checker: Tasks,
    writer: Tasks,
    /// What carries the log and liveness.
    back: Tasks,
    private: Option<PrivatePostgres>,
    failed: CancellationToken,
}

/// Connections that the checks keep, however many files may be open.
const MOST_KEPT: usize = 2048;

fn kept_connections() -> usize {
    usize::try_from(listener::descriptors() / 10).unwrap_or(usize::MAX).min(MOST_KEPT)
}

impl Server {
    /// Starts everything. It listens when this returns; it is ready (see /health/ready) once the view is loaded.
    pub async fn start(settings: Settings) -> Result<Self, ServeError> {
        let metrics = Metrics::new();
        let socket = listener::bind(settings.listen)
            .map_err(|source| ServeError::Listen { address: settings.listen, source })?;
        let address =
            socket.local_addr().map_err(|source| ServeError::Listen { address: settings.listen, source })?;
        let credentials = Credentials::load(&settings).await?;
        let (database, private) = open_database(&settings, &metrics).await?;

        let failed = CancellationToken::new();
        let (front, checker, writer, back) = (
            Tasks::new(failed.clone()),
            Tasks::new(failed.clone()),
            Tasks::new(failed.clone()),
            Tasks::new(failed.clone()),
        );
        credentials.follow(&back);
        // Nothing asks the database before it has the shape that the questions expect.
        let shaped = CancellationToken::new();
        back.spawn_finite(
            "migration",
            shape(database.clone(), settings.migrate, shaped.clone(), back.stop()),
        );

        let replica = Uuid::now_v7();
        let view = Arc::new(View::default());
        let liveness = Arc::new(Liveness::default());
        let anchors = Anchors::within(&settings.data_dir);
        let follower =
            Arc::new(Follower::new(view.clone(), liveness.clone(), metrics.clone(), replica, anchors));
        let (log, queue) = Log::new(follower.clone());
        let pen = Writer::new(queue, follower.clone(), database.clone(), replica, writer.stop());

        let (told, peers) = watch::channel(Arc::default());
        let run = run_notifier(database.clone(), peers.clone(), pen.written(), back.stop());
        back.spawn_after(&shaped, "notifier", run);
        back.spawn_after(&shaped, "listener", run_listener(database.clone(), follower.clone(), back.stop()));
        back.spawn_after(&shaped, "upkeep", run_upkeep(log.clone(), database.clone(), back.stop()));
        let (followed, stop) = (database.clone(), back.stop());
        back.spawn_after(&shaped, "follower", async move { follower.run(followed, stop).await });
        let (doubts, doubted) = watch::channel(false);
        let (loads, noted) = loads();
        let presence =
            run_presence(replica, settings.checker, doubted, database.clone(), told, checker.stop());
        checker.spawn_after(&shaped, "presence", presence);
        let flusher = Flusher::new(liveness.clone(), view.clone(), replica, database.clone());
        back.spawn_after(&shaped, "flusher", flusher.run(back.stop()));
        writer.spawn_aside_after(&shaped, "writer", pen.run());

        let probes = Arc::new(Probes::new(probe::Terms {
            allowed: settings.checks.allowed.clone(),
            denied: settings.checks.denied.clone(),
            database: database.address(),
            scripts: settings.checks.scripts.clone(),
            kept: settings.checks.connections.unwrap_or_else(kept_connections),
        }));
        let app = App::new(
            view,
            log,
            liveness,
            Lanes::new(database, READ_LANES),
            metrics.clone(),
            credentials.auth(&settings),
            Asking { probes: probes.clone(), replica, peers, loads, doubts },
        );
        checker.spawn("alerts", app.clone().run_alerts(noted, checker.stop()));
        if settings.checker {
            let task = Checker::new(app.clone(), probes);
            checker.spawn("checker", task.run(checker.stop()));
            checker.spawn("leases", Leases::new(app.clone()).run(checker.stop()));
            checker.spawn("sweeper", Sweeper::new(app.clone()).run(checker.stop()));
        }
        let (tls, secured) = (credentials.tls.clone(), credentials.tls.is_some());
        let terms = Terms {
            admission: Admission::within(&settings.limits, metrics.clone()),
            cors: settings.cors_origins,
            security: Security { over_tls: secured },
        };
        let answers = Front::new(app.clone(), terms)?;
        front.spawn(
            "http",
            listener::serve(socket, tls, answers, settings.limits, metrics, front.stop(), DRAIN_WITHIN),
        );
        tracing::info!(%address, url = url(address, secured), replica = %replica, "listening");
        Ok(Self { address, secured, app, front, checker, writer, back, private, failed })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is to be asked.
    pub fn url(&self) -> String {
        url(self.address, self.secured)
    }

    /// Returns when a task has ended that should not have.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops in order: what is under way is finished, what was accepted is written, what was seen is flushed.
    pub async fn stop(self) -> Result<(), ServeError> {
        let failed_before = self.failed.is_cancelled();
        self.app.begin_stop();
        let mut in_time = self.front.end(STAGE_WITHIN).await;
        in_time &= self.checker.end(STAGE_WITHIN).await;
        in_time &= self.writer.end(STAGE_WITHIN).await;
        in_time &= self.back.end(STAGE_WITHIN).await;
        if let Some(private) = self.private {
            private.stop().await?;
        }
        if failed_before {
            return Err(ServeError::TaskEnded);
        }
        if !in_time {
            return Err(ServeError::SlowStop);
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// `rollcall serve`: runs until a signal, or until something fails that cannot be done without.
pub async fn serve(loaded: Loaded) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let server = tokio::select! {
        server = Server::start(loaded.settings) => server?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    greet(&server.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = server.failed() => {}
    }
    tracing::info!("stopping; a second signal ends at once");
    tokio::select! {
        result = server.stop() => result,
        _ = terminate.recv() => Err(ServeError::Interrupted),
        _ = interrupt.recv() => Err(ServeError::Interrupted),
    }
}

/// For a person at a terminal. The log says the same to machines.
fn greet(url: &str) {
    // nobody may be there to read it, which does no harm
    drop(writeln!(
        std::io::stderr(),
        "rollcall listens on {url} (its API: {url}/docs)\n\
         Try: curl -s {url}/api/v1/services/register -H 'Content-Type: application/json' \
         -d '{{\"name\":\"hello\",\"type\":\"api\",\"host\":\"127.0.0.1\",\"port\":8000}}'"
    ));
}

fn url(address: SocketAddr, secured: bool) -> String {
    let scheme = if secured { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// `rollcall migrate`.
pub async fn migrate(settings: &Settings) -> Result<(), ServeError> {
    let (database, private) = open_database(settings, &Metrics::new()).await?;
    let migrated = store_migrate::migrate(&database).await;
    if let Some(private) = private {
        private.stop().await?;
    }
    let applied = migrated?;
    tracing::info!(applied, database = database.describe(), "the database is up to date");
    Ok(())
}

async fn open_database(
    settings: &Settings,
    metrics: &Metrics,
) -> Result<(Database, Option<PrivatePostgres>), ServeError> {
    match &settings.database_url {
        Some(url) => {
            let database = Database::from_url(url, metrics.clone())?;
            tracing::info!(database = database.describe(), "using the database of DATABASE_URL");
            Ok((database, None))
        }
        None => {
            let private = PrivatePostgres::start(&settings.data_dir, settings.pg_bin.as_deref()).await?;
            tracing::info!(postgres = private.describe(), "running a PostgreSQL of its own");
            Ok((Database::new(private.connect_options(), metrics.clone()), Some(private)))
        }
    }
}

/// Sees to it that the database has the shape this version needs, as soon as it can be reached.
async fn shape(
    database: Database,
    migrate: bool,
    shaped: CancellationToken,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let mut told = false;
    loop {
        let attempt = async {
            if migrate {
                return store_migrate::migrate(&database).await;
            }
            match store_migrate::pending(&database).await? {
                0 => Ok(0),
                _ => Err(StoreError::NotMigrated),
            }
        };
        let result = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            result = attempt => result,
        };
        match result {
            Ok(applied) => {
                if applied > 0 {
                    tracing::info!(applied, "the database was migrated");
                }
                shaped.cancel();
                return Ok(());
            }
            Err(error @ (StoreError::Connect(_) | StoreError::Timeout(_) | StoreError::Broken(_))) => {
                if !told {
                    told = true;
                    tracing::warn!(
                        error = crate::telemetry::chain(&error),
                        database = database.describe(),
                        "the database cannot be reached yet"
                    );
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(MIGRATION_RETRY) => {}
        }
    }
}
