use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::TargetUrl;
use domain::webhook_signature::Id;
use http::HeaderMap;
use rustls::RootCertStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::dial::Stream;
use super::*;
use crate::push::egress::EgressPolicy;

mod connections;
mod egress;
mod https;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const OK_AND_CLOSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A target; ends when it is dropped.
struct Target {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

/// One connection to it.
struct Visit {
    connection: Box<dyn Stream>,
    /// Which one, from 1.
    number: usize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Target {
    /// One that answers 200 and closes the connection.
    async fn start() -> Self {
        Self::serving(async |mut visit| {
            while visit.request().await {
                visit.say(OK_AND_CLOSE).await;
            }
        })
        .await
    }

    /// One that does this with each connection.
    async fn serving<F>(serve: impl Fn(Visit) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::<Mutex<Vec<String>>>::default());
        let (count, seen, mut server) = (connections.clone(), requests.clone(), JoinSet::new());
        server.spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let visit = Visit { connection: Box::new(connection), number, requests: seen.clone() };
                visits.spawn(serve(visit));
            }
        });
        Self { port, connections, requests, _server: server }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Visit {
    /// Waits for a whole request, and keeps it. Answers whether one came.
    async fn request(&mut self) -> bool {
        let mut request = Vec::new();
        while !is_whole(&request) {
            if !self.connection.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                assert_eq!(request, b"", "a request that is not whole");
                return false;
            }
        }
        self.requests.lock().unwrap().push(String::from_utf8(request).unwrap());
        true
    }

    async fn say(&mut self, answer: &str) {
        self.connection.write_all(answer.as_bytes()).await.unwrap();
    }

    /// Waits until the other side has closed the connection.
    async fn is_left(&mut self) {
        while self.connection.read_buf(&mut Vec::new()).await.is_ok_and(|read| read > 0) {}
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some((head, body)) = str::from_utf8(request).unwrap().split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.expect("it says how long it is").parse::<usize>().unwrap()
}

fn pusher(policy: EgressPolicy, nats: &[(&str, u16)], lookup: &Lookup) -> Pusher {
    let guard = Guard::new(policy, nats.iter().map(|(host, port)| ((*host).to_owned(), *port)));
    let tls = tls::trusting(RootCertStore::empty()).unwrap();
    Pusher::with(Duration::from_secs(30), guard, lookup.clone(), tls)
}

/// A lookup that answers with this address, whatever the name.
fn always(ip: Ipv4Addr) -> Lookup {
    Arc::new(move |_| Box::pin(async move { Ok(vec![ip.into()]) }))
}

fn client(pusher: &Pusher, url: &str) -> TargetClient {
    // As it is stored: earlier builds took spellings that are refused now.
    let url: TargetUrl = serde_json::from_value(url.into()).unwrap();
    let subscription = Subscription::new(url);
    let signer = Signer::open(&subscription.url.subscription_id(), &subscription, None);
    pusher.to(&subscription, signer)
}

fn request() -> DeliveryRequest {
    DeliveryRequest { id: Id::Text(String::new()), headers: HeaderMap::new(), body: Bytes::from_static(b"{}") }
}

async fn push(pusher: &Pusher, url: &str) -> PushOutcome {
    client(pusher, url).push(request()).await
}
