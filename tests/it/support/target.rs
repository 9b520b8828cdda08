//! Something to be checked: a real server whose answer to the health check a test can switch.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq)]
pub enum Answer {
    Status(u16),
    /// With a body of so many bytes.
    Long(u16, usize),
    Body(u16, &'static str),
    /// Leads elsewhere.
    Redirect(u16),
    /// Takes the request and says nothing, until it is switched to something else.
    Silence,
}

pub struct HealthTarget {
    address: SocketAddr,
    answer: watch::Sender<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
    // Dropped, it closes the listener and every connection.
    serving: JoinSet<()>,
}

impl HealthTarget {
    pub async fn start(answer: Answer) -> Self {
        Self::start_at("127.0.0.1:0", answer).await.expect("a port on loopback")
    }

    pub async fn start_at(address: &str, answer: Answer) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (answer, answers) = watch::channel(answer);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, answers, Arc::clone(&asked)));
        Ok(Self { address, answer, asked, serving })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// From now on connections are refused.
    pub async fn close(&mut self) {
        self.serving.shutdown().await;
    }

    /// How often it was asked so far.
    pub fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The paths and queries it was asked for, in order.
    pub fn asked_for(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, answers: watch::Receiver<Answer>, asked: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (answers, asked) = (answers.clone(), Arc::clone(&asked));
        connections.spawn(async move {
            let reply = service_fn(move |request| reply(request, answers.clone(), Arc::clone(&asked)));
            // The asker may hang up whenever it likes.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), reply)
                .await;
        });
    }
}

async fn reply(
    request: Request<Incoming>,
    mut answers: watch::Receiver<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Body>, Infallible> {
    asked.lock().unwrap().push(request.uri().to_string());
    let answer = answers.wait_for(|answer| *answer != Answer::Silence).await.map(|answer| *answer);
    let (status, body) = match answer {
        Ok(Answer::Status(status)) => (status, "{}".to_owned()),
        Ok(Answer::Long(status, size)) => (status, "x".repeat(size)),
        Ok(Answer::Body(status, body)) => (status, body.to_owned()),
        Ok(Answer::Redirect(port)) => {
            let elsewhere = format!("http://127.0.0.1:{port}/trap");
            return Ok(Response::builder()
                .status(302)
                .header("location", elsewhere)
                .body(Body::empty())
                .unwrap());
        }
        // The test is over, and its target with it.
        Ok(Answer::Silence) | Err(_) => (500, String::new()),
    };
    Ok(Response::builder().status(status).body(Body::from(body)).unwrap())
}
