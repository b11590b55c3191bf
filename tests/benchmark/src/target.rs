//! The target: a server with threads of its own that answers at once and keeps account of what comes.
//!
//! Paths: `/RUN/INDEX` is a URL of the latest measurement; what is for an earlier one is answered and forgotten.
//! `/hang/…` is never answered. Everything else is answered, and that is all: what the generator is measured with.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arrivals::{Arrival, Arrivals};
use crate::{clock, request};

const MAX_BODY: usize = 16 * 1024 * 1024;
const BACKLOG: u32 = 4096;

/// A running target. It ends when it is dropped.
pub(crate) struct Target {
    address: SocketAddr,
    measured: Arc<RwLock<Measured>>,
    refusing: TcpSocket,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The latest measurement.
struct Measured {
    run: u64,
    arrivals: Arc<Arrivals>,
}

/// The URLs of a measurement.
pub(crate) struct Urls {
    base: String,
    /// What comes to them.
    pub(crate) arrivals: Arc<Arrivals>,
}

impl Urls {
    /// One of them.
    pub(crate) fn url(&self, index: usize) -> String {
        format!("{}/{index}", self.base)
    }

    /// Those with these indices.
    pub(crate) fn urls(&self, indices: impl IntoIterator<Item = usize>) -> Vec<String> {
        indices.into_iter().map(|index| self.url(index)).collect()
    }
}

/// A CloudEvent in a batch, as far as it is looked at.
#[derive(Deserialize)]
struct InBatch<'a> {
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    previoussequence: Cow<'a, str>,
}

impl Target {
    /// Starts one.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("target")
            .enable_all()
            .build()
            .context("making the target's threads")?;
        let _guard = runtime.enter();
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        // Bound, so that nobody else gets the port, and not listened at.
        let refusing = TcpSocket::new_v4()?;
        refusing.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let measured = Arc::new(RwLock::new(Measured { run: 0, arrivals: Arc::new(Arrivals::new(0)) }));
        let stop = CancellationToken::new();
        let serving = serve(listener, measured.clone(), stop.clone());
        drop(_guard);
        let thread = std::thread::Builder::new().name("target".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(Self { address, measured, refusing, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// So many new URLs. What comes to earlier ones is of no concern from now on.
    pub(crate) fn measure(&self, urls: usize) -> Urls {
        let arrivals = Arc::new(Arrivals::new(urls));
        let mut measured = self.measured.write().unwrap_or_else(PoisonError::into_inner);
        *measured = Measured { run: measured.run + 1, arrivals: arrivals.clone() };
        Urls { base: format!("http://{}/{}", self.address, measured.run), arrivals }
    }

    /// A URL that never answers.
    pub(crate) fn hanging_url(&self, index: usize) -> String {
        format!("http://{}/hang/{index}", self.address)
    }

    /// A URL where connections are refused.
    pub(crate) fn refusing_url(&self, index: usize) -> anyhow::Result<String> {
        Ok(format!("http://{}/{index}", self.refusing.local_addr()?))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, measured: Arc<RwLock<Measured>>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let measured = measured.clone();
        let service = service_fn(move |request| answer(measured.clone(), request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    measured: Arc<RwLock<Measured>>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else { return Ok(said(StatusCode::BAD_REQUEST)) };
    let path = head.uri.path();
    if path.starts_with("/hang/") {
        std::future::pending::<()>().await;
    }
    if let Some((arrivals, url)) = place(&measured, path) {
        take(&arrivals, url, &head.headers, &body.to_bytes());
    }
    Ok(said(StatusCode::OK))
}

fn said(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

/// Which URL of the latest measurement a path is.
fn place(measured: &RwLock<Measured>, path: &str) -> Option<(Arc<Arrivals>, usize)> {
    let (run, url) = path.strip_prefix('/')?.split_once('/')?;
    let (run, url) = (run.parse::<u64>().ok()?, url.parse().ok()?);
    let measured = measured.read().unwrap_or_else(PoisonError::into_inner);
    (measured.run == run).then(|| (measured.arrivals.clone(), url))
}

fn take(arrivals: &Arrivals, url: usize, headers: &HeaderMap, body: &[u8]) {
    let at = clock::micros();
    let is_batch =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/cloudevents-batch"));
    if !is_batch {
        let number = |name| headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match (number("ce-sequence"), number("ce-previoussequence")) {
            (Some(sequence), Some(previous)) => {
                let sent_at = request::sent_at(body).unwrap_or(at);
                arrivals.take(url, [(Arrival { sequence, at, sent_at }, previous)]);
            }
            _ => arrivals.take_unreadable(url, "a delivery has no ce-sequence or no ce-previoussequence".to_owned()),
        }
        return;
    }
    let event = |event: InBatch| {
        let (sequence, previous) = (event.sequence.parse().ok()?, event.previoussequence.parse().ok()?);
        Some((Arrival { sequence, at, sent_at: at }, previous))
    };
    let events = serde_json::from_slice::<Vec<InBatch>>(body);
    match events.map(|events| events.into_iter().map(event).collect::<Option<Vec<_>>>()) {
        Ok(Some(events)) => arrivals.take(url, events),
        Ok(None) => arrivals.take_unreadable(url, "an event of a batch has a sequence that is no number".to_owned()),
        Err(error) => arrivals.take_unreadable(url, format!("a batch cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Connection;

    async fn post(connection: &mut Connection, url: &str, headers: &str, body: &str) {
        let path = &url["http://".len()..];
        let path = &path[path.find('/').unwrap()..];
        let length = body.len();
        let text = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}");
        assert_eq!(connection.exchange(text.as_bytes()).await.unwrap().status, 200);
    }

    fn one(sequence: u64, previous: u64) -> String {
        format!("ce-sequence: {sequence:020}\r\nce-previoussequence: {previous:020}\r\n")
    }

    #[tokio::test]
    async fn what_comes_one_by_one_is_kept_apart_by_url() {
        let target = Target::start().unwrap();
        let urls = target.measure(2);
        let mut connection = Connection::open(target.address()).await.unwrap();
        for (url, sequence, previous) in [(0, 1, 0), (1, 1, 0), (1, 2, 1), (0, 2, 1)] {
            post(&mut connection, &urls.url(url), &one(sequence, previous), &request::data()).await;
        }
        assert_eq!(urls.arrivals.until(&[1, 2]).await.unwrap(), 0);
        post(&mut connection, &urls.url(1), &one(1, 0), "{}").await;
        assert_eq!(urls.arrivals.until(&[1, 2]).await.unwrap(), 1);
        let swapped = target.measure(1);
        for (sequence, previous) in [(1, 0), (3, 2), (2, 1)] {
            post(&mut connection, &swapped.url(0), &one(sequence, previous), "{}").await;
        }
        assert!(swapped.arrivals.until(&[1, 3]).await.is_err());
        assert_eq!(urls.arrivals.until(&[1, 2]).await.unwrap(), 1, "what is measured later is kept apart");
    }

    #[tokio::test]
    async fn a_batch_is_read_event_by_event() {
        let target = Target::start().unwrap();
        let mut connection = Connection::open(target.address()).await.unwrap();
        let event = |sequence: u64, previous: u64| {
            format!(
                "{{\"id\":\"x\",\"sequence\":\"{sequence:020}\",\"previoussequence\":\"{previous:020}\",\"data\":{{\"sequence\":7}}}}"
            )
        };
        let batch = "content-type: application/cloudevents-batch+json\r\n";
        for (events, is_good) in [
            (vec![event(1, 0), event(2, 1), event(3, 2)], true),
            (vec![event(1, 0), event(3, 2), event(2, 1)], false),
            (vec![event(1, 0), event(3, 1)], false),
            (vec![event(1, 0), event(2, 1), event(3, 2), "{}".to_owned()], false),
        ] {
            let urls = target.measure(1);
            post(&mut connection, &urls.url(0), batch, &format!("[{}]", events.join(","))).await;
            assert_eq!(urls.arrivals.check(&[1, 2, 3]).is_ok(), is_good, "{events:?}");
        }
    }

    #[tokio::test]
    async fn a_delivery_without_its_sequences_is_a_fault() {
        let target = Target::start().unwrap();
        let urls = target.measure(1);
        let mut connection = Connection::open(target.address()).await.unwrap();
        post(&mut connection, &urls.url(0), "", "{}").await;
        assert!(urls.arrivals.check(&[]).is_err());
    }

    #[tokio::test]
    async fn nobody_listens_where_connections_are_refused() {
        let target = Target::start().unwrap();
        let address = target.refusing.local_addr().unwrap();
        assert!(Connection::open(address).await.is_err());
    }
}
