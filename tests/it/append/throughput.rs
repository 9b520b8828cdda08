//! How much the log takes, with everything made durable as in production.

use std::time::{Duration, Instant};

use rollcall::domain::InstanceId;
use rollcall::store::GroupOutcome::Written;
use rollcall::store::migrate::migrate;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::Replica;
use super::replica::store;
use crate::support::{PATIENCE, Postgres, wait_until};

const CHANGES: usize = 100;
const ROUNDS: usize = 20;
const BATCHES: u32 = 250;

/// What batches cost: how many fit into a second, and how many would if the machine had nothing else to do than to
/// run the writer's session in the database.
struct Round {
    by_clock: f64,
    by_cpu: Option<f64>,
}

async fn round(replica: &mut Replica, ids: &[InstanceId]) -> Round {
    let (began, worked) = (Instant::now(), cpu_time(&mut replica.connection).await);
    for _ in 0..BATCHES {
        let mut draft = replica.draft();
        for id in ids {
            draft.group().report(*id);
        }
        let (outcomes, _) = replica.append(&draft.done()).await;
        assert_eq!(outcomes, [Written; CHANGES]);
        replica.catch_up().await;
    }
    let by_clock = f64::from(BATCHES) / began.elapsed().as_secs_f64();
    let worked =
        cpu_time(&mut replica.connection).await.zip(worked).map(|(now, before)| now.saturating_sub(before));
    Round { by_clock, by_cpu: worked.map(|worked| f64::from(BATCHES) / worked.as_secs_f64()) }
}

/// How long the session's process has run, where the system tells.
async fn cpu_time(session: &mut PgConnection) -> Option<Duration> {
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(session).await.unwrap();
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// A cluster of its own, for which fsync is on.
async fn durable() -> (Postgres, String) {
    let postgres = Postgres::start_new().await;
    let url = postgres.url().to_string();
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    for setting in ["fsync = on", "full_page_writes = on", "synchronous_commit = on"] {
        superuser.execute(AssertSqlSafe(format!("alter system set {setting}"))).await.unwrap();
    }
    superuser.execute("select pg_reload_conf()").await.unwrap();
    wait_until(PATIENCE, "fsync is on", async || {
        let mut superuser = PgConnection::connect(&url).await.unwrap();
        let fsync: String = sqlx::query_scalar("show fsync").fetch_one(&mut superuser).await.unwrap();
        (fsync == "on").then_some(())
    })
    .await;
    migrate(&store(&url)).await.unwrap();
    (postgres, url)
}

/// The same rows written by one statement, with nothing around it: how many such batches would fit into a second of
/// a session's CPU time.
async fn bare_by_cpu(url: &str, ids: &[InstanceId]) -> Option<f64> {
    let mut session = PgConnection::connect(url).await.unwrap();
    let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
    for statement in [
        "drop schema if exists bare cascade",
        "create schema bare",
        "create table bare.instances (like rollcall.instances including all)",
        "insert into bare.instances select * from rollcall.instances",
        "create table bare.events (like rollcall.events including all)",
    ] {
        session.execute(statement).await.unwrap();
    }
    let worked = cpu_time(&mut session).await?;
    for batch in 0..BATCHES {
        sqlx::query(
            "with changed as (
               update bare.instances r set version = r.version + 1, revision = $2 + w.n, updated_at = now()
               from unnest($1::uuid[]) with ordinality w(id, n) where r.id = w.id
               returning r.id, r.service, r.revision, r.spec)
             insert into bare.events (revision, epoch, time, kind, service, instance, actor, origin, data)
               select revision, 1, now(), 'status_change', service, id, 'anonymous', 'native', spec from changed",
        )
        .bind(&ids)
        .bind(i64::from(batch) * 1000)
        .execute(&mut session)
        .await
        .unwrap();
    }
    let worked = cpu_time(&mut session).await?.saturating_sub(worked);
    Some(f64::from(BATCHES) / worked.as_secs_f64())
}

/// Where other tests want the processors at the same time, the clock says nothing; then the work counts that was done.
/// And where the machine is slow: what a batch costs beside its bare rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_batches_of_a_hundred_fit_into_a_second() {
    const TIMES_BARE: f64 = 3.0;
    let (_postgres, url) = durable().await;
    let mut replica = Replica::open_at(&url).await;
    let ids = replica.register("durable", CHANGES).await;
    let (mut by_clock, mut by_cpu, mut times_bare) = (0.0_f64, 0.0_f64, f64::INFINITY);
    for _ in 0..ROUNDS {
        let round = round(&mut replica, &ids).await;
        by_clock = by_clock.max(round.by_clock);
        by_cpu = by_cpu.max(round.by_cpu.unwrap_or(0.0));
        if by_clock.max(by_cpu) >= 250.0 {
            break;
        }
        if let Some((own, bare)) = round.by_cpu.zip(bare_by_cpu(&url, &ids).await) {
            times_bare = times_bare.min(bare / own);
        }
        if times_bare <= TIMES_BARE {
            break;
        }
    }
    let told = format!(
        "batches of {CHANGES} a second: {by_clock:.0} by the clock, {by_cpu:.0} by the session's CPU time, which is \
         {times_bare:.1} times that of the bare rows"
    );
    eprintln!("{told}");
    assert!(by_clock.max(by_cpu) >= 250.0 || times_bare <= TIMES_BARE, "{told}");
}
