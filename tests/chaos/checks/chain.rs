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
            let mut own = Vec::new();
            while let Some(event) = events.next_if(|event| event.revision <= to) {
                own.push(event);
            }
            if own.len() as i64 != to - from + 1 {
                findings.push(format!("batch {from}..{to} has {} events", own.len()));
            }
            let written: Vec<u8> = batch.get("hash");
            let mut head = before.as_ref().map(|(_, _, hash)| hash.clone()).unwrap_or_default();
            head.extend(from.to_be_bytes());
            head.extend(to.to_be_bytes());
            head.extend(epoch.to_be_bytes());
            let hash = match written.first() {
                Some(2) if written.len() == 33 => by_column(head, &own),
                _ => by_line(head, &own),
            };
            if hash != written {
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

/// An event as the chain covers it: kind, service, instance, actor, origin, request and data.
struct Event {
    revision: i64,
    epoch: i32,
    /// In microseconds since 1970.
    time: i64,
    texts: [Option<String>; 7],
}

const INSTANCE: usize = 2;

/// From 1970 to 2000, where the database begins to count, in microseconds.
const THIRTY_YEARS: i64 = 946_684_800_000_000;

fn by_line(mut head: Vec<u8>, events: &[Event]) -> Vec<u8> {
    let text = |text: &Option<String>| serde_json::to_string(text).unwrap_or_default();
    let line = |event: &Event| {
        let Event { revision, epoch, time, texts } = event;
        format!("[{revision}, {epoch}, {time}, {}]", texts.each_ref().map(text).join(", "))
    };
    let lines: Vec<String> = events.iter().map(line).collect();
    head.extend(Sha256::digest(lines.join("\n").as_bytes()));
    Sha256::digest(head).to_vec()
}

fn by_column(head: Vec<u8>, events: &[Event]) -> Vec<u8> {
    // what PostgreSQL calls its types
    let [bigint, integer, text_type, time, uuid_type] = [20, 23, 25, 1184, 2950];
    let mut whole = head;
    whole.extend(sent(bigint, events, |event| Some(event.revision.to_be_bytes().to_vec())));
    whole.extend(sent(integer, events, |event| Some(event.epoch.to_be_bytes().to_vec())));
    whole.extend(sent(time, events, |event| Some((event.time - THIRTY_YEARS).to_be_bytes().to_vec())));
    for which in 0..7 {
        let text = |event: &Event| event.texts[which].clone();
        whole.extend(match which {
            INSTANCE => sent(uuid_type, events, |event| {
                text(event).and_then(|id| Some(id.parse::<uuid::Uuid>().ok()?.as_bytes().to_vec()))
            }),
            _ => sent(text_type, events, |event| text(event).map(String::into_bytes)),
        });
    }
    [&[2], &Sha256::digest(whole)[..]].concat()
}

/// A column as the database sends it as an array: dimensions, whether it has nulls, the type, the length, where it
/// begins, and each element with its own length.
fn sent(of: i32, events: &[Event], value: impl Fn(&Event) -> Option<Vec<u8>>) -> Vec<u8> {
    let values: Vec<Option<Vec<u8>>> = events.iter().map(value).collect();
    let has_nulls = i32::from(values.contains(&None));
    let mut array: Vec<u8> =
        [1, has_nulls, of, values.len() as i32, 1].into_iter().flat_map(i32::to_be_bytes).collect();
    for value in values {
        array.extend(value.as_ref().map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
        array.extend(value.unwrap_or_default());
    }
    array
}

async fn events(connection: &mut PgConnection, from: i64, to: i64) -> Result<Vec<Event>, String> {
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
    Ok(rows.iter().map(event).collect())
}

fn event(row: &PgRow) -> Event {
    let columns = ["kind", "service", "instance", "actor", "origin", "request_id", "data"];
    Event {
        revision: row.get("revision"),
        epoch: row.get("epoch"),
        time: row.get("micros"),
        texts: columns.map(|column| row.get(column)),
    }
}
