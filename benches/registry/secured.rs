//! TLS for the measurements: a certificate, and a load over connections that are kept.
//!
//! It takes more of the machine than the load without TLS does, and leaves the servers less. What counts here is the
//! CPU of a request at the server.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider, pki_types::ServerName};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::load::{Done, Wire};

#[derive(Clone)]
pub struct Secured {
    pub certificate: PathBuf,
    pub key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Secured {
    /// A certificate for this machine, and those who believe it.
    pub fn within(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let pair = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&certificate, own.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { certificate, key, client: Arc::new(client) }
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<Wire<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Wire::over(TlsConnector::from(self.client.clone()).connect(name, stream).await?))
    }

    pub async fn connections(&self, address: SocketAddr, number: usize) -> Vec<Wire<TlsStream<TcpStream>>> {
        let mut wires = Vec::new();
        for _ in 0..number {
            wires.push(self.connect(address).await.unwrap());
        }
        wires
    }
}

/// Each connection asks again as soon as it is answered.
pub async fn load(
    wires: Vec<Wire<TlsStream<TcpStream>>>,
    time: Duration,
    first: u64,
    requests: fn(u64, &mut Vec<u8>),
) -> Done {
    let (next, begun) = (Arc::new(AtomicU64::new(first)), Instant::now());
    let mut asking = JoinSet::new();
    for mut wire in wires {
        let next = next.clone();
        asking.spawn(async move {
            let mut latencies = Vec::new();
            let mut request = Vec::with_capacity(512);
            loop {
                let asked = Instant::now();
                if asked - begun >= time {
                    return latencies;
                }
                request.clear();
                requests(next.fetch_add(1, Ordering::Relaxed), &mut request);
                assert_eq!(wire.ask(&request).await.unwrap(), 200);
                latencies.push(asked.elapsed().as_secs_f64() * 1e6);
            }
        });
    }
    let latencies = asking.join_all().await.concat();
    let seconds = begun.elapsed().as_secs_f64();
    Done { requests: latencies.len() as u64, seconds, latencies, error: None }
}
