//! An HTTP target that records what it gets and answers as a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The largest event that a target takes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// The media type of several events.
const BATCH: &str = "application/cloudevents-batch+json";

/// What a target does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Answers with this status; a 2xx means that it took the event.
    Status(u16),
    /// Answers with this status, and a header with a number in it.
    Says(u16, &'static str, u64),
    /// Answers with this status, these headers and this body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Answers with this status to a request with any of these events, and 200 to all others.
    StatusTo(Vec<u64>, u16),
    /// Answers 413 to a request with a larger body than this, in bytes, and 200 to all others.
    AtMost(usize),
    /// Takes the request and never answers.
    Hang,
    /// Answers 200, after so long.
    After(Duration),
    /// Answers 302, with this as `Location`.
    Redirect(String),
}

/// One request that a target answered with a 2xx, or refused.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path it was posted to.
    pub path: String,
    /// The sequence of its event; of the first one, where it is a batch; 0 for what has none.
    pub sequence: u64,
    /// Those of all its events.
    pub sequences: Vec<u64>,
    /// All headers.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// When it began to be read.
    pub began: Instant,
    /// When it was answered.
    pub at: Instant,
    /// Whether the answer was a 2xx.
    pub was_taken: bool,
}

/// A target on a port that stays the same.
pub struct Target {
    port: u16,
    state: Arc<Mutex<Record>>,
    server: Option<(CancellationToken, JoinHandle<()>)>,
}

struct Record {
    answer: Answer,
    received: Vec<Received>,
}

impl Target {
    /// Starts one that answers 200.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(Record { answer: Answer::Status(200), received: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let mut target = Self { port, state, server: None };
        target.serve(listener);
        target
    }

    /// Its URL, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: Answer) {
        self.state.lock().unwrap().answer = answer;
    }

    /// Refuses connections, and cuts those there are.
    pub async fn refuse(&mut self) {
        if let Some((stop, task)) = self.server.take() {
            stop.cancel();
            task.await.expect("the target's server");
        }
    }

    /// Listens again after [`Target::refuse`].
    pub async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the target's port");
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let state = self.state.clone();
        let answer = move |request| receive(state.clone(), request);
        let task = tokio::spawn(web::serve(listener, answer, stop.clone(), Duration::ZERO));
        self.server = Some((stop, task));
    }

    /// Everything that came, in the order in which it was answered.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The sequences that it took, in order, repetitions included.
    pub fn taken(&self) -> Vec<u64> {
        self.state.lock().unwrap().received.iter().filter(|r| r.was_taken).flat_map(|r| r.sequences.clone()).collect()
    }

    /// How many requests it took, repetitions included.
    pub fn taken_count(&self) -> usize {
        self.state.lock().unwrap().received.iter().filter(|r| r.was_taken).count()
    }

    /// The bodies of what it took, in order.
    pub fn bodies(&self) -> Vec<Value> {
        let parse = |r: &Received| serde_json::from_str(&r.body).unwrap_or(Value::Null);
        self.state.lock().unwrap().received.iter().filter(|r| r.was_taken).map(parse).collect()
    }
}

/// The sequences in the order in which each came first.
pub fn first_deliveries(taken: &[u64]) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    taken.iter().copied().filter(|sequence| seen.insert(*sequence)).collect()
}

/// The sequences of a request's events, be it one in binary mode or a batch.
fn sequences_of(headers: &HeaderMap, body: &[u8]) -> Vec<u64> {
    let of_digits = |digits: &str| digits.parse().unwrap_or(0);
    if headers.get(header::CONTENT_TYPE).is_some_and(|media_type| media_type == BATCH) {
        let events: Vec<Value> = serde_json::from_slice(body).unwrap_or_default();
        return events.iter().map(|event| event["sequence"].as_str().map_or(0, of_digits)).collect();
    }
    vec![headers.get("ce-sequence").and_then(|digits| digits.to_str().ok()).map_or(0, of_digits)]
}

async fn receive(state: Arc<Mutex<Record>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (began, answer) = (Instant::now(), state.lock().unwrap().answer.clone());
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else { return StatusCode::BAD_REQUEST.into_response() };
    let sequences = sequences_of(&head.headers, &body);
    let (mut headers_of_answer, mut body_of_answer) = (HeaderMap::new(), String::new());
    let status = match answer {
        Answer::Hang => std::future::pending().await,
        Answer::After(wait) => {
            tokio::time::sleep(wait).await;
            StatusCode::OK
        }
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status"),
        Answer::StatusTo(events, status) if sequences.iter().any(|sequence| events.contains(sequence)) => {
            StatusCode::from_u16(status).expect("a status")
        }
        Answer::StatusTo(..) => StatusCode::OK,
        Answer::AtMost(bytes) if body.len() > bytes => StatusCode::PAYLOAD_TOO_LARGE,
        Answer::AtMost(_) => StatusCode::OK,
        Answer::Says(status, name, value) => {
            headers_of_answer.insert(name, value.into());
            StatusCode::from_u16(status).expect("a status")
        }
        Answer::Whole(status, headers, body) => {
            headers_of_answer.extend(headers.into_iter().map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), value.parse().expect("a header's value"))
            }));
            body_of_answer = body;
            StatusCode::from_u16(status).expect("a status")
        }
        Answer::Redirect(url) => {
            headers_of_answer.insert(header::LOCATION, url.parse().expect("a URL"));
            StatusCode::FOUND
        }
    };
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let received = Received {
        path: head.uri.path().to_owned(),
        sequence: sequences.first().copied().unwrap_or(0),
        sequences,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        began,
        at: Instant::now(),
        was_taken: status.is_success(),
    };
    state.lock().unwrap().received.push(received);
    (status, headers_of_answer, body_of_answer).into_response()
}
