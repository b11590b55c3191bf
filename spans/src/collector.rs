//! One request to the collector, and what is logged of it.
//!
//! The exporter asks on a thread of its own, which knows no runtime: so the request is a task of the runtime that serves
//! everything else, and ends with it.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::runtime::Handle;

use crate::endpoint::Endpoint;

/// How much of an answer is read. What a collector says is a few bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How often it is logged that nothing can be exported, while that is so.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A client of one collector. It follows no redirects and knows no proxy, as nothing here does.
#[derive(Debug)]
pub(crate) struct Collector {
    client: Client,
    runtime: Handle,
    endpoint: Endpoint,
    trouble: Mutex<Option<Trouble>>,
}

/// Requests that have failed since one did not.
#[derive(Debug)]
struct Trouble {
    failed: u64,
    told_at: Instant,
}

/// A request that failed: its reason, without the URL and without what was answered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct NotExported(String);

impl Collector {
    pub(crate) fn new(endpoint: Endpoint, timeout: Duration, runtime: Handle) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder().timeout(timeout).redirect(Policy::none()).no_proxy();
        if !endpoint.is_tls() {
            // A machine without certificates of authorities can still reach a collector of plain http.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { client: builder.build()?, runtime, endpoint, trouble: Mutex::new(None) })
    }

    /// Says in the log that nothing is exported, and that it is again: each once a minute at most.
    fn note(&self, outcome: Result<(), &NotExported>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (outcome, trouble.as_mut()) {
            (Ok(()), None) => {}
            (Ok(()), Some(Trouble { failed, .. })) => {
                tracing::info!(collector = %self.endpoint, failed, "spans.exported_again");
                *trouble = None;
            }
            (Err(error), None) => {
                tracing::warn!(collector = %self.endpoint, %error, failed = 1, "spans.not_exported");
                *trouble = Some(Trouble { failed: 1, told_at: Instant::now() });
            }
            (Err(error), Some(Trouble { failed, told_at })) => {
                *failed += 1;
                if told_at.elapsed() >= TELL_AGAIN {
                    *told_at = Instant::now();
                    tracing::warn!(collector = %self.endpoint, %error, failed, "spans.not_exported");
                }
            }
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        // By a builder: it takes user and password out of the URL into a header.
        let request = self.client.request(head.method, self.endpoint.as_str()).headers(head.headers).body(body);
        let answered = self.runtime.spawn(post(request)).await;
        let answered = answered.unwrap_or_else(|_| Err(NotExported("mer has stopped".to_owned())));
        match &answered {
            Ok(answer) if answer.status().is_success() => self.note(Ok(())),
            Ok(answer) => self.note(Err(&NotExported(format!("answered {}", answer.status().as_u16())))),
            Err(error) => self.note(Err(error)),
        }
        Ok(answered?)
    }
}

async fn post(request: reqwest::RequestBuilder) -> Result<Response<Bytes>, NotExported> {
    let reason = |error: reqwest::Error| {
        let error = error.without_url();
        let mut root: &dyn Error = &error;
        while let Some(deeper) = root.source() {
            root = deeper;
        }
        NotExported(root.to_string())
    };
    let mut response = request.send().await.map_err(reason)?;
    let mut body = BytesMut::new();
    while let Some(part) = response.chunk().await.map_err(reason)? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(NotExported(format!("the answer has more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&part);
    }
    let mut answer = Response::new(body.freeze());
    *answer.status_mut() = response.status();
    // How long to wait is the one thing that the exporter asks of it.
    if let Some(value) = response.headers().get(http::header::RETRY_AFTER) {
        answer.headers_mut().insert(http::header::RETRY_AFTER, value.clone());
    }
    Ok(answer)
}
