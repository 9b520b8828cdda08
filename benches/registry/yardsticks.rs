//! The servers to compare with: as little as can do the same.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1 as client,
    header::{HOST, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rollcall::{auth, settings::Tls};
use serde::Deserialize;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::{bodies, load::Wire, rounds::TURN};

/// As many as a service with a pool is often given.
const POOL: u32 = 16;

pub fn serve(arguments: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [address, "bytes", registry, services, token] => {
            runtime.block_on(ready_bytes(address, registry, services, token, None));
        }
        [address, "bytes", registry, services, token, certificate, key] => {
            let tls = Tls { certificate: certificate.into(), key: key.into(), clients: None };
            runtime.block_on(ready_bytes(address, registry, services, token, Some(tls)));
        }
        [address, "signs", registry, path] => runtime.block_on(signs(address, registry, path)),
        [address, "target"] => runtime.block_on(target(address)),
        [address, "asker", port, targets] => runtime.block_on(asker(address, port, targets)),
        [address, "transactions", url] => runtime.block_on(transactions(address, url)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Hyper and nothing else: the registry's own answers, headers and all, as they were once. Which of them is asked for
/// is read off the last digits of the path, and no name is looked up.
async fn ready_bytes(address: &str, registry: &str, services: &str, token: &str, tls: Option<Tls>) {
    let services: u64 = services.parse().unwrap();
    let mut wire = Wire::connect(registry.parse().unwrap()).await.unwrap();
    let mut answers = Vec::new();
    for service in 0..services {
        let mut request = Vec::new();
        bodies::get_with_token(&format!("/discover/service-{service:06}"), token, &mut request);
        assert_eq!(wire.ask(&request).await.unwrap(), 200);
        answers.push(Bytes::copy_from_slice(wire.body()));
    }
    let (headers, answers): (_, Arc<[Bytes]>) = (headers_of(&wire), answers.into());
    let tls = match tls {
        Some(tls) => Some(auth::Tls::load(tls).await.unwrap().current().config().into()),
        None => None,
    };
    accept(address, tls, move |request| {
        let digits = request.uri().path().bytes().rev().take_while(u8::is_ascii_digit).take(6);
        let number = digits
            .zip([1, 10, 100, 1000, 10_000, 100_000])
            .map(|(digit, place)| usize::from(digit - b'0') * place);
        let body = answers[number.sum::<usize>()].clone();
        let mut response = Response::new(Full::new(body));
        for (name, value) in headers.iter() {
            response.headers_mut().insert(name, value.clone());
        }
        std::future::ready(response)
    })
    .await;
}

/// The headers of an answer, but for those that hyper gives by itself.
fn headers_of(wire: &Wire) -> Arc<[(HeaderName, HeaderValue)]> {
    let own = ["date", "content-length"];
    std::str::from_utf8(wire.head())
        .unwrap()
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

/// Hyper and nothing else, which answers everything as the registry answered a sign of life.
async fn signs(address: &str, registry: &str, path: &str) {
    let mut wire = Wire::connect(registry.parse().unwrap()).await.unwrap();
    let mut request = Vec::new();
    bodies::post(path, "", &mut request);
    let noted = StatusCode::from_u16(wire.ask(&request).await.unwrap()).unwrap();
    let headers = headers_of(&wire);
    accept(address, None, move |request: Request<Incoming>| {
        let mut response = Response::new(Full::default());
        // it is asked whether it is there as well
        if request.method() == hyper::Method::POST {
            *response.status_mut() = noted;
        }
        for (name, value) in headers.iter() {
            response.headers_mut().insert(name, value.clone());
        }
        std::future::ready(response)
    })
    .await;
}

/// What is checked: well whenever it is asked, and able to tell how often that was. It listens on all addresses of loopback.
async fn target(address: &str) {
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    let asked = Arc::new(AtomicU64::new(0));
    accept(&everywhere, None, move |request: Request<Incoming>| {
        let asked = asked.clone();
        let body = if request.uri().path() == "/count" {
            Bytes::from(asked.load(Relaxed).to_string())
        } else {
            asked.fetch_add(1, Relaxed);
            Bytes::from_static(b"{\"status\":\"healthy\"}")
        };
        std::future::ready(Response::new(Full::new(body)))
    })
    .await;
}

/// A client that is hyper and nothing else: asked to, it asks all targets for a turn, so many at once over connections
/// that it keeps, and tells how often.
async fn asker(address: &str, port: &str, targets: &str) {
    const AT_ONCE: usize = 512;
    const HOSTS: usize = 24;
    type Line = client::SendRequest<Empty<Bytes>>;
    let (port, targets): (u16, usize) = (port.parse().unwrap(), targets.parse().unwrap());
    let mut lanes: Vec<Vec<(Line, String)>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
    for number in 0..targets {
        let host = format!("127.0.0.{}:{port}", number % HOSTS + 1);
        let stream = TcpStream::connect(&host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (line, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        lanes[number % AT_ONCE].push((line, host));
    }
    let lanes = Arc::new(Mutex::new(lanes));
    accept(address, None, move |request: Request<Incoming>| {
        let lanes = lanes.clone();
        async move {
            if request.uri().path() != "/go" {
                return Response::new(Full::default());
            }
            let (begun, mut lanes) = (Instant::now(), lanes.lock().await);
            let asks = lanes.drain(..).map(|mut lane| async move {
                let mut asked = 0_u64;
                while begun.elapsed() < TURN {
                    for (line, host) in &mut lane {
                        let request = Request::get("/").header(HOST, &**host).body(Empty::new()).unwrap();
                        line.ready().await.unwrap();
                        let answer = line.send_request(request).await.unwrap();
                        assert_eq!(answer.status(), StatusCode::OK);
                        answer.into_body().collect().await.unwrap();
                        asked += 1;
                        if begun.elapsed() >= TURN {
                            break;
                        }
                    }
                }
                (lane, asked)
            });
            let mut tasks: JoinSet<_> = asks.collect();
            let mut asked = 0;
            while let Some(done) = tasks.join_next().await {
                let (lane, by_it) = done.unwrap();
                lanes.push(lane);
                asked += by_it;
            }
            Response::new(Full::new(Bytes::from(asked.to_string())))
        }
    })
    .await;
}

#[derive(Deserialize)]
struct Registration {
    name: String,
    host: String,
    port: u16,
}

/// A registry as one would write it first: a transaction a registration, which takes its revision from a row that all
/// of them update.
async fn transactions(address: &str, url: &str) {
    let pool = PgPoolOptions::new().min_connections(POOL).max_connections(POOL).connect(url).await.unwrap();
    for statement in [
        "create table head (only_row boolean primary key, revision bigint not null)",
        "insert into head values (true, 0)",
        "create table instances (id uuid primary key, service text not null, key text not null,
           version bigint not null, revision bigint not null, status text not null, spec text not null,
           registered_at timestamptz not null, updated_at timestamptz not null, unique (service, key))",
        "create table events (revision bigint primary key, time timestamptz not null, kind text not null,
           service text not null, instance uuid not null, data text not null)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    accept(address, None, move |request: Request<Incoming>| {
        let pool = pool.clone();
        async move {
            if request.method() == hyper::Method::GET {
                return Response::new(Full::default());
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let registration: Registration = serde_json::from_slice(&body).unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let answer = register(&pool, &registration, &text).await.unwrap();
            let mut response = Response::new(Full::new(Bytes::from(answer)));
            *response.status_mut() = StatusCode::CREATED;
            response
        }
    })
    .await;
}

async fn register(pool: &PgPool, registration: &Registration, text: &str) -> Result<String, sqlx::Error> {
    let id = Uuid::now_v7();
    let mut transaction = pool.begin().await?;
    let revision: i64 = sqlx::query_scalar("update head set revision = revision + 1 returning revision")
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into instances values ($1, $2, $3, 1, $4, 'healthy', $5, now(), now())
         on conflict (service, key) do update
           set version = instances.version + 1, revision = excluded.revision, updated_at = now()",
    )
    .bind(id)
    .bind(&registration.name)
    .bind(format!("{}:{}", registration.host, registration.port))
    .bind(revision)
    .bind(text)
    .execute(&mut *transaction)
    .await?;
    sqlx::query("insert into events values ($1, now(), 'service_registered', $2, $3, $4)")
        .bind(revision)
        .bind(&registration.name)
        .bind(id)
        .bind(text)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(format!(r#"{{"id":"{id}","revision":{revision},"spec":{text}}}"#))
}

async fn accept<Answer>(
    address: &str,
    tls: Option<TlsAcceptor>,
    answer: impl Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
) where
    Answer: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (answer, tls) = (answer.clone(), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            // the load ends its connections as it likes
            match tls {
                None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                }
            }
        });
    }
}
