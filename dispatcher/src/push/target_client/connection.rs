//! One HTTP/1.1 connection, which works only while somebody waits for it.
//!
//! It has no task of its own: the task that waits for an answer reads and writes meanwhile, so that a request and its answer
//! wake one task, once. Nobody looks at a connection that is kept: what the target did to it is noticed when it is used
//! again, before anything is written.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::dial::{Line, Stream};
use super::overheard::Status;
use super::wire::Haste;

/// How large the head of an answer may be.
const MAX_HEAD_BYTES: usize = 64 * 1024;

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// A connection to a target.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// What reads and writes; `None` once the connection has ended. In a box, as it goes from hand to hand.
    driver: Option<Box<Driver>>,
    status: Status,
    haste: Haste,
}

impl Connection {
    pub(super) async fn over(Line { stream, status, haste }: Line) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        // A user agent reads a folded line (RFC 9112, 5.2), and a proxy in our place would take the space away (5.1). What else
        // is no header is none.
        builder.allow_obsolete_multiline_headers_in_responses(true);
        builder.allow_spaces_after_header_name_in_responses(true);
        builder.ignore_invalid_headers_in_responses(true);
        let (sender, driver) = builder.max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::new(driver)), status, haste })
    }

    /// The status of an answer whose head could not be read, where its first line could.
    pub(super) fn status(&self) -> Option<u16> {
        self.status.get()
    }

    /// Sends a request and waits for the head of the answer. The error gives the request back where the connection had
    /// ended before any of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        // The task that used it last is to be woken when there is something to send: that would be this very task.
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.status.forget();
        // Only the driver answers, which is always polled first: so there is nobody else to be woken by, and no need to
        // be woken by oneself. (Nor may tokio's budget end between the two: it would wake by this waker.)
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Reads the body of an answer into `beginning` until that has so many bytes. Answers whether that is all of it.
    pub(super) async fn read(&mut self, mut body: Incoming, beginning: &mut Vec<u8>, most: usize) -> bool {
        let mut is_asked = false;
        poll_fn(|cx| {
            // What is there makes room for what is to come.
            if let Poll::Ready(is_all) = take_in(&mut body, beginning, most, cx) {
                return Poll::Ready(is_all);
            }
            drive(&mut self.driver, cx);
            let taken = take_in(&mut body, beginning, most, cx);
            if taken.is_ready() || std::mem::replace(&mut is_asked, true) {
                return taken;
            }
            // The target may wait for the receipt of what has come.
            self.haste.ask();
            drive(&mut self.driver, cx);
            take_in(&mut body, beginning, most, cx)
        })
        .await
    }

    /// Whether it is there for another request: the last answer has been read, and the target has not said that it
    /// closes it.
    pub(super) fn may_be_used_again(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// Reads and writes what can be. A driver that has ended is dropped, which gives back a request that it has not begun.
fn drive(driver: &mut Option<Box<Driver>>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
    }
}

fn take_in(body: &mut Incoming, beginning: &mut Vec<u8>, most: usize, cx: &mut Context<'_>) -> Poll<bool> {
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(true),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                beginning.extend_from_slice(&data[..data.len().min(most - beginning.len())]);
                if beginning.len() == most {
                    return Poll::Ready(body.is_end_stream());
                }
            }
        }
    }
}
