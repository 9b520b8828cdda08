//! Persists what stays out of the log, and follows what other replicas persisted.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    error::StoreError,
    lane::{Patience, STATEMENT_WITHIN, bounded},
};
use crate::domain::{CheckId, InstanceId};

/// What is spoken of: an instance, or one check of it that has a name. The check that nobody named is the instance's
/// own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    pub instance: InstanceId,
    pub check: Option<CheckId>,
}

impl Subject {
    pub fn of(instance: InstanceId) -> Self {
        Self { instance, check: None }
    }

    fn check_text(&self) -> &str {
        self.check.as_ref().map_or("", CheckId::as_str)
    }
}

/// What is known of an instance, or of a check, outside the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sign {
    pub last_seen: Option<DateTime<Utc>>,
    pub last_check: Option<DateTime<Utc>>,
    pub latency_ms: Option<f32>,
    pub output: Option<Arc<str>>,
    pub load: Option<f32>,
    /// Failures beyond the row's own count: in a flush those since the last one, in a feed all.
    pub failures: i64,
    /// The stretch of failures that they belong to.
    pub changes: u32,
}

/// Writes the signs. Repeating a flush with the same number changes nothing. Returns where they stand in the feed, if
/// they were written now.
pub async fn flush(
    connection: &mut PgConnection,
    replica: Uuid,
    number: i64,
    signs: &[(Subject, Sign)],
) -> Result<Option<i64>, StoreError> {
    let column = |f: &dyn Fn(&Sign) -> Option<f32>| signs.iter().map(|(_, sign)| f(sign)).collect::<Vec<_>>();
    let time = |f: &dyn Fn(&Sign) -> Option<DateTime<Utc>>| {
        signs.iter().map(|(_, sign)| f(sign)).collect::<Vec<_>>()
    };
    let ids: Vec<Uuid> = signs.iter().map(|(subject, _)| subject.instance.0).collect();
    let checks: Vec<&str> = signs.iter().map(|(subject, _)| subject.check_text()).collect();
    let outputs: Vec<Option<&str>> = signs.iter().map(|(_, sign)| sign.output.as_deref()).collect();
    let failures: Vec<i64> = signs.iter().map(|(_, sign)| sign.failures).collect();
    let changes: Vec<i32> = signs.iter().map(|(_, sign)| sign.changes.cast_signed()).collect();
    bounded(
        STATEMENT_WITHIN,
        sqlx::query_scalar!(
            "select rollcall.note_liveness($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            replica,
            number,
            &ids,
            &checks as &[&str],
            &time(&|sign| sign.last_seen) as &[Option<DateTime<Utc>>],
            &time(&|sign| sign.last_check) as &[Option<DateTime<Utc>>],
            &column(&|sign| sign.latency_ms) as &[Option<f32>],
            &outputs as &[Option<&str>],
            &column(&|sign| sign.load) as &[Option<f32>],
            &failures,
            &changes,
        )
        .fetch_one(connection),
    )
    .await
}

/// When each of these checks last had a result, at whichever replica.
pub async fn last_checks(
    connection: &mut PgConnection,
    subjects: &[Subject],
    patience: Patience,
) -> Result<HashMap<Subject, DateTime<Utc>>, StoreError> {
    let ids: Vec<Uuid> = subjects.iter().map(|subject| subject.instance.0).collect();
    let checks: Vec<&str> = subjects.iter().map(Subject::check_text).collect();
    let rows = bounded(
        patience.within(),
        sqlx::query!(
            r#"
            select l.instance, l.check_id, l.last_check as "last_check!"
            from unnest($1::uuid[], $2::text[]) w(instance, check_id)
              join rollcall.liveness l on l.instance = w.instance and l.check_id = w.check_id
            where l.last_check is not null
            "#,
            &ids,
            &checks as &[&str],
        )
        .fetch_all(connection),
    )
    .await?;
    let subject =
        |instance, check: &str| Subject { instance: InstanceId(instance), check: CheckId::parse(check).ok() };
    Ok(rows.into_iter().map(|row| (subject(row.instance, &row.check_id), row.last_check)).collect())
}

/// What was flushed after `seq`, or all there is where the feed no longer reaches back that far.
pub struct Feed {
    pub seq: i64,
    pub signs: Vec<(Subject, Sign)>,
}

/// `own` is what the reader has written itself since it was there last, and so knows: where there is nothing else, nothing is
/// read.
pub async fn follow(
    connection: &mut PgConnection,
    seq: Option<i64>,
    own: &[i64],
) -> Result<Feed, StoreError> {
    let oldest_and_newest = bounded(
        STATEMENT_WITHIN,
        sqlx::query!(
            r#"select coalesce(min(seq), 0) as "oldest!", coalesce(max(seq), 0) as "newest!" from rollcall.liveness_feed"#
        )
        .fetch_one(&mut *connection),
    )
    .await?;
    let (oldest, newest) = (oldest_and_newest.oldest, oldest_and_newest.newest);
    match seq {
        Some(seq) if seq <= newest && (seq + 1..=newest).all(|place| own.contains(&place)) => {
            Ok(Feed { seq: newest, signs: Vec::new() })
        }
        Some(seq) if seq < newest && seq + 1 >= oldest => feed_between(connection, seq, newest).await,
        _ => all(connection, newest).await,
    }
}

async fn feed_between(connection: &mut PgConnection, after: i64, to: i64) -> Result<Feed, StoreError> {
    let rows = bounded(
        STATEMENT_WITHIN,
        sqlx::query_as!(
            SignRow,
            r#"
            select u.instance as "instance!", u.check_id, u.last_seen, u.last_check, u.latency_ms, u.output, u.load,
                   u.failures as "failures!", u.changes as "changes!"
            from rollcall.liveness_feed f,
              unnest(f.instance, f.check_id, f.last_seen, f.last_check, f.latency_ms, f.output, f.load, f.failures,
                     f.changes)
                u(instance, check_id, last_seen, last_check, latency_ms, output, load, failures, changes)
            where f.seq > $1 and f.seq <= $2 order by f.seq
            "#,
            after,
            to
        )
        .fetch_all(connection),
    )
    .await?;
    Ok(Feed { seq: to, signs: rows.into_iter().map(SignRow::into_sign).collect() })
}

/// `newest` was read before: what is flushed meanwhile is read again by the next call, which does no harm, because
/// the feed carries totals.
async fn all(connection: &mut PgConnection, newest: i64) -> Result<Feed, StoreError> {
    let rows = bounded(
        STATEMENT_WITHIN,
        sqlx::query_as!(
            SignRow,
            "select l.instance, l.check_id as \"check_id?\", l.last_seen, l.last_check, l.latency_ms, l.output, l.load, l.failures, l.changes \
             from rollcall.liveness l join rollcall.instances i on i.id = l.instance"
        )
        .fetch_all(connection),
    )
    .await?;
    Ok(Feed { seq: newest, signs: rows.into_iter().map(SignRow::into_sign).collect() })
}

struct SignRow {
    instance: Uuid,
    check_id: Option<String>,
    last_seen: Option<DateTime<Utc>>,
    last_check: Option<DateTime<Utc>>,
    latency_ms: Option<f32>,
    output: Option<String>,
    load: Option<f32>,
    failures: i64,
    changes: i32,
}

impl SignRow {
    fn into_sign(self) -> (Subject, Sign) {
        let sign = Sign {
            last_seen: self.last_seen,
            last_check: self.last_check,
            latency_ms: self.latency_ms,
            output: self.output.map(Into::into),
            load: self.load,
            failures: self.failures,
            changes: self.changes.cast_unsigned(),
        };
        let check = self.check_id.and_then(|check| CheckId::parse(&check).ok());
        (Subject { instance: InstanceId(self.instance), check }, sign)
    }
}
