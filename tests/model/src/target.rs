//! The URLs of a run: one HTTP server that answers as it is told, and writes down what comes and what it says.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::Stamp;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::history::{Event, History, Item, Said, Url, What};
use crate::operation::Answer;

const BATCH: &str = "application/cloudevents-batch+json";
const MAX_BODY: usize = 16 * 1024 * 1024;
/// A position that no log of a run reaches.
const BEYOND: u64 = 1_000_000_000;

/// The server. It ends when this is dropped.
pub(crate) struct Targets {
    port: u16,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    history: Arc<History>,
    scripts: Mutex<HashMap<Url, VecDeque<Answer>>>,
    /// Ends what hangs.
    healed: watch::Sender<()>,
    requests: AtomicU32,
    under_way: AtomicU32,
}

impl Targets {
    pub(crate) async fn start(history: Arc<History>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (scripts, healed) = (Mutex::default(), watch::Sender::new(()));
        let (requests, under_way) = (AtomicU32::new(0), AtomicU32::new(0));
        let state = Arc::new(State { history, scripts, healed, requests, under_way });
        let server = tokio::spawn(serve(listener, state.clone()));
        Ok(Self { port, state, server })
    }

    pub(crate) fn url(&self, url: Url) -> String {
        format!("http://127.0.0.1:{}/u{url}", self.port)
    }

    /// The next requests are answered so; those behind them with 204.
    pub(crate) fn answer(&self, url: Url, answer: Answer, times: u32) {
        self.state.scripts().insert(url, (0..times).map(|_| answer).collect());
    }

    /// All requests are answered with 204. Those that hang end without an answer.
    pub(crate) fn heal(&self) {
        self.state.scripts().clear();
        self.state.healed.send_replace(());
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.under_way.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn scripts(&self) -> MutexGuard<'_, HashMap<Url, VecDeque<Answer>>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let state = state.clone();
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let service = service_fn(move |request| receive(state.clone(), request));
                    // It may end with an error: an answer that is none is one.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A request that came; where it is dropped without an answer, that is written down.
struct Arrival<'a> {
    state: &'a State,
    request: u32,
    said: Option<Said>,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let said = self.said.unwrap_or(Said::Nothing);
        self.state.history.add(What::Answered { request: self.request, said });
        self.state.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn receive(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| io::Error::other("no body"))?.to_bytes();
    let url = head.uri.path().trim_start_matches("/u").parse().unwrap_or(usize::MAX);
    let is_batch = head.headers.get("content-type").is_some_and(|given| given == BATCH);
    let items = if is_batch { of_batch(&body) } else { vec![of_headers(&head.headers, &body)] };
    let first = items.first().map_or(0, |item| item.event.sequence);
    let last = items.last().map_or(0, |item| item.event.sequence);
    let request = state.requests.fetch_add(1, Ordering::SeqCst);
    state.under_way.fetch_add(1, Ordering::SeqCst);
    state.history.add(What::Came { request, url, is_batch, items });
    let mut request = Arrival { state: &state, request, said: None };
    let mut healed = state.healed.subscribe();
    let answer = state.scripts().get_mut(&url).and_then(VecDeque::pop_front);
    let said = match answer {
        None => Said::Status(204),
        Some(Answer::Status(status)) => Said::Status(status),
        Some(Answer::Closed) => Said::Nothing,
        Some(Answer::Hang) => {
            // The sender lives as long as this. Where mer gives up first, hyper drops all this.
            let _ = healed.changed().await;
            Said::Nothing
        }
        Some(Answer::Slow(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Said::Status(204)
        }
        Some(Answer::ResumeBack(back)) => Said::At(first.saturating_sub(back)),
        Some(Answer::ResumeOn(0)) => Said::At(last),
        Some(Answer::ResumeOn(on)) => Said::At(state.reached(first + on)),
        Some(Answer::ResumeBeyond) => Said::At(BEYOND),
    };
    request.said = Some(said);
    // Written down before it is sent.
    drop(request);
    let (status, position) = match said {
        Said::Status(status) => (status, None),
        Said::At(sequence) => (409, Some(sequence)),
        Said::Nothing => return Err(io::Error::other("the connection is closed on purpose")),
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = hyper::StatusCode::from_u16(status).map_err(io::Error::other)?;
    if let Some(sequence) = position {
        response.headers_mut().insert("resume-after", sequence.into());
    }
    if status == 302 {
        response.headers_mut().insert("location", hyper::header::HeaderValue::from_static("/u0"));
    }
    Ok(response)
}

impl State {
    /// A position that the log has reached, and no further on than this one.
    fn reached(&self, sequence: u64) -> u64 {
        let lines = self.history.lines();
        let posted = lines.iter().filter_map(|line| match &line.what {
            What::Posted { event, .. } => Some(event.sequence),
            _ => None,
        });
        posted.max().unwrap_or(0).min(sequence)
    }
}

fn of_headers(headers: &HeaderMap, body: &[u8]) -> Item {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let data: Value = serde_json::from_slice(body).unwrap_or_default();
    item(
        text("ce-sequence"),
        text("ce-type"),
        text("ce-transactionid"),
        text("ce-time"),
        &data,
        [text("ce-previoussequence"), text("ce-replay")],
    )
}

fn of_batch(body: &[u8]) -> Vec<Item> {
    let events: Vec<Map<String, Value>> = serde_json::from_slice(body).unwrap_or_default();
    let of_one = |event: &Map<String, Value>| {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let is_replay = if event.get("replay") == Some(&Value::Bool(true)) { "true" } else { "false" };
        let data = event.get("data").unwrap_or(&Value::Null);
        item(
            text("sequence"),
            text("type"),
            text("transactionid"),
            text("time"),
            data,
            [text("previoussequence"), is_replay],
        )
    };
    events.iter().map(of_one).collect()
}

fn item(sequence: &str, kind: &str, transaction: &str, time: &str, data: &Value, of_delivery: [&str; 2]) -> Item {
    let event = Event {
        sequence: sequence.parse().unwrap_or(0),
        kind: kind.to_owned(),
        transaction: transaction.to_owned(),
        has_key: data.get("k").is_some(),
        time: micros(time),
    };
    let [previous, is_replay] = of_delivery;
    Item { event, previous: previous.parse().unwrap_or(u64::MAX), is_replay: is_replay == "true" }
}

/// A time in microseconds; 0 for what is none.
pub(crate) fn micros(time: &str) -> i64 {
    Stamp::parse(time).map_or(0, |stamp| stamp.as_micros())
}
