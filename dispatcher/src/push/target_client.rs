//! One request to a target, and what came of it.
//!
//! A [`Pusher`] is for all lanes; a [`TargetClient`] is one lane's, and has its connections to itself. `dial` makes a
//! `connection` over a `wire`, `kept` holds those that nobody uses, `tls` says whom to trust. `overheard` knows the status of an
//! answer whose head cannot be read.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::{Stamp, Subscription};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::{Host, Position, Url};

use crate::push::delivery_request::{self, DeliveryRequest};
use crate::push::egress::Guard;
use crate::push::resolver::{Lookup, NothingToDial, Resolver, system_lookup};
use crate::push::signer::Signer;
use crate::push::verdict::{Answer, PushOutcome};

mod connection;
mod dial;
mod kept;
mod overheard;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use connection::Connection;
use dial::{Dialler, Endpoint};
use kept::{Kept, Lists};

/// How much of an answer is read: enough for the connection to be used again where the target says little.
const MAX_ANSWER_BYTES: usize = 4096;
/// How much of it is kept, to be shown.
const MAX_KEPT_BYTES: usize = 256;
/// How long the rest of an answer may take once its head is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is looked which unused connections are to be closed.
const CLOSING_INTERVAL: Duration = Duration::from_millis(500);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("mer/", env!("CARGO_PKG_VERSION")));

/// Pushes events to targets, where the guard lets it. It follows no redirects and knows no proxy: either would go past
/// the guard.
#[derive(Clone)]
pub struct Pusher(Arc<PusherInner>);

struct PusherInner {
    dialler: Dialler,
    timeout: Duration,
    lists: Lists,
}

/// Makes the requests to one target. What they have in common is prepared once, and the connections are its own: the task
/// that waits for an answer reads and writes the connection meanwhile.
pub struct TargetClient {
    shared: Arc<PusherInner>,
    signer: Signer,
    to: Result<Destination, NoDestination>,
    timeout: Duration,
    kept: Arc<Kept>,
}

/// What a URL makes of each request.
struct Destination {
    endpoint: Endpoint,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why nothing can be posted to a URL.
#[derive(Debug, thiserror::Error)]
enum NoDestination {
    #[error("it has no host")]
    NoHost,
    #[error(transparent)]
    Path(#[from] InvalidUri),
    #[error("its host cannot stand in a header")]
    Host,
    #[error(transparent)]
    ServerName(#[from] InvalidDnsNameError),
}

/// Why there was no answer, to the root of it, without the URL: that may hold secrets.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("refused: {0}")]
    Refused(NothingToDial),
    #[error("could not connect: {}", root(.0))]
    NotConnected(io::Error),
    #[error("broke off: {}", root(.0))]
    BrokeOff(hyper::Error),
    #[error("timed out: {0}")]
    TimedOut(String),
    /// The status is known; the rest of the head cannot be read.
    #[error("answered {status}: {}", root(.error))]
    Garbled { status: u16, error: hyper::Error },
}

impl Pusher {
    /// A pusher that gives a target so long to answer, connecting included.
    pub fn new(timeout: Duration, guard: Guard) -> Result<Self, rustls::Error> {
        Ok(Self::with(timeout, guard, system_lookup(), tls::of_this_machine()?))
    }

    fn with(timeout: Duration, guard: Guard, lookup: Lookup, tls: ClientConfig) -> Self {
        let dialler = Dialler { resolver: Resolver::new(guard, lookup), tls: Arc::new(tls) };
        Self(Arc::new(PusherInner { dialler, timeout, lists: Lists::default() }))
    }

    /// A client for a subscription's target. What cannot be signed as it must be is not sent.
    pub fn to(&self, subscription: &Subscription, signer: Signer) -> TargetClient {
        let timeout = subscription.delivery.timeout_ms.map_or(self.0.timeout, Duration::from_millis);
        let to = Destination::of(subscription.url.as_url());
        TargetClient { shared: self.0.clone(), signer, to, timeout, kept: Arc::default() }
    }

    /// Closes unused connections once they have grown old, of all target clients, for ever.
    pub async fn close_unused(&self) -> Infallible {
        loop {
            sleep(CLOSING_INTERVAL).await;
            self.0.lists.close_old(Instant::now());
        }
    }
}

impl TargetClient {
    /// Posts something to the target.
    pub async fn push(&self, request: DeliveryRequest) -> PushOutcome {
        let to = match &self.to {
            Ok(to) => to,
            Err(error) => return PushOutcome::Failed(format!("nothing can be posted to this URL: {error}")),
        };
        let DeliveryRequest { id, mut headers, body } = request;
        match self.signer.sign(&id, &body, Stamp::now()) {
            Ok(signature) => {
                headers.extend(signature.into_iter().filter_map(|(name, value)| delivery_request::pair(name, &value)));
            }
            Err(error) => return PushOutcome::Failed(error.to_string()),
        }
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, self.send(&to.endpoint, to.request(headers, body))).await {
            Ok(Ok((connection, response))) => PushOutcome::Answered(self.answer(connection, response, deadline).await),
            Ok(Err(NoAnswer::Garbled { status, error })) => PushOutcome::Answered(garbled(status, &error)),
            Ok(Err(error)) => PushOutcome::Failed(error.to_string()),
            Err(_) => PushOutcome::Failed(NoAnswer::late().to_string()),
        }
    }

    /// Sends a request over a kept connection, or over a new one where none is left that the target has not closed.
    ///
    /// A request is sent again only if nothing of it was written: what becomes of one that was written nobody knows.
    async fn send(
        &self,
        to: &Endpoint,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), NoAnswer> {
        while let Some(mut connection) = self.kept.take() {
            match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::over(&connection, error.into_error())),
                },
            }
        }
        // In a box, as it is rare: every request under way would have room for it.
        let mut connection = Box::pin(self.connect(to)).await?;
        match connection.send(request).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => Err(NoAnswer::over(&connection, error.into_error())),
        }
    }

    /// A target that has longer to answer has not got longer to accept a connection.
    async fn connect(&self, to: &Endpoint) -> Result<Connection, NoAnswer> {
        let PusherInner { dialler, timeout: longest, .. } = &*self.shared;
        let stream = timeout(*longest, dialler.dial(to)).await.map_err(|_| NoAnswer::late())??;
        Ok(Connection::over(stream).await?)
    }

    /// How an answer begins. It is read to its end if that is near; otherwise the connection is closed.
    async fn answer(&self, mut connection: Connection, response: Response<Incoming>, deadline: Instant) -> Answer {
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (retry_after, resume_after) = (header("retry-after"), header("resume-after"));
        let status = response.status().as_u16();
        let (body, mut beginning) = (response.into_body(), Vec::new());
        let is_all = body.is_end_stream() || {
            // The verdict is known by now, whatever becomes of the rest.
            let deadline = deadline.min(Instant::now() + ANSWER_DEADLINE);
            let read = connection.read(body, &mut beginning, MAX_ANSWER_BYTES);
            timeout_at(deadline, read).await.unwrap_or(false)
        };
        if is_all && connection.may_be_used_again() {
            self.kept.put(connection, &self.shared.lists);
        }
        beginning.truncate(MAX_KEPT_BYTES);
        Answer { status, retry_after, resume_after, body: String::from_utf8_lossy(&beginning).into_owned() }
    }
}

impl Destination {
    fn of(url: &Url) -> Result<Self, NoDestination> {
        let host = url.host().ok_or(NoDestination::NoHost)?;
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = match (url.scheme(), &host) {
            ("http", _) => None,
            (_, Host::Domain(name)) => Some(ServerName::try_from((*name).to_owned())?),
            (_, Host::Ipv4(ip)) => Some(ServerName::from(std::net::IpAddr::from(*ip))),
            (_, Host::Ipv6(ip)) => Some(ServerName::from(std::net::IpAddr::from(*ip))),
        };
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let authority = HeaderValue::from_str(authority).map_err(|_| NoDestination::Host)?;
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("*/*")), (USER_AGENT, AGENT), (HOST, authority)];
        headers.extend(authorization(url).map(|value| (AUTHORIZATION, value)));
        let uri = url[Position::BeforePath..Position::AfterQuery].parse()?;
        Ok(Self { endpoint: Endpoint { host: host.to_owned(), port, tls }, uri, headers })
    }

    fn request(&self, mut headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        headers.extend(self.headers.iter().cloned());
        if body.is_empty() {
            // Of others the connection says how long they are.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// An answer of which only the status can be read.
fn garbled(status: u16, error: &hyper::Error) -> Answer {
    let body = format!("(the head of this answer cannot be read: {})", root(error));
    Answer { status, retry_after: None, resume_after: None, body }
}

/// What a client of a URL with user information shows (RFC 7617).
fn authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl NoAnswer {
    fn over(connection: &Connection, error: hyper::Error) -> Self {
        match connection.status().filter(|_| error.is_parse()) {
            Some(status) => Self::Garbled { status, error },
            None => error.into(),
        }
    }

    fn late() -> Self {
        Self::TimedOut("operation timed out".to_owned())
    }

    /// It may be the system that has waited too long.
    fn of<E: Error + 'static>(error: E, other: fn(E) -> Self) -> Self {
        let root = root(&error);
        match root.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::TimedOut => Self::TimedOut(root.to_string()),
            _ => other(error),
        }
    }
}

impl From<NothingToDial> for NoAnswer {
    fn from(nothing: NothingToDial) -> Self {
        match nothing {
            NothingToDial::NotFound(error) => error.into(),
            refusal => Self::Refused(refusal),
        }
    }
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self::of(error, Self::NotConnected)
    }
}

impl From<hyper::Error> for NoAnswer {
    fn from(error: hyper::Error) -> Self {
        Self::of(error, Self::BrokeOff)
    }
}

fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    root
}
