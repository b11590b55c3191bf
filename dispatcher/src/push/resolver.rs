//! From a name to addresses, and only to those that the guard lets through.
//!
//! What this answers is dialled, and it is asked again for every connection: so what was judged is what is dialled,
//! however often a name changes its mind. Hosts that are addresses are held against the same rules.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use url::Host;

use crate::push::egress::{Guard, Refused};

/// How long to look for the addresses of one of mer's own NATS servers.
const NATS_LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// Looks a name up. The system's own, but for tests.
pub(crate) type Lookup = Arc<dyn Fn(String) -> LookingUp + Send + Sync>;
pub(crate) type LookingUp = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Knows names, and the guard.
pub(crate) struct Resolver {
    guard: Guard,
    lookup: Lookup,
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

impl Resolver {
    pub(crate) fn new(guard: Guard, lookup: Lookup) -> Self {
        Self { guard, lookup }
    }

    /// The addresses of a host that may be dialled at this port: at least one.
    pub(crate) async fn addresses(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, NothingToDial> {
        let found = match host {
            Host::Domain(name) => (self.lookup)(name.clone()).await.map_err(NothingToDial::NotFound)?,
            Host::Ipv4(ip) => vec![IpAddr::V4(*ip)],
            Host::Ipv6(ip) => vec![IpAddr::V6(*ip)],
        };
        let guard = self.guard_of_now(port).await?;
        let (mut allowed, mut first_refusal) = (Vec::new(), None);
        for ip in found {
            let address = SocketAddr::new(ip, port);
            match guard.check(address) {
                Ok(()) => allowed.push(address),
                Err(refused) => {
                    tracing::debug!(%host, %refused, "egress.refused");
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
    async fn guard_of_now(&self, port: u16) -> Result<Guard, NothingToDial> {
        let mut guard = self.guard.clone();
        for name in self.guard.nats_names(port) {
            let found = tokio::time::timeout(NATS_LOOKUP_DEADLINE, (self.lookup)(name.to_owned())).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let found = found.map_err(|source| NothingToDial::NatsNotFound { name: name.to_owned(), source })?;
            guard = found.into_iter().fold(guard, |guard, ip| guard.with_nats(SocketAddr::new(ip, port)));
        }
        Ok(guard)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::push::egress::EgressPolicy;

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
        let resolver = Resolver::new(Guard::new(policy, nats), names(NAMES));
        match resolver.addresses(&Host::parse(name).unwrap(), port).await {
            Ok(addresses) => Ok(addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn only_what_is_allowed_of_a_name_is_dialled() {
        use EgressPolicy::{Internal, Public};
        let both = dialled(Public, &[], 80, "both.test").await;
        assert_eq!(both.unwrap(), "8.8.8.8:80 [2606:4700:4700::1111]:80");
        let both = dialled(Internal, &[], 80, "both.test").await;
        assert_eq!(both.unwrap(), "10.0.0.1:80 8.8.8.8:80 [::1]:80 [2606:4700:4700::1111]:80");
        assert_eq!(dialled(Internal, &[], 80, "inside.test").await.unwrap(), "127.0.0.1:80 10.0.0.1:80");
        for (policy, name, why) in [
            (Public, "inside.test", "127.0.0.1 is not a public address"),
            (Internal, "metadata.test", "169.254.169.254 is an address of a cloud's metadata service"),
            (Internal, "nowhere.test", "the name has no address"),
            (Internal, "unknown.test", "entity not found"),
        ] {
            let error = dialled(policy, &[], 80, name).await.unwrap_err();
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
        assert_eq!(dialled(policy, &[("nats.test", 4222)], 80, "alias.test").await.unwrap(), "10.0.0.6:80");
        assert_eq!(
            dialled(policy, &[("nats.test", 4222)], 4222, "inside.test").await.unwrap(),
            "127.0.0.1:4222 10.0.0.1:4222"
        );
        // While nobody knows where NATS is, nothing at its port is dialled.
        let error = dialled(policy, &[("unknown.test", 4222)], 4222, "alias.test").await.unwrap_err();
        assert!(error.contains("looking up `unknown.test`"), "{error}");
        assert_eq!(dialled(policy, &[("unknown.test", 4222)], 80, "alias.test").await.unwrap(), "10.0.0.6:80");
    }

    #[tokio::test]
    async fn an_address_in_a_url_is_held_against_the_same_rules() {
        let nats = [("nats.test", 4222)];
        let at = |port, host: &'static str| dialled(EgressPolicy::Internal, &nats, port, host);
        assert!(at(4222, "10.0.0.5").await.unwrap_err().contains("10.0.0.5:4222 is a NATS server"));
        assert_eq!(at(80, "10.0.0.5").await.unwrap(), "10.0.0.5:80");
        assert_eq!(at(80, "[::1]").await.unwrap(), "[::1]:80");
        assert!(at(80, "169.254.169.254").await.is_err());
    }
}
