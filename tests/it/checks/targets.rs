//! Where checks may not go.

use rollcall::settings::Networks;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixStream};

use super::{becomes, checked, quick};
use crate::support::{Answer, Database, HealthTarget, TestApp};

/// Ways to write the addresses of the link itself and of metadata services.
const FORBIDDEN: [&str; 24] = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "0251.254.169.254",
    "169.16689662",
    "169.254.43518",
    "0xa9.254.43518",
    "[fe80::1]",
    "[FE80:0:0:0:0:0:0:1]",
    "[febf::1]",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "100.100.100.200",
    "255.255.255.255",
    "224.0.0.1",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_target_is_refused_at_registration() {
    let app = TestApp::start().await;
    let refused = async |check: Value| {
        let answer = app.register(&checked("bad", 80, &json!([check]))).await;
        assert_eq!(answer.status, 400, "{check}");
        answer.blames("checks[0].url");
    };
    for host in FORBIDDEN {
        refused(json!({"kind": "http", "url": format!("http://{host}/latest")})).await;
        refused(json!({"kind": "http", "url": format!("https://{host}:8443")})).await;
        refused(json!({"kind": "tcp", "url": format!("{host}:80")})).await;
        refused(json!({"kind": "grpc", "url": format!("grpc://{host}:80")})).await;
        let mut body = checked("bad", 80, &json!([{"kind": "tcp"}]));
        body["host"] = json!(host);
        app.register(&body).await.blames("host");
    }
    for url in [
        "ftp://a/",
        "file:///etc/passwd",
        "gopher://a:70/",
        "unix:/run/docker.sock",
        "dict://a:11211/",
        "jar:http://a/",
        "ldap://a/",
        "//a/",
        "http://",
        "http://user@a/",
        "http://:secret@a/",
        "http://a:b@c/",
        "http://@a@b/",
        "HTTP://user:secret@a",
        "http://a b/",
        "http://a/\n",
        "http://[::1",
        "http://a:99999/",
    ] {
        refused(json!({"kind": "http", "url": url})).await;
    }
    assert!(app.array("/api/v1/services").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_can_narrow_where_checks_go() {
    let trap = HealthTarget::start(Answer::Status(200)).await;
    let database = Database::fresh().await;
    let denied = |list: &str, allow: bool| {
        let networks = Networks::parse(list).unwrap();
        move |settings: &mut rollcall::settings::Settings| {
            settings.checker = true;
            *(if allow { &mut settings.checks.allowed } else { &mut settings.checks.denied }) = networks;
        }
    };
    for (list, allow) in [("127.0.0.0/8", false), ("10.0.0.0/8", true)] {
        let app = TestApp::start_with(&database, denied(list, allow)).await;
        let names = [("literal", "127.0.0.1"), ("mapped", "[::ffff:127.0.0.1]"), ("by-name", "localhost")];
        for (name, host) in names {
            let url = format!("http://{host}:{}/", trap.port());
            let check = quick("http", json!({"url": url, "unhealthy_after": 1}));
            let path = app.path_of(&checked(&format!("{name}-{allow}"), 1, &json!([check]))).await;
            let health = becomes(&app, &path, "unhealthy").await;
            assert!(health["error"].as_str().unwrap().ends_with("may not be asked"), "{health}");
        }
    }
    assert_eq!(trap.times_asked(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_no_target() {
    let database = Database::fresh().await;
    let mut url = url::Url::parse(&database.url()).unwrap();
    let (_, socket) = url.query_pairs().find(|(name, _)| name == "host").unwrap();
    let socket = format!("{socket}/.s.PGSQL.{}", url.port().unwrap_or(5432));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut server).await });
        }
    });
    url.set_query(Some("sslmode=disable"));
    url.set_host(Some("localhost")).unwrap();
    url.set_port(Some(port)).unwrap();
    let app = TestApp::start_checking_at(url.into()).await;
    for (name, host) in [("literal", "127.0.0.1"), ("by-name", "localhost"), ("any", "0.0.0.0")] {
        let check = quick("tcp", json!({"url": format!("{host}:{port}"), "unhealthy_after": 1}));
        let path = app.path_of(&checked(name, 1, &json!([check]))).await;
        let health = becomes(&app, &path, "unhealthy").await;
        assert!(health["error"].as_str().unwrap().ends_with("may not be asked"), "{health}");
    }
}
