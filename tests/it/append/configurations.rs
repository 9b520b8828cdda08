//! The versions of configurations: all of them, also those that one batch went through.

use rollcall::store::GroupOutcome::{Conflict, Written};
use sqlx::Row as _;

use super::{Replica, config_key};
use crate::support::Database;

type Version = (i64, i64, Option<String>, Option<String>, String);

async fn versions(replica: &mut Replica, service: &str) -> Vec<Version> {
    let query = "select version, revision, content, comment, actor from rollcall.config_versions \
                 where id = $1 order by version";
    let rows = sqlx::query(query).bind(config_key(service).id()).fetch_all(&mut replica.connection).await;
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect()
}

fn version(version: i64, revision: i64, content: Option<&str>) -> Version {
    let comment = content.map(|content| format!("was\n{content}"));
    (version, revision, content.map(str::to_owned), comment, "somebody".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_is_kept_and_deletions_have_no_content() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let key = config_key("a");
    replica.write(replica.draft().group().put(&key, r#"{"n":1}"#)).await;
    replica.write(replica.draft().group().delete(&key)).await;
    replica.write(replica.draft().group().put(&key, r#"{"n":3}"#)).await;
    let mut draft = replica.draft();
    draft.group().put(&config_key("b"), "{}");
    draft.group().put(&key, r#"{"n":4}"#).delete(&key).put(&key, r#"{"n":6}"#).delete(&key);
    assert_eq!(replica.write(&mut draft).await, [Written, Written]);
    let expected = [
        version(1, 1, Some(r#"{"n":1}"#)),
        version(2, 2, None),
        version(3, 3, Some(r#"{"n":3}"#)),
        version(4, 5, Some(r#"{"n":4}"#)),
        version(5, 6, None),
        version(6, 7, Some(r#"{"n":6}"#)),
        version(7, 8, None),
    ];
    assert_eq!(versions(&mut replica, "a").await, expected);
    assert_eq!(versions(&mut replica, "b").await, [version(1, 4, Some("{}"))]);
    // the row of a deleted one stays, without content, and its versions go on
    let loaded = Replica::open(&database).await;
    let entry = &loaded.snapshot.configs()[&key];
    assert_eq!((entry.version, entry.revision, entry.content.is_none()), (7, 8, true));
    assert_eq!(loaded.snapshot.configs(), replica.snapshot.configs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_configurations_in_one_group_keep_their_own_versions() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let [a, b] = [config_key("a"), config_key("b")];
    let mut draft = replica.draft();
    draft.group().put(&a, r#"{"n":1}"#).put(&b, r#"{"n":2}"#).put(&a, r#"{"n":3}"#);
    draft.group().put(&config_key("c"), r#"{"n":4}"#);
    assert_eq!(replica.write(&mut draft).await, [Written, Written]);
    let expected = [version(1, 1, Some(r#"{"n":1}"#)), version(2, 3, Some(r#"{"n":3}"#))];
    assert_eq!(versions(&mut replica, "a").await, expected);
    assert_eq!(versions(&mut replica, "b").await, [version(1, 2, Some(r#"{"n":2}"#))]);
    assert_eq!(versions(&mut replica, "c").await, [version(1, 4, Some(r#"{"n":4}"#))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_leaves_no_version() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    let mut late = Replica::open(&database).await;
    let key = config_key("a");
    replica.write(replica.draft().group().put(&key, r#"{"n":1}"#)).await;
    let mut draft = late.draft();
    draft.group().put(&key, r#"{"n":2}"#).put(&key, r#"{"n":3}"#).group().put(&config_key("b"), "{}");
    assert_eq!(late.write(&mut draft).await, [Conflict, Written]);
    assert_eq!(versions(&mut late, "a").await, [version(1, 1, Some(r#"{"n":1}"#))]);
    assert_eq!(versions(&mut late, "b").await, [version(1, 2, Some("{}"))]);
}

/// No digit, no space and no escape is lost on the way, in the row, in the versions and in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_kept_as_it_was_sent() {
    let database = Database::fresh().await;
    let mut replica = Replica::open(&database).await;
    for (n, content) in [
        r#"{"n": 12345678901234567890123.4500, "e":1E+5 }"#,
        "{\n  \"lines\": [1,\r\n\t2]\n}",
        r#"{"s":"é \u00e9 \" \\ \/ \b \ud83d\ude00 😀 null"}"#,
        r#"{"null":null,"content":null,"version":7,"environment":"x","comment":"inner"}"#,
        r#"{"a":1,"a":2,"'; drop table events; --":"$1 %s {} \\n"}"#,
        r#"{"":{"":[[],{}]}}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let key = config_key(&format!("kept{n}"));
        assert_eq!(replica.write(replica.draft().group().put(&key, content)).await, [Written], "{content}");
        let revision = replica.revision();
        assert_eq!(versions(&mut replica, &format!("kept{n}")).await, [version(1, revision, Some(content))]);
        for replica in [&replica, &Replica::open(&database).await] {
            assert_eq!(replica.snapshot.configs()[&key].content.as_ref().unwrap().text(), content);
        }
    }
}
