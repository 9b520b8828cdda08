//! What is secret stays so: in the log, in every answer, and in the database.

use std::sync::Arc;

use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Bearer as _, ROOT, rule, token};
use crate::support::{Database, Folder, Process};

const JWT_SECRET: &str = "a-secret-for-signed-tokens-of-32-bytes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_answered_or_stored() {
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let environment = [
        ("DATABASE_URL", &*database.url()),
        ("ROLLCALL_AUTH", "on"),
        ("ROLLCALL_ROOT_TOKEN", ROOT),
        ("ROLLCALL_JWT_SECRET", JWT_SECRET),
        ("ROLLCALL_LOG", "debug"),
    ];
    let server = Process::serve(&folder, &environment).ready().await;
    let (id, secret) =
        token(&server, "kept", &[rule("service", "", "write"), rule("audit", "", "read")]).await;
    // good and bad uses of each, and what is refused with a secret in an odd place
    let service = json!({"name": "a", "type": "api", "host": "10.0.0.1", "port": 80, "checks": []});
    server.register(&service).bearer(&secret).await.answered(201);
    let slips = [
        server.get("/discover/a").bearer(&format!("{secret}x")).await,
        server.get(&format!("/discover/{secret}")).await,
        server.get("/api/v1/services").header("authorization", &secret).await,
        server
            .post("/api/v1/tokens")
            .bearer(&secret)
            .json(&json!({"name": "n", "policies": {"rules": []}}))
            .await,
        server.post("/api/v1/tokens").bearer(ROOT).body("application/json", format!("{{{ROOT}")).await,
        server.get("/api/v1/tokens").bearer(ROOT).await,
        server.get("/api/v1/events?limit=1000").bearer(&secret).await,
        server.get("/metrics").bearer(ROOT).await,
    ];
    for reply in slips {
        // a path is given back to whoever asked for it, who knows it
        let text = reply.text().replace(&format!("/discover/{secret}"), "");
        for kept in [ROOT, JWT_SECRET, secret.as_str()] {
            assert!(!text.contains(kept), "an answer has a secret: {text}");
        }
    }
    server.delete(&format!("/api/v1/tokens/{id}")).bearer(ROOT).await.answered(204);
    let log = server.output();
    assert!(log.contains("Token created") && log.contains("Token revoked"), "{log}");
    assert_eq!(server.stop().await.code(), Some(0));
    for kept in [ROOT, JWT_SECRET, secret.as_str()] {
        assert!(!log.contains(kept), "the log has a secret");
    }

    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    for table in ["events", "tokens", "idempotency_keys", "batches"] {
        let statement = format!("select coalesce(string_agg(t::text, ' '), '') from rollcall.{table} t");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_one(&mut connection).await.unwrap();
        let text: String = row.get(0);
        for kept in [ROOT, JWT_SECRET, secret.as_str()] {
            assert!(!text.contains(kept), "{table} has a secret");
        }
    }
    connection.close().await.unwrap();
}
