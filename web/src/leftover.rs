//! What an answer leaves unread of its request's body.
//!
//! A connection can go on only behind the end of the body, and one that is closed with something unread is reset: the sender
//! would not see the answer. So the rest is taken in and thrown away, within bounds. Where that does not reach the end, the
//! answer has to say that the connection ends (RFC 9112, section 9.6): a sender would use it for its next request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// How long, and how much, of a body that nobody wants is read.
const DEADLINE: Duration = Duration::from_secs(1);
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Where the rest of a body comes back.
pub(crate) struct Leftover {
    rest: Arc<Mutex<Option<Incoming>>>,
    /// The sender asks first whether to send the body (`Expect`). To read of it would tell it to.
    is_asked_for: bool,
}

/// A body that gives itself back where it is dropped before its end.
struct Lent {
    body: Option<Incoming>,
    rest: Arc<Mutex<Option<Incoming>>>,
}

impl Leftover {
    /// For a request with these headers.
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        Self { rest: Arc::default(), is_asked_for: headers.contains_key(EXPECT) }
    }

    /// The request's body, for the handler.
    pub(crate) fn lend(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Lent { body: Some(body), rest: self.rest.clone() })
    }

    /// Takes in the rest of the body, once there is an answer. Answers whether nothing is left of it.
    pub(crate) async fn take_in(self) -> bool {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        match rest {
            None => true,
            Some(_) if self.is_asked_for => false,
            Some(rest) => timeout(DEADLINE, reaches_its_end(rest)).await.unwrap_or(false),
        }
    }
}

async fn reaches_its_end(mut body: Incoming) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_BYTES {
            return false;
        }
    }
    true
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
