//! The real binary with TLS: what it says, what it refuses, and its health check.

use std::process::{Command, Output};
use std::sync::Arc;

use super::Files;
use crate::support::{Database, Folder, PATIENCE, Process, run, wait_until};

fn environment(files: &Files) -> Vec<(&'static str, String)> {
    let path = |name: &str| files.path(name).display().to_string();
    vec![("ROLLCALL_TLS_CERT", path("cert.pem")), ("ROLLCALL_TLS_KEY", path("key.pem"))]
}

fn called(command: &str, environment: &[(&str, String)]) -> Output {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(Command::new(env!("CARGO_BIN_EXE_rollcall")).arg(command), &environment)
}

#[test]
fn half_of_the_settings_is_refused_with_the_name_of_the_other_half() {
    let files = Files::new();
    for (given, missing) in [(0, "ROLLCALL_TLS_KEY"), (1, "ROLLCALL_TLS_CERT")] {
        let half = [environment(&files).swap_remove(given)];
        let ended = called("serve", &half);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(half[0].0) && said.contains(&format!("but {missing} is not")), "{said}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_settings() {
    let files = Files::new();
    files.write("jwks.json", "{");
    let mut bad_keys = environment(&files);
    bad_keys.push(("ROLLCALL_JWT_KEYS", files.path("jwks.json").display().to_string()));
    let ended = called("serve", &with_data(&files, bad_keys));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("jwks.json (ROLLCALL_JWT_KEYS) cannot be used"), "{said}");

    let other = Files::new();
    files.write("key.pem", &std::fs::read_to_string(other.path("key.pem")).unwrap());
    let ended = called("serve", &with_data(&files, environment(&files)));
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("key.pem (ROLLCALL_TLS_KEY) cannot be used"), "{said}");
}

/// It is to fail before it asks for a database, and to leave the machine's folders alone.
fn with_data(files: &Files, mut environment: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    environment.extend([
        ("ROLLCALL_DATA_DIR", files.path("data").display().to_string()),
        ("ROLLCALL_LISTEN", "127.0.0.1:0".to_owned()),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none".to_owned()),
    ]);
    environment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_https_and_its_health_check_works_whatever_clients_have_to_show() {
    let database = Database::fresh().await;
    for client_auth in [None, Some("optional"), Some("required")] {
        let files = Files::new();
        let mut environment = environment(&files);
        environment.push(("DATABASE_URL", database.url()));
        if let Some(client_auth) = client_auth {
            environment.push(("ROLLCALL_TLS_CLIENT_CA", files.path("ca.pem").display().to_string()));
            environment.push(("ROLLCALL_TLS_CLIENT_AUTH", client_auth.to_owned()));
        }
        let folder = Arc::new(Folder::new());
        let server = {
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Process::serve(&folder, &environment)
        };
        let url = format!("https://127.0.0.1:{}", server.port);
        environment.push(("ROLLCALL_LISTEN", format!("127.0.0.1:{}", server.port)));
        wait_until(PATIENCE, "the health check succeeds", async || {
            called("health", &environment).status.success().then_some(())
        })
        .await;
        let said = server.output();
        assert!(said.contains(&format!("rollcall listens on {url} ")), "{said}");
        assert!(said.contains(&format!("\"url\":\"{url}\"")), "{said}");

        // Who is asked by an address has to be the one that it names.
        environment.push(("ROLLCALL_ADDR", url));
        let unknown = called("health", &environment);
        assert_eq!(unknown.status.code(), Some(1));
        environment.push(("SSL_CERT_FILE", files.path("ca.pem").display().to_string()));
        let known = called("health", &environment);
        // It has no certificate of a client to show there.
        assert_eq!(known.status.success(), client_auth != Some("required"));
        environment.push(("ROLLCALL_ADDR", format!("http://127.0.0.1:{}", server.port)));
        let plain = called("health", &environment);
        assert_eq!(plain.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&plain.stderr).contains("https://"));
        assert!(server.stop().await.success());
    }
}
