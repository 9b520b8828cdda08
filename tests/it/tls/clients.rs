//! Who has to show a certificate, and which ones are good.

use rollcall::settings::Limits;

use super::{Authority, Files, asked};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_may_be_left_out_where_it_is_optional_but_not_be_of_another_authority() {
    let files = Files::new();
    let app = files.start(files.with_clients(false), Limits::default()).await;
    let (known, unknown) = (files.authority.client("orders"), Authority::new().client("orders"));
    assert_eq!(asked(files.http(None), app.port()).await, Some(200));
    assert_eq!(asked(files.http(Some(&known)), app.port()).await, Some(200));
    assert_eq!(asked(files.http(Some(&unknown)), app.port()).await, None);
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("\nrollcall_http_handshakes_failed_total 1\n"), "{metrics}");
    // It is the certificate of a server, and of another one.
    assert_eq!(asked(files.http(Some(&files.authority.server())), app.port()).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_required_nobody_is_answered_without_one() {
    let files = Files::new();
    let app = files.start(files.with_clients(true), Limits::default()).await;
    let (known, unknown) = (files.authority.client("orders"), Authority::new().client("orders"));
    assert_eq!(asked(files.http(None), app.port()).await, None);
    assert_eq!(asked(files.http(Some(&known)), app.port()).await, Some(200));
    assert_eq!(asked(files.http(Some(&unknown)), app.port()).await, None);
    assert_eq!(asked(files.http(Some(&files.authority.server())), app.port()).await, None);
    for older in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let spoken = |http: reqwest::ClientBuilder| http.tls_version_min(older).tls_version_max(older);
        assert_eq!(asked(spoken(files.http(Some(&known))), app.port()).await, Some(200));
        assert_eq!(asked(spoken(files.http(Some(&unknown))), app.port()).await, None);
        assert_eq!(asked(spoken(files.http(None)), app.port()).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_authority_is_set_a_certificate_is_not_asked_for() {
    let files = Files::new();
    let app = files.start(files.settings(), Limits::default()).await;
    assert_eq!(asked(files.http(None), app.port()).await, Some(200));
    let unknown = Authority::new().client("orders");
    assert_eq!(asked(files.http(Some(&unknown)), app.port()).await, Some(200));
}
