//! From a name to addresses, and only to those that the guard lets through.
//!
//! The HTTP client dials what this answers and asks again for every connection, so what was judged is what is dialled,
//! however often a name changes its mind. Hosts that are addresses never come here: see [`Resolver::check_literal`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::egress::{Guard, Refused};

/// How long to look for the addresses of one of mer's own NATS servers.
const NATS_LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// Looks a name up. The system's own, but for tests.
pub(crate) type Lookup = Arc<dyn Fn(String) -> LookingUp + Send + Sync>;
pub(crate) type LookingUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Answers for connections to one port.
#[derive(Clone)]
pub(crate) struct Resolver {
    guard: Guard,
    lookup: Lookup,
    port: u16,
}

/// Why there is nothing to dial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NothingToDial {
    /// The address in the URL, or every address of the name in it, is refused; this is why the first one is.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name may be that of a NATS server of mer's, which is not to be found at the moment.
    #[error("whether this is a NATS server that mer itself uses is not known: looking up `{name}`: {source}")]
    NatsNotFound { name: String, source: io::Error },
    /// The name has no address.
    #[error(transparent)]
    NotFound(io::Error),
}

/// Asks the system, as programs without a resolver of their own do.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

impl NothingToDial {
    /// Whether the guard would not have it, rather than there being no such name.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NatsNotFound { .. } => true,
            Self::NotFound(_) => false,
        }
    }
}

impl Resolver {
    /// For one port; 0 for all at which no NATS server of mer's listens.
    pub(crate) fn new(guard: Guard, lookup: Lookup, port: u16) -> Self {
        Self { guard, lookup, port }
    }

    /// Whether an address that stands in a URL may be dialled.
    pub(crate) async fn check_literal(&self, ip: IpAddr) -> Result<(), NothingToDial> {
        Ok(self.guard_of_now().await?.check(SocketAddr::new(ip, self.port))?)
    }

    /// The addresses of a name that may be dialled: at least one.
    async fn allowed(&self, name: &str) -> Result<Vec<IpAddr>, NothingToDial> {
        let found = (self.lookup)(name.to_owned()).await.map_err(NothingToDial::NotFound)?;
        let guard = self.guard_of_now().await?;
        let (mut allowed, mut first_refusal) = (Vec::new(), None);
        for ip in found {
            match guard.check(SocketAddr::new(ip, self.port)) {
                Ok(()) => allowed.push(ip),
                Err(refused) => {
                    tracing::debug!(name, %refused, "egress.refused");
                    first_refusal.get_or_insert(refused);
                }
            }
        }
        match first_refusal {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(refused) => Err(refused.into()),
            None => Err(NothingToDial::NotFound(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
        }
    }

    /// The guard, knowing where those NATS servers are at the moment that it knows by name.
    async fn guard_of_now(&self) -> Result<Guard, NothingToDial> {
        let mut guard = self.guard.clone();
        for name in self.guard.nats_names(self.port) {
            let found = tokio::time::timeout(NATS_LOOKUP_DEADLINE, (self.lookup)(name.to_owned())).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let found = found.map_err(|source| NothingToDial::NatsNotFound { name: name.to_owned(), source })?;
            guard = found.into_iter().fold(guard, |guard, ip| guard.with_nats(SocketAddr::new(ip, self.port)));
        }
        Ok(guard)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let allowed = resolver.allowed(name.as_str()).await?;
            // Port 0: the client puts the URL's there, or that of the URL's scheme.
            let addresses: Addrs = Box::new(allowed.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::egress::EgressPolicy;

    /// Names that stand for these addresses; others are not found.
    pub(crate) fn names(table: &'static [(&str, &[&str])]) -> Lookup {
        Arc::new(move |name| {
            let found = table.iter().find(|(known, _)| *known == name);
            let found = found.map(|(_, addresses)| addresses.iter().map(|ip| ip.parse().unwrap()).collect());
            Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
        })
    }

    const NAMES: &[(&str, &[&str])] = &[
        ("both.test", &["10.0.0.1", "8.8.8.8", "::1", "2606:4700:4700::1111", "169.254.169.254"]),
        ("inside.test", &["127.0.0.1", "10.0.0.1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("nowhere.test", &[]),
        ("nats.test", &["10.0.0.5", "10.0.0.6"]),
        ("alias.test", &["10.0.0.6"]),
    ];

    async fn dialled(policy: EgressPolicy, nats: &[(&str, u16)], port: u16, name: &str) -> Result<String, String> {
        let nats = nats.iter().map(|(host, port)| ((*host).to_owned(), *port));
        let resolver = Resolver::new(Guard::new(policy, nats), names(NAMES), port);
        match resolver.resolve(name.parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(" ")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn only_what_is_allowed_of_a_name_is_dialled() {
        use EgressPolicy::{Internal, Public};
        let both = dialled(Public, &[], 0, "both.test").await;
        assert_eq!(both.unwrap(), "8.8.8.8:0 [2606:4700:4700::1111]:0");
        let both = dialled(Internal, &[], 0, "both.test").await;
        assert_eq!(both.unwrap(), "10.0.0.1:0 8.8.8.8:0 [::1]:0 [2606:4700:4700::1111]:0");
        assert_eq!(dialled(Internal, &[], 0, "inside.test").await.unwrap(), "127.0.0.1:0 10.0.0.1:0");
        for (policy, name, why) in [
            (Public, "inside.test", "127.0.0.1 is not a public address"),
            (Internal, "metadata.test", "169.254.169.254 is an address of a cloud's metadata service"),
            (Internal, "nowhere.test", "the name has no address"),
            (Internal, "unknown.test", "entity not found"),
        ] {
            let error = dialled(policy, &[], 0, name).await.unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn a_nats_server_that_is_known_by_name_is_no_target_either() {
        let policy = EgressPolicy::Internal;
        for nats in ["nats.test", "10.0.0.6"] {
            let error = dialled(policy, &[(nats, 4222)], 4222, "alias.test").await.unwrap_err();
            assert!(error.contains("10.0.0.6:4222 is a NATS server that mer itself uses"), "{error}");
        }
        assert_eq!(dialled(policy, &[("nats.test", 4222)], 80, "alias.test").await.unwrap(), "10.0.0.6:0");
        assert_eq!(
            dialled(policy, &[("nats.test", 4222)], 4222, "inside.test").await.unwrap(),
            "127.0.0.1:0 10.0.0.1:0"
        );
        // While nobody knows where NATS is, nothing at its port is dialled.
        let error = dialled(policy, &[("unknown.test", 4222)], 4222, "alias.test").await.unwrap_err();
        assert!(error.contains("looking up `unknown.test`"), "{error}");
        assert_eq!(dialled(policy, &[("unknown.test", 4222)], 80, "alias.test").await.unwrap(), "10.0.0.6:0");
    }

    #[tokio::test]
    async fn an_address_in_a_url_is_held_against_the_same_rules() {
        let guard = Guard::new(EgressPolicy::Internal, [("nats.test".to_owned(), 4222)]);
        let at = |port| Resolver::new(guard.clone(), names(NAMES), port);
        let [nats, metadata] = ["10.0.0.5", "169.254.169.254"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert!(at(4222).check_literal(nats).await.is_err_and(|error| error.is_refusal()));
        assert!(at(0).check_literal(nats).await.is_ok());
        assert!(at(0).check_literal(metadata).await.is_err());
    }
}
