//! A collector of traces: takes OTLP over HTTP, as protobuf, and remembers what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The largest batch of spans that it takes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// One span, as it was told. Ids are hexadecimal digits; the parent's is empty where there is none.
#[derive(Debug, Clone)]
pub struct Told {
    /// Of what belongs together.
    pub trace_id: String,
    /// Its own.
    pub span_id: String,
    /// That of the span which it came from.
    pub parent_id: String,
    /// What it is called.
    pub name: String,
    /// Whether something was produced, or consumed.
    pub kind: SpanKind,
    /// What it says, as text.
    pub attributes: BTreeMap<String, String>,
    /// The traces and spans that it links to.
    pub links: Vec<(String, String)>,
    /// Whether it failed.
    pub has_failed: bool,
    /// What is said of the process.
    pub resource: BTreeMap<String, String>,
}

/// A collector on a port that stays the same.
pub struct Collector {
    port: u16,
    state: Arc<Mutex<Record>>,
    server: Option<(CancellationToken, JoinHandle<()>)>,
}

#[derive(Default)]
struct Record {
    answer: Option<StatusCode>,
    spans: Vec<Told>,
    requests: Vec<Asked>,
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let mut collector = Self { port, state: Arc::default(), server: None };
        collector.serve(listener);
        collector
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on; `None`: never.
    pub fn answer(&self, status: Option<u16>) {
        let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        // Below 200 there is no answer that ends a request.
        self.state.lock().unwrap().answer = Some(status.unwrap_or(StatusCode::CONTINUE));
    }

    /// Refuses connections, and cuts those there are.
    pub async fn refuse(&mut self) {
        if let Some((stop, task)) = self.server.take() {
            stop.cancel();
            task.await.expect("the collector's server");
        }
    }

    /// Listens again after [`Collector::refuse`].
    pub async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the collector's port");
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let state = self.state.clone();
        let answer = move |request| collect(state.clone(), request);
        let task = tokio::spawn(web::serve(listener, answer, stop.clone(), Duration::ZERO));
        self.server = Some((stop, task));
    }

    /// All spans that it took.
    pub fn spans(&self) -> Vec<Told> {
        self.state.lock().unwrap().spans.clone()
    }

    /// All requests, whatever was answered.
    pub fn requests(&self) -> Vec<Asked> {
        self.state.lock().unwrap().requests.clone()
    }
}

async fn collect(state: Arc<Mutex<Record>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else { return StatusCode::BAD_REQUEST.into_response() };
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let asked = Asked {
        path: head.uri.path().to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_vec(),
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push(asked);
        state.answer.unwrap_or(StatusCode::OK)
    };
    if answer == StatusCode::CONTINUE {
        std::future::pending::<()>().await;
    }
    if answer.is_success() {
        let Ok(told) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST.into_response() };
        state.lock().unwrap().spans.extend(spans_of(told));
    }
    (answer, [(header::CONTENT_TYPE, "application/x-protobuf")]).into_response()
}

fn spans_of(told: ExportTraceServiceRequest) -> Vec<Told> {
    let mut spans = Vec::new();
    for of_resource in told.resource_spans {
        let resource = of_resource.resource.map(|resource| texts_of(resource.attributes)).unwrap_or_default();
        let of_scopes = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(of_scopes.map(|span| told_of(span, resource.clone())));
    }
    spans
}

fn told_of(span: Span, resource: BTreeMap<String, String>) -> Told {
    Told {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        kind: span.kind(),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        has_failed: span.status.is_some_and(|status| status.code() == SpanStatus::Error),
        attributes: texts_of(span.attributes),
        name: span.name,
        resource,
    }
}

fn texts_of(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, text_of(pair.value))).collect()
}

fn text_of(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
