//! A table of bytes to send, and what must come back.
//!
//! Behind each case's bytes a sound request is sent, the probe, and then nothing more: so the server ends every
//! connection, and nobody has to guess when it has said all. A request that stands inside another's body calls itself
//! smuggled: whoever answers it has been fooled about where one ends and the next begins.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::support::{Database, Folder, Process, Raw, answers, static_service};

pub const SMUGGLED: &str = "GET /health HTTP/1.1\r\nhost: x\r\nx-request-id: smuggled\r\n\r\n";
const PROBE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\nx-request-id: probe\r\n\r\n";

/// Whether the probe is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// The connection goes on.
    Open,
    /// Nothing on it is answered any more.
    Closed,
    /// As the server likes: what was not read of a body may have been thrown away, or not.
    Either,
}

pub struct Case {
    what: String,
    sent: Vec<u8>,
    /// For each answer, in order, the statuses that it may have.
    answers: Vec<Vec<u16>>,
    then: Then,
}

pub fn case(what: &str, sent: impl Into<Vec<u8>>, answers: &[&[u16]], then: Then) -> Case {
    let answers = answers.iter().map(|statuses| statuses.to_vec()).collect();
    Case { what: what.to_owned(), sent: sent.into(), answers, then }
}

/// Sends all of them to one server, which is to be as well afterwards as before.
pub async fn run(cases: Vec<Case>) {
    let database = Database::fresh().await;
    let folder = Arc::new(Folder::new());
    let server = Process::serve(&folder, &[("DATABASE_URL", &database.url())]).ready().await;
    // What is known is answered in another way than what is not.
    server.registered(&static_service("known", 80)).await;
    let mut failures = String::new();
    for case in &cases {
        if let Err(failure) = fails(&server, case).await {
            writeln!(failures, "{}: {failure}", case.what).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");

    server.registered(&static_service("afterwards", 80)).await;
    assert_eq!(server.array("/discover/afterwards").await.len(), 1);
    let metrics = server.get("/metrics").await.answered(200).text();
    assert!(!metrics.contains("status=\"500\""), "{metrics}");
    let output = server.output();
    for sign in ["panicked", "\"ERROR\""] {
        assert!(!output.contains(sign), "{output}");
    }
    assert!(server.stop().await.success());
}

async fn fails(server: &Process, case: &Case) -> Result<(), String> {
    let mut raw = Raw::connect(server.port).await;
    let mut sent = case.sent.clone();
    sent.extend_from_slice(PROBE.as_bytes());
    // It need not be taken to its end.
    raw.send(sent).await;
    raw.finish().await;
    let received = raw.rest().await;
    let (mut said, left) = answers(&received);

    let is = |id: &str, head: &str| head.contains(&format!("x-request-id: {id}\r\n"));
    let probed = said.last().is_some_and(|last| is("probe", &last.head));
    if probed {
        let probe = said.pop().unwrap();
        if probe.status != 200 {
            return Err(format!("the probe got {}", probe.status));
        }
    }
    if said.iter().any(|said| is("smuggled", &said.head) || is("probe", &said.head)) {
        return Err(format!("a smuggled request was answered: {said:?}"));
    }
    let fits = said.len() == case.answers.len()
        && said.iter().zip(&case.answers).all(|(said, allowed)| allowed.contains(&said.status));
    if !fits {
        let statuses: Vec<u16> = said.iter().map(|said| said.status).collect();
        return Err(format!("{statuses:?} instead of {:?} {said:?}", case.answers));
    }
    for problem in said.iter().filter(|said| said.status >= 400 && !said.body.is_empty()) {
        if !problem.head.contains("content-type: application/problem+json") {
            return Err(format!("no problem: {problem:?}"));
        }
    }
    if !left.is_empty() && left.starts_with(b"HTTP/") {
        return Err(format!("half an answer: {:?}", String::from_utf8_lossy(left)));
    }
    match case.then {
        Then::Open if !probed => Err("the connection was closed".to_owned()),
        Then::Closed if probed => Err("the connection was left open".to_owned()),
        _ => Ok(()),
    }
}
