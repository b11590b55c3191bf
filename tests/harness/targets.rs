//! Many targets of one server that write down what comes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::history::{History, Line};

/// One server with many targets, by path, which writes down what comes.
pub struct Targets {
    port: u16,
    state: Arc<Arrivals>,
    server: Option<(CancellationToken, JoinHandle<()>)>,
}

struct Arrivals {
    history: Arc<History>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    /// The latest event that each target has had.
    latest: BTreeMap<String, u64>,
    /// While they take nothing: those that have refused something.
    refusing: Option<BTreeSet<String>>,
}

impl Targets {
    /// Starts them.
    pub async fn start(history: Arc<History>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(Arrivals { history, record: Mutex::default() });
        let stop = CancellationToken::new();
        let arrivals = state.clone();
        let answer = move |request| answer(arrivals.clone(), request);
        let task = tokio::spawn(web::serve(listener, answer, stop.clone(), Duration::ZERO));
        Self { port, state, server: Some((stop, task)) }
    }

    /// The URL of the target with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// How many targets have had this event, or a later one.
    pub fn reached(&self, sequence: u64) -> usize {
        self.state.record.lock().unwrap().latest.values().filter(|latest| **latest >= sequence).count()
    }

    /// From now on all of them answer 503, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.state.record.lock().unwrap().refusing = refuse.then(BTreeSet::new);
    }

    /// How many targets have refused something since they were told to.
    pub fn refusing(&self) -> usize {
        self.state.record.lock().unwrap().refusing.as_ref().map_or(0, BTreeSet::len)
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        if let Some((stop, _)) = self.server.take() {
            stop.cancel();
        }
    }
}

async fn answer(state: Arc<Arrivals>, request: Request) -> Response {
    arrive(&state, &request).into_response()
}

fn arrive(state: &Arrivals, request: &Request) -> StatusCode {
    let number = |name| request.headers().get(name)?.to_str().ok()?.parse().ok();
    let (Some(sequence), Some(previous)) = (number("ce-sequence"), number("ce-previoussequence")) else {
        return StatusCode::BAD_REQUEST;
    };
    let target = request.uri().path().to_owned();
    // Under one lock, so that the lines stand in the order in which the answers were given.
    let mut record = state.record.lock().unwrap();
    if let Some(refusing) = &mut record.refusing {
        refusing.insert(target);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    state.history.add(&Line::Arrived { target: target.clone(), sequence, previous });
    let known = record.latest.entry(target).or_default();
    *known = sequence.max(*known);
    StatusCode::OK
}
