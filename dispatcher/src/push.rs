//! One request to a target, and what came of it.

use std::collections::HashMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::{Stamp, Subscription};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::{Host, Url};

use crate::egress::Guard;
use crate::parcel::{self, Parcel};
use crate::resolver::{Lookup, NothingToDial, Resolver, system_lookup};
use crate::signer::Signer;
use crate::verdict::{Answer, Outcome};

/// How much of an answer is read: enough for the connection to be used again where the target says little.
const MAX_ANSWER_BYTES: usize = 4096;
/// How much of it is kept, to be shown.
const MAX_KEPT_BYTES: usize = 256;
/// How long the rest of an answer may take once its head is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long an unused connection is kept: less than the five seconds after which common servers close theirs.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// Pushes events to targets, where the guard lets it. Clones share their connections.
#[derive(Clone)]
pub struct Pusher {
    routes: Arc<Routes>,
}

/// A name is looked up without a port, but whether an address is one of mer's own NATS servers depends on it. So there
/// is a client of its own for each of their ports.
struct Routes {
    nats_ports: HashMap<u16, Route>,
    elsewhere: Route,
}

struct Route {
    client: Client,
    resolver: Resolver,
}

impl Pusher {
    /// A pusher that gives a target so long to answer, connecting included.
    ///
    /// It follows no redirects, and reads no proxy from the environment: either would go past the guard.
    pub fn new(timeout: Duration, guard: Guard) -> Result<Self, reqwest::Error> {
        Self::with_lookup(timeout, &guard, &system_lookup())
    }

    fn with_lookup(timeout: Duration, guard: &Guard, lookup: &Lookup) -> Result<Self, reqwest::Error> {
        let route = |port| Route::new(timeout, Resolver::new(guard.clone(), lookup.clone(), port));
        let mut nats_ports = HashMap::new();
        for port in guard.nats_ports() {
            nats_ports.insert(port, route(port)?);
        }
        Ok(Self { routes: Arc::new(Routes { nats_ports, elsewhere: route(0)? }) })
    }

    /// Posts something to a subscription's target. What cannot be signed as it must be is not sent.
    pub async fn push(&self, subscription: &Subscription, signer: &Signer, parcel: Parcel) -> Outcome {
        let Parcel { id, mut headers, body } = parcel;
        match signer.sign(id, &body, Stamp::now()) {
            Ok(signature) => {
                headers.extend(signature.into_iter().filter_map(|(name, value)| parcel::pair(name, &value)));
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        let url = subscription.url.as_url();
        let route = self.routes.of(url);
        // The client asks its resolver about names only.
        if let Some(ip) = literal(url)
            && let Err(refused) = route.resolver.check_literal(ip).await
        {
            return Outcome::Failed(refusal(&refused));
        }
        let mut request = route.client.post(url.clone()).headers(headers).body(body);
        if let Some(timeout_ms) = subscription.delivery.timeout_ms {
            request = request.timeout(Duration::from_millis(timeout_ms));
        }
        match request.send().await {
            Ok(response) => {
                let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
                let (retry_after, resume_after) = (header("retry-after"), header("resume-after"));
                let status = response.status().as_u16();
                Outcome::Answered(Answer { status, retry_after, resume_after, body: beginning_of(response).await })
            }
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

impl Routes {
    fn of(&self, url: &Url) -> &Route {
        let port = url.port_or_known_default();
        port.and_then(|port| self.nats_ports.get(&port)).unwrap_or(&self.elsewhere)
    }
}

impl Route {
    fn new(timeout: Duration, resolver: Resolver) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .timeout(timeout)
                .connect_timeout(timeout)
                .pool_idle_timeout(IDLE_CONNECTION)
                .redirect(Policy::none())
                .no_proxy()
                .dns_resolver(resolver.clone())
                .user_agent(concat!("mer/", env!("CARGO_PKG_VERSION")))
        };
        let client = builder().build().or_else(|error| {
            // A machine without certificates of authorities still serves targets of plain http.
            tracing::warn!(reason = reason(&error), "tls.no_authorities_known_https_targets_will_fail");
            builder().tls_certs_only([]).build()
        });
        Ok(Self { client: client?, resolver })
    }
}

/// The host, where it is an address. However it was written, the URL standard has made one of it.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

/// How an answer begins. It is read to its end if that is near; otherwise the connection is closed with it.
async fn beginning_of(mut response: Response) -> String {
    let mut beginning = Vec::new();
    let read = async {
        while beginning.len() < MAX_ANSWER_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            beginning.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES)]);
        }
    };
    // The verdict is known by now, whatever becomes of the rest.
    let _ = tokio::time::timeout(ANSWER_DEADLINE, read).await;
    beginning.truncate(MAX_KEPT_BYTES);
    String::from_utf8_lossy(&beginning).into_owned()
}

/// Why there was no answer, to the root of it, without the URL: that may hold secrets.
fn reason(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "could not connect"
    } else {
        "broke off"
    };
    let mut root: Option<&(dyn Error + 'static)> = error.source();
    loop {
        if let Some(nothing) = root.and_then(|error| error.downcast_ref::<NothingToDial>())
            && nothing.is_refusal()
        {
            return refusal(nothing);
        }
        match root.and_then(Error::source) {
            Some(deeper) => root = Some(deeper),
            None => break,
        }
    }
    match root {
        Some(root) => format!("{kind}: {root}"),
        None => kind.to_owned(),
    }
}

/// Why nothing was sent.
fn refusal(refused: &NothingToDial) -> String {
    format!("refused: {refused}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use domain::TargetUrl;
    use http::HeaderMap;
    use std::net::Ipv4Addr;
    use std::sync::Once;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use crate::egress::EgressPolicy::{self, Internal, Public};

    /// Something that answers 200 and closes the connection, and counts connections.
    struct Target {
        port: u16,
        connections: Arc<AtomicUsize>,
        _server: JoinSet<()>,
    }

    impl Target {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let connections = Arc::new(AtomicUsize::new(0));
            let (count, mut server) = (connections.clone(), JoinSet::new());
            server.spawn(async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut request = Vec::new();
                    while !request.ends_with(b"{}") && connection.read_buf(&mut request).await.unwrap() > 0 {}
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    connection.write_all(answer).await.unwrap();
                }
            });
            Self { port, connections, _server: server }
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }
    }

    fn pusher(policy: EgressPolicy, nats: &[(&str, u16)], lookup: &Lookup) -> Pusher {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let guard = Guard::new(policy, nats.iter().map(|(host, port)| ((*host).to_owned(), *port)));
        Pusher::with_lookup(Duration::from_secs(5), &guard, lookup).unwrap()
    }

    /// A lookup that answers with this address, whatever the name.
    fn always(ip: Ipv4Addr) -> Lookup {
        Arc::new(move |_| Box::pin(async move { Ok(vec![ip.into()]) }))
    }

    async fn push(pusher: &Pusher, url: &str) -> Outcome {
        let subscription = Subscription::new(TargetUrl::parse(url).unwrap());
        let parcel = Parcel { id: String::new(), headers: HeaderMap::new(), body: Bytes::from_static(b"{}") };
        let signer = Signer::open(&subscription.url.subscription_id(), &subscription, None);
        pusher.push(&subscription, &signer, parcel).await
    }

    fn assert_refused(outcome: &Outcome, why: &str, url: &str) {
        assert!(
            matches!(outcome, Outcome::Failed(reason) if reason.starts_with("refused: ") && reason.contains(why)),
            "{url}: {outcome}"
        );
    }

    #[tokio::test]
    async fn an_address_is_recognised_however_it_is_written() {
        let nobody: Lookup = Arc::new(|name| panic!("`{name}` is an address, and is looked up"));
        for (policy, url, why) in [
            (Public, "http://2130706433/", "127.0.0.1 is not a public address"),
            (Public, "http://0177.0.0.1/", "127.0.0.1 is"),
            (Public, "http://0x7f.0.0.1/", "127.0.0.1 is"),
            (Public, "http://0x7f000001/", "127.0.0.1 is"),
            (Public, "http://017700000001/", "127.0.0.1 is"),
            (Public, "http://127.1/", "127.0.0.1 is"),
            (Public, "http://127.0.1/", "127.0.0.1 is"),
            (Public, "http://0x7F.1/", "127.0.0.1 is"),
            (Public, "http://127.0.0.1./", "127.0.0.1 is"),
            (Public, "http://%31%32%37.0.0.1/", "127.0.0.1 is"),
            (Public, "http://①②⑦。⓪.⓪.①/", "127.0.0.1 is"),
            (Public, "http://user:password@127.0.0.1:80/", "127.0.0.1 is"),
            (Public, "http://8.8.8.8@127.0.0.1/", "127.0.0.1 is"),
            (Public, "http://127.0.0.1\\@8.8.8.8/", "127.0.0.1 is"),
            (Public, "http:127.0.0.1/", "127.0.0.1 is"),
            (Public, "https://10.0.0.1/", "10.0.0.1 is"),
            (Public, "http://0300.0250.1.1/", "192.168.1.1 is"),
            (Public, "http://[::1]/", "::1 is"),
            (Public, "http://[0:0:0:0:0:0:0:1]/", "::1 is"),
            (Public, "http://[::ffff:127.0.0.1]/", "127.0.0.1 is"),
            (Public, "http://[::ffff:7f00:1]/", "127.0.0.1 is"),
            (Public, "http://[::127.0.0.1]/", "127.0.0.1 is"),
            (Public, "http://[fd12::1]/", "fd12::1 is"),
            (Internal, "http://0/", "0.0.0.0 is an unspecified address"),
            (Internal, "http://0x0.0/", "0.0.0.0 is"),
            (Internal, "http://[::]/", ":: is an unspecified address"),
            (Internal, "http://169.254.169.254/latest/meta-data/", "169.254.169.254 is"),
            (Internal, "http://169.254.169.254.:80/", "169.254.169.254 is"),
            (Internal, "http://2852039166/", "169.254.169.254 is"),
            (Internal, "http://0xa9fea9fe/", "169.254.169.254 is"),
            (Internal, "http://0xA9.0376.43518/", "169.254.169.254 is"),
            (Internal, "http://169.254.43518/", "169.254.169.254 is"),
            (Internal, "http://[::ffff:169.254.169.254]/", "169.254.169.254 is"),
            (Internal, "http://[::ffff:a9fe:a9fe]/", "169.254.169.254 is"),
            (Internal, "http://[::169.254.169.254]/", "169.254.169.254 is"),
            (Internal, "http://[::ffff:0:169.254.169.254]/", "169.254.169.254 is"),
            (Internal, "http://[64:ff9b::a9fe:a9fe]/", "169.254.169.254 is"),
            (Internal, "http://[64:ff9b:1::169.254.169.254]/", "169.254.169.254 is"),
            (Internal, "http://[64:ff9b:1:a9fe:a9:fe00::]/", "169.254.169.254 is"),
            (Internal, "http://[2002:a9fe:a9fe::1]/", "169.254.169.254 is"),
            (Internal, "http://[2001:0:a9fe:a9fe::f7f7:f7f7]/", "169.254.169.254 is"),
            (Internal, "http://[2001:0:808:808::5601:5601]/", "169.254.169.254 is"),
            (Internal, "http://[fd00:ec2::254]/", "fd00:ec2::254 is"),
            (Internal, "http://[fe80::a9fe:a9fe]/", "fe80::a9fe:a9fe is"),
            (Internal, "http://[ff02::1]/", "ff02::1 is a multicast address"),
            (Internal, "http://100.100.100.200/", "100.100.100.200 is"),
            (Internal, "http://4294967295/", "255.255.255.255 is"),
        ] {
            assert_refused(&push(&pusher(policy, &[], &nobody), url).await, why, url);
        }
    }

    #[tokio::test]
    async fn a_name_that_moves_to_a_refused_address_is_not_followed() {
        let target = Target::start().await;
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let changing: Lookup = Arc::new(move |_| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let ip = if first { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(169, 254, 169, 254) };
            Box::pin(async move { Ok(vec![ip.into()]) })
        });
        let pusher = pusher(Internal, &[], &changing);
        let url = format!("http://changing.test:{}/", target.port);
        assert_eq!(push(&pusher, &url).await.code(), Some(200));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "what was judged is what was dialled");
        assert_refused(&push(&pusher, &url).await, "169.254.169.254 is", &url);
        assert_eq!((target.connections(), asked.load(Ordering::SeqCst)), (1, 2));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_what_the_policy_keeps_out() {
        let target = Target::start().await;
        let lookup = always(Ipv4Addr::LOCALHOST);
        for host in ["name.test", "localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{}/", target.port);
            assert_refused(&push(&pusher(Public, &[], &lookup), &url).await, "127.0.0.1 is not a public", &url);
        }
        assert_eq!(target.connections(), 0);
        let url = format!("http://127.0.0.1:{}/", target.port);
        assert_eq!(push(&pusher(Internal, &[], &lookup), &url).await.code(), Some(200));
    }

    #[tokio::test]
    async fn nothing_is_sent_to_mers_own_nats() {
        let nats = Target::start().await;
        let lookup = always(Ipv4Addr::LOCALHOST);
        for known_as in ["127.0.0.1", "::1", "nats.test"] {
            let pusher = pusher(Internal, &[(known_as, nats.port), ("8.8.8.8", 80), ("8.8.8.8", 443)], &lookup);
            for host in ["name.test", "127.0.0.1", "127.1.1.1", "[::1]", "[::ffff:127.0.0.1]"] {
                let url = format!("http://{host}:{}/", nats.port);
                assert_refused(&push(&pusher, &url).await, "is a NATS server that mer itself uses", &url);
            }
            // The port that a scheme stands for counts too.
            for url in ["http://8.8.8.8/", "https://8.8.8.8/"] {
                assert_refused(&push(&pusher, url).await, "is a NATS server that mer itself uses", url);
            }
        }
        let named = pusher(Internal, &[("127.0.0.1", 80)], &lookup);
        assert_refused(&push(&named, "http://name.test/").await, "127.0.0.1:80 is a NATS server", "port 80");
        assert_eq!(nats.connections(), 0);
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_is_not_called_refused() {
        let nobody: Lookup = Arc::new(|_| Box::pin(async { Err(std::io::ErrorKind::NotFound.into()) }));
        let outcome = push(&pusher(Public, &[], &nobody), "http://unknown.test/").await;
        assert_eq!(outcome, Outcome::Failed("could not connect: entity not found".to_owned()));
    }
}
