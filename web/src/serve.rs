//! The accept loop of every service: deadlines for slow clients, and an end that drops nobody.
//!
//! `axum::serve` sets no deadline for reading a request's head, so this is built on hyper. HTTP/1.1 only: hyper-util's
//! detection of the version waits without a deadline for a client that says nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::leftover::Leftover;
use crate::polled_again::PolledAgain;
use crate::problem::Problem;

/// How long the head of a request may take to come in, and how long a connection may idle before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// How long to wait before accepting again when the system gives no connection (no file descriptors left, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Answers requests with `answer` until `shutdown`; then takes no more, and gives those under way `grace` to end.
pub async fn serve<A, F>(listener: TcpListener, answer: A, shutdown: CancellationToken, grace: Duration)
where
    A: Fn(Request) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MAX_HEAD_BYTES);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, permit) = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let answer = answer.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let leftover = Leftover::new(request.headers());
            let answer = match host_fault(&request) {
                None => Ok(answer(request.map(|body| leftover.lend(body)))),
                Some(fault) => Err(fault.with_header(CONNECTION, CLOSE)),
            };
            async move {
                let mut response = match answer {
                    Ok(answer) => answer.await,
                    Err(fault) => return Ok::<_, Infallible>(fault.into_response()),
                };
                if !leftover.take_in().await {
                    response.headers_mut().insert(CONNECTION, CLOSE);
                }
                Ok(response)
            }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            if let Err(error) = PolledAgain::new(connection).await {
                tracing::debug!(%error, "http.connection_failed");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "http.connections_cut_off");
    }
}

/// What is wrong with the header `Host`: HTTP/1.1 has every request name one host (RFC 9112, section 3.2).
fn host_fault<B>(request: &hyper::Request<B>) -> Option<Problem> {
    let hosts = request.headers().get_all(HOST).iter().count();
    let is_missing = hosts == 0 && request.version() == Version::HTTP_11;
    (is_missing || hosts > 1).then(|| {
        let detail = format!("the request has {hosts} headers `Host`; it must have one");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "http.nodelay_failed");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "http.accept_failed");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}
