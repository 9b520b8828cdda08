//! Certificates that are renewed while it runs.

use rollcall::settings::Limits;

use super::{Authority, Files, asked};
use crate::support::{PATIENCE, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_without_a_restart_and_no_connection_is_dropped() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    let held = files.http(None).http1_only().build().unwrap();
    let url = format!("https://127.0.0.1:{}/health/live", app.port());
    let ask = async || held.get(&url).send().await.map(|answer| answer.status().as_u16());
    assert_eq!(ask().await.unwrap(), 200);

    let renewed = Authority::new();
    files.put(&renewed.server());
    let trusting = || reqwest::Client::builder().no_proxy().tls_certs_only([renewed.root()]);
    wait_until(PATIENCE, "the new certificate is shown", async || asked(trusting(), app.port()).await).await;
    // A new connection would not be made: this client does not know the new authority.
    assert_eq!(asked(files.http(None), app.port()).await, None);
    assert_eq!(ask().await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_authorities_of_clients_hold_without_a_restart() {
    let files = Files::new();
    let app = files.start(files.with_clients(true), Limits::default()).await;
    let others = Authority::new();
    let (old, new) = (files.authority.client("orders"), others.client("orders"));
    assert_eq!(asked(files.http(Some(&old)), app.port()).await, Some(200));
    assert_eq!(asked(files.http(Some(&new)), app.port()).await, None);
    files.write("ca.pem", others.certificate());
    wait_until(PATIENCE, "the new ones are known", async || asked(files.http(Some(&new)), app.port()).await)
        .await;
    assert_eq!(asked(files.http(Some(&old)), app.port()).await, None);
}
