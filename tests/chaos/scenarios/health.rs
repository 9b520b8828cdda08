//! Who is well, while rollcall itself is not: a replica that does not reach its targets, targets that are all away, clocks
//! that are an hour off, and a database that is away for longer than every lease.

mod leases;
mod targets;

use sqlx::Row as _;

use super::keep_logs;
use crate::{
    cluster::{Cluster, Needs},
    options::Options,
    report::Report,
};
use targets::Targets;

pub async fn play(options: &Options, report: &mut Report) -> Result<(), String> {
    report.begin("health");
    let targets = Targets::start().await.map_err(|error| error.to_string())?;
    let needs = Needs { binary: options.binary.clone(), targets: Some(targets.port), ..Needs::default() };
    let cluster = Cluster::start(&needs).await?;
    let client = Client::new(&cluster)?;
    targets::play(&cluster, &client, &targets, options, report).await?;
    leases::play(&cluster, &client, options, report).await?;
    report.end();
    keep_logs(options, report, &cluster, "health");
    Ok(())
}

/// Asks the replicas as their users do.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    bases: Vec<String>,
}

impl Client {
    fn new(cluster: &Cluster) -> Result<Self, String> {
        let http = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(10)).build();
        Ok(Self { http: http.map_err(|error| error.to_string())?, bases: cluster.bases() })
    }

    /// Registers services and gives their ids, in their order.
    async fn register(&self, services: &[serde_json::Value]) -> Result<Vec<String>, String> {
        let url = format!("{}/api/v1/services/register/batch", self.bases[0]);
        let mut ids = Vec::new();
        for batch in services.chunks(1000) {
            let answer = self.http.post(&url).json(batch).send().await.map_err(|error| error.to_string())?;
            let answer: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
            for result in answer.as_array().ok_or_else(|| format!("no list: {answer}"))? {
                let id = result["service"]["id"].as_str().ok_or_else(|| format!("no id: {result}"))?;
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }
}

/// So many events of a kind that services of these names have, and of how many instances. `new_status` is of those that
/// tell of one.
async fn events(
    cluster: &Cluster,
    names: &str,
    kind: &str,
    new_status: Option<&str>,
) -> Result<usize, String> {
    let asked = async {
        let mut connection = cluster.database.connect().await?;
        let row = sqlx::query(
            "select count(distinct instance) from rollcall.events where service like $1 and kind = $2 \
             and ($3::text is null or data::json ->> 'new_status' = $3)",
        )
        .bind(names)
        .bind(kind)
        .bind(new_status)
        .fetch_one(&mut connection)
        .await?;
        row.try_get::<i64, _>(0)
    };
    let count = asked.await.map_err(|error: sqlx::Error| error.to_string())?;
    usize::try_from(count).map_err(|error| error.to_string())
}

async fn fell_ill(cluster: &Cluster, names: &str) -> Result<usize, String> {
    events(cluster, names, "status_change", Some("unhealthy")).await
}

async fn removed(cluster: &Cluster, names: &str) -> Result<usize, String> {
    events(cluster, names, "service_unregistered", None).await
}
