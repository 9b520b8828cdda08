//! The chain of hashes, computed anew from the tables, and in other words than the product's.

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row, postgres::PgRow};

const BATCHES_A_PAGE: i64 = 500;

/// How many batches there are, and what is wrong with them.
pub async fn check(connection: &mut PgConnection) -> Result<(usize, Vec<String>), String> {
    let (mut batches, mut findings) = (0, Vec::new());
    let mut before: Option<(i64, i32, Vec<u8>)> = None;
    loop {
        let after = before.as_ref().map_or(0, |(to, ..)| *to);
        let page = sqlx::query(
            "select epoch, rev_from, rev_to, hash from rollcall.batches where rev_to > $1 order by rev_to limit $2",
        )
        .bind(after)
        .bind(BATCHES_A_PAGE)
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| error.to_string())?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok((batches, findings)) };
        let mut events =
            events(connection, first.get("rev_from"), last.get("rev_to")).await?.into_iter().peekable();
        for batch in &page {
            let (epoch, from, to): (i32, i64, i64) =
                (batch.get("epoch"), batch.get("rev_from"), batch.get("rev_to"));
            let mut lines = Vec::new();
            while let Some((_, line)) = events.next_if(|(revision, _)| *revision <= to) {
                lines.push(line);
            }
            if lines.len() as i64 != to - from + 1 {
                findings.push(format!("batch {from}..{to} has {} events", lines.len()));
            }
            let previous = before.as_ref().map(|(_, _, hash)| hash.as_slice()).unwrap_or_default();
            let hash = hash(previous, from, to, epoch, &lines.join("\n"));
            if hash != batch.get::<Vec<u8>, _>("hash") {
                findings.push(format!("the hash of batch {from}..{to} is not that of its events"));
            }
            let follows = match &before {
                None => from == 1,
                Some((last, era, _)) if *era == epoch => from == last + 1,
                Some((last, era, _)) => epoch > *era && from > *last,
            };
            if !follows {
                findings.push(format!("batch {from}..{to} does not follow {before:?}"));
            }
            before = Some((to, epoch, hash));
            batches += 1;
        }
    }
}

fn hash(before: &[u8], from: i64, to: i64, epoch: i32, lines: &str) -> Vec<u8> {
    let mut whole = Sha256::new();
    whole.update(before);
    whole.update(from.to_be_bytes());
    whole.update(to.to_be_bytes());
    whole.update(epoch.to_be_bytes());
    whole.update(Sha256::digest(lines.as_bytes()));
    whole.finalize().to_vec()
}

async fn events(connection: &mut PgConnection, from: i64, to: i64) -> Result<Vec<(i64, String)>, String> {
    let rows = sqlx::query(
        "select revision, epoch, (extract(epoch from time) * 1000000)::bigint as micros, kind, service, \
         instance::text as instance, actor, origin, request_id, data \
         from rollcall.events where revision between $1 and $2 order by revision",
    )
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await
    .map_err(|error| error.to_string())?;
    Ok(rows.iter().map(|row| (row.get("revision"), line(row))).collect())
}

/// An event as the chain covers it.
fn line(row: &PgRow) -> String {
    let text = |column: &str| match row.get::<Option<String>, _>(column) {
        Some(text) => serde_json::to_string(&text).unwrap_or_default(),
        None => "null".to_owned(),
    };
    let (revision, epoch, micros): (i64, i32, i64) =
        (row.get("revision"), row.get("epoch"), row.get("micros"));
    let texts = ["kind", "service", "instance", "actor", "origin", "request_id", "data"].map(text);
    format!("[{revision}, {epoch}, {micros}, {}]", texts.join(", "))
}
