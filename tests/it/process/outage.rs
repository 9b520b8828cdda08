//! The database away: reads go on, writes are refused in time, and all resumes by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Call, Folder, PATIENCE, Postgres, Process, TestApp, static_service, wait_until};

/// The promise is 5 s; the rest is for a machine that is busy with something else.
const REFUSED_WITHIN: Duration = Duration::from_millis(6500);

struct Outage {
    postgres: Postgres,
    app: TestApp,
    path: String,
}

impl Outage {
    async fn prepare() -> Self {
        let postgres = Postgres::start_new().await;
        let app = TestApp::start_at(postgres.url().into()).await;
        let path = app.path_of(&static_service("lasting", 80)).await;
        app.put("/api/v1/config/lasting").json(&json!({ "a": 1 })).await.answered(201);
        Self { postgres, app, path }
    }

    async fn reads_go_on(&self) {
        for read in [
            "/api/v1/services",
            "/api/v1/services?name=lasting&limit=1",
            "/api/v1/services/names",
            "/api/v1/services/discover/lasting",
            "/discover/lasting",
            "/api/v1/config/lasting",
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            &self.path,
        ] {
            let start = Instant::now();
            self.app.get(read).await.answered(200);
            assert!(start.elapsed() < Duration::from_secs(3), "{read} took {:?}", start.elapsed());
        }
        assert_eq!(self.app.array("/discover/lasting").await.len(), 1);
    }

    async fn writes_are_refused(&self) {
        let app = &self.app;
        tokio::join!(
            refused("a registration", app.register(&static_service("late", 80))),
            refused("a PUT", app.put(&self.path).json(&json!({
                "name": "lasting", "type": "api", "host": "127.0.0.1", "port": 80, "checks": [], "weight": 2
            }))),
            refused("a PATCH", app.patch(&self.path, &json!({ "weight": 3 }))),
            refused("a removal", app.delete(&self.path)),
            refused("a report", app.report(&self.path, false)),
            refused("a configuration", app.put("/api/v1/config/late").json(&json!({}))),
            refused("a strong read", app.get("/discover/lasting?consistency=strong")),
        );
    }

    /// Reads go on and tell their age; writes are refused, again and again.
    async fn shows_itself(&self) {
        let age = wait_until(PATIENCE, "the answers tell that they grow old", async || {
            let answer = self.app.get("/discover/lasting").await.answered(200);
            let age: u64 = answer.header("x-rollcall-age").parse().unwrap();
            (age > 1000).then_some(age)
        })
        .await;
        self.reads_go_on().await;
        self.writes_are_refused().await;
        wait_until(PATIENCE, "who requires the store is told", async || {
            (self.app.get("/health/ready?store=required").await.status == 503).then_some(())
        })
        .await;
        let start = Instant::now();
        self.writes_are_refused().await;
        assert!(start.elapsed() < REFUSED_WITHIN);
        let later = self.app.get("/discover/lasting").await.answered(200);
        assert!(later.header("x-rollcall-age").parse::<u64>().unwrap() > age);
        self.reads_go_on().await;
    }

    /// Without a restart, and soon.
    async fn resumes(&self) {
        wait_until(PATIENCE, "writes are taken again", async || {
            (self.app.register(&static_service("after", 90)).await.status == 201).then_some(())
        })
        .await;
        wait_until(PATIENCE, "the answers are fresh again", async || {
            let answer = self.app.get("/discover/after").await.answered(200);
            let age: u64 = answer.header("x-rollcall-age").parse().unwrap();
            (age < 1000 && answer.json().as_array().unwrap().len() == 1).then_some(())
        })
        .await;
        self.app.get("/health/ready?store=required").await.answered(200);
        self.app.get("/discover/after?consistency=strong").await.answered(200);
        let page = self.app.body("/api/v1/events?limit=1000").await;
        let revisions: Vec<u64> = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["revision"].as_u64().unwrap())
            .collect();
        assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
    }
}

async fn refused(what: &str, call: Call) {
    let start = Instant::now();
    let answer = call.await;
    let took = start.elapsed();
    let problem = answer.problem(503);
    assert!(took < REFUSED_WITHIN, "{what} was refused after {took:?}");
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(seconds >= 1, "{what}: {problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_stopped_is_outlived() {
    let outage = Outage::prepare().await;
    outage.postgres.stop().await;
    outage.shows_itself().await;
    outage.postgres.start().await;
    outage.resumes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashed_is_outlived() {
    let outage = Outage::prepare().await;
    outage.postgres.crash().await;
    outage.shows_itself().await;
    outage.postgres.start().await;
    outage.resumes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_outlived() {
    let outage = Outage::prepare().await;
    outage.postgres.freeze().await;
    outage.shows_itself().await;
    outage.postgres.thaw().await;
    outage.resumes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_the_database_crashes_again_and_again_is_there_once() {
    let postgres = Postgres::start_new().await;
    let app = TestApp::start_at(postgres.url().into()).await;
    let going_on = AtomicBool::new(true);
    let writer = async |number: u16| {
        let mut acknowledged = HashSet::new();
        for port in (number..).step_by(8).take(4000) {
            if !going_on.load(Ordering::Relaxed) {
                break;
            }
            let answer = app.register(&static_service("ledger", port + 1)).await;
            match answer.status {
                201 => assert!(acknowledged.insert(u64::from(port + 1))),
                // Retry-After would have us wait longer than this test shall last.
                503 => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("{other}: {}", answer.text()),
            }
        }
        acknowledged
    };
    let crashes = async {
        for _ in 0..3 {
            let before = app.array("/discover/ledger").await.len();
            wait_until(PATIENCE, "some more are written", async || {
                (app.array("/discover/ledger").await.len() > before + 20).then_some(())
            })
            .await;
            postgres.crash().await;
            postgres.start().await;
        }
        wait_until(PATIENCE, "writes are taken again", async || {
            (app.put("/api/v1/config/done").json(&json!({})).await.status < 300).then_some(())
        })
        .await;
        going_on.store(false, Ordering::Relaxed);
    };
    let writers = futures_util::future::join_all((0..8).map(writer));
    let (acknowledged, ()) = tokio::join!(writers, crashes);
    let acknowledged: HashSet<u64> = acknowledged.into_iter().flatten().collect();

    let fresh = TestApp::start_at(postgres.url().into()).await;
    for app in [&app, &fresh] {
        let kept = app.array("/api/v1/services?name=ledger&consistency=strong").await;
        let ports: HashSet<u64> = kept.iter().map(|one| one["port"].as_u64().unwrap()).collect();
        assert_eq!(ports.len(), kept.len(), "nobody is there twice");
        let lost: Vec<&u64> = acknowledged.difference(&ports).collect();
        assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_before_its_database_waits_for_it() {
    let postgres = Postgres::start_new().await;
    postgres.stop().await;
    let folder = Arc::new(Folder::new());
    let url = postgres.url();
    let mut server = Process::serve(&folder, &[("DATABASE_URL", url.as_str())]);
    wait_until(PATIENCE, "the server says that it is not ready", async || {
        assert!(!server.has_ended(), "the server gave up:\n{}", server.output());
        (server.try_get("/health/ready").await?.status == 503).then_some(())
    })
    .await;
    server.get("/health/live").await.answered(200);
    server.register(&static_service("early", 80)).await.problem(503);
    postgres.start().await;
    let server = server.ready().await;
    server.registered(&static_service("early", 80)).await;
    assert!(server.stop().await.success());
}
