//! Which addresses may be dialled: registering a URL must give nobody a way into the network.
//!
//! Pure. It judges addresses, never names or URLs: what a name means is known only when it has been looked up, and
//! `resolver` asks then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far targets may lie inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressPolicy {
    /// Targets may be on this machine and in private networks: replicas are.
    #[default]
    Internal,
    /// Only on the public internet.
    Public,
}

/// Judges addresses before they are dialled.
#[derive(Debug, Clone)]
pub struct Guard {
    policy: EgressPolicy,
    /// mer's own NATS servers, by address and by name.
    nats: Vec<SocketAddr>,
    named_nats: Vec<(String, u16)>,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A cloud answers there with what its machines may do, keys included.
    #[error("{0} is an address of a cloud's metadata service")]
    Metadata(IpAddr),
    /// No address: the system takes it for this machine.
    #[error("{0} is an unspecified address")]
    Unspecified(IpAddr),
    /// It means something on one link only.
    #[error("{0} is a link-local address")]
    LinkLocal(IpAddr),
    /// A group, not a machine.
    #[error("{0} is a multicast address")]
    Multicast(IpAddr),
    /// Everybody on a link.
    #[error("{0} is the broadcast address")]
    Broadcast(IpAddr),
    /// No service may have it.
    #[error("{0} is a reserved address")]
    Reserved(IpAddr),
    /// All events and registrations are there.
    #[error("{0} is a NATS server that mer itself uses")]
    OwnNats(SocketAddr),
    /// It is on this machine or in a private network, and the policy is [`EgressPolicy::Public`].
    #[error("{0} is not a public address, and MER_EGRESS is `public`")]
    NotPublic(IpAddr),
    /// It stands for an IPv4 address that is refused.
    #[error("{outer} carries an IPv4 address: {inner}")]
    Carried {
        /// What would be dialled.
        outer: Ipv6Addr,
        /// What is wrong with the address in it.
        inner: Box<Refused>,
    },
}

/// What breaking one rule is called.
type Rule = fn(IpAddr) -> Refused;

/// Addresses that begin alike.
struct Network {
    begin: IpAddr,
    bits: u32,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32) -> Network {
    Network { begin: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6(segments: [u16; 8], bits: u32) -> Network {
    let [a, b, c, d, e, f, g, h] = segments;
    Network { begin: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
}

/// Most of what else there is (169.254.170.2, fe80::a9fe:a9fe, …) is link-local, and so refused too.
const METADATA: &[Network] = &[
    v4(169, 254, 169, 254, 32), // AWS, Azure, Google, Oracle, OpenStack, and more
    v4(100, 100, 100, 200, 32), // Alibaba Cloud: ECS, "Instance metadata"
    v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128), // the same on IPv6
    v4(168, 63, 129, 16, 32),   // Azure: "What is IP address 168.63.129.16?" (WireServer)
    v4(192, 0, 0, 192, 32),     // Oracle Cloud Infrastructure Classic
    v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), // Oracle: oci-python-sdk, instance principals on IPv6
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), // AWS: EC2 "Instance metadata" ::254, EKS Pod Identity ::23
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), // Google: Compute Engine, "Query VM metadata"
    v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), // Scaleway: cloud-init, "Scaleway datasource"
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), // Akamai (Linode): "Metadata service"
];
const UNSPECIFIED: &[Network] = &[v4(0, 0, 0, 0, 8), v6([0; 8], 128)];
const LINK_LOCAL: &[Network] = &[v4(169, 254, 0, 0, 16), v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)];
const MULTICAST: &[Network] = &[v4(224, 0, 0, 0, 4), v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)];
const BROADCAST: &[Network] = &[v4(255, 255, 255, 255, 32)];
/// Of IANA's special-purpose registries; IPv6 also has all that lies outside of [`ASSIGNED_V6`].
const RESERVED: &[Network] = &[
    v4(240, 0, 0, 0, 4),  // RFC 1112
    v4(192, 0, 0, 0, 24), // RFC 6890, IETF protocol assignments
    v4(192, 0, 2, 0, 24), // RFC 5737, documentation, with the next two
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(192, 88, 99, 0, 24),                    // RFC 7526, what was the 6to4 relay
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // RFC 3849, documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // RFC 9637, documentation
];
const ASSIGNED_V6: &[Network] = &[
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), // RFC 4291, global unicast
    LOOPBACK_V6,
    UNIQUE_LOCAL,
    SITE_LOCAL,
    COMPATIBLE,
    MAPPED,
    TRANSLATED,
    NAT64,
    LOCAL_NAT64,
];
const NOT_PUBLIC: &[Network] = &[
    v4(127, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8), // RFC 1918, with the next two
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),                 // RFC 6598, behind a provider's NAT
    v4(198, 18, 0, 0, 15),                 // RFC 2544, benchmarks
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), // RFC 5180, benchmarks
    LOOPBACK_V6,
    UNIQUE_LOCAL,
    SITE_LOCAL,
];
const LOOPBACK_V6: Network = v6([0, 0, 0, 0, 0, 0, 0, 1], 128);
const UNIQUE_LOCAL: Network = v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7); // RFC 4193
const SITE_LOCAL: Network = v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10); // RFC 3879, what was private before
// Those that carry IPv4 addresses.
const COMPATIBLE: Network = v6([0; 8], 96); // RFC 4291, section 2.5.5.1
const MAPPED: Network = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96); // RFC 4291, section 2.5.5.2
const TRANSLATED: Network = v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96); // RFC 2765
const NAT64: Network = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96); // RFC 6052
const LOCAL_NAT64: Network = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48); // RFC 8215
const TEREDO: Network = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32); // RFC 4380
const SIX_TO_FOUR: Network = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16); // RFC 3056

impl Guard {
    /// A guard that keeps mer's own NATS servers, hosts with ports, from being targets too.
    pub fn new(policy: EgressPolicy, nats: impl IntoIterator<Item = (String, u16)>) -> Self {
        let mut guard = Self { policy, nats: Vec::new(), named_nats: Vec::new() };
        for (host, port) in nats {
            match host.parse::<IpAddr>() {
                Ok(ip) => guard.nats.push(SocketAddr::new(ip, port)),
                Err(_) => guard.named_nats.push((host, port)),
            }
        }
        guard
    }

    /// Whether an address may be dialled. An IPv6 address that carries an IPv4 address is judged by both.
    ///
    /// Of NATS servers, those are known here whose addresses are.
    pub fn check(&self, address: SocketAddr) -> Result<(), Refused> {
        self.check_itself(address)?;
        let IpAddr::V6(outer) = address.ip() else { return Ok(()) };
        for inner in carried(outer) {
            let inner = SocketAddr::new(inner.into(), address.port());
            self.check_itself(inner).map_err(|inner| Refused::Carried { outer, inner: Box::new(inner) })?;
        }
        Ok(())
    }

    /// The NATS servers at that port that are known by name only.
    pub(crate) fn nats_names(&self, port: u16) -> impl Iterator<Item = &str> {
        self.named_nats.iter().filter(move |(_, at)| *at == port).map(|(name, _)| name.as_str())
    }

    /// The same, knowing one more address of a NATS server.
    pub(crate) fn with_nats(mut self, address: SocketAddr) -> Self {
        self.nats.push(address);
        self
    }

    fn check_itself(&self, address: SocketAddr) -> Result<(), Refused> {
        let ip = address.ip();
        if self.nats.iter().any(|nats| nats.port() == address.port() && are_one_host(nats.ip(), ip)) {
            return Err(Refused::OwnNats(address));
        }
        match never(ip) {
            Some(refused) => Err(refused),
            None if self.policy == EgressPolicy::Public && any_holds(NOT_PUBLIC, ip) => Err(Refused::NotPublic(ip)),
            None => Ok(()),
        }
    }
}

/// What no policy allows.
fn never(ip: IpAddr) -> Option<Refused> {
    let rules: [(&[Network], Rule); 6] = [
        (METADATA, Refused::Metadata),
        (UNSPECIFIED, Refused::Unspecified),
        (LINK_LOCAL, Refused::LinkLocal),
        (MULTICAST, Refused::Multicast),
        (BROADCAST, Refused::Broadcast),
        (RESERVED, Refused::Reserved),
    ];
    let broken = rules.into_iter().find(|(networks, _)| any_holds(networks, ip)).map(|(_, rule)| rule);
    let is_unassigned = ip.is_ipv6() && !any_holds(ASSIGNED_V6, ip);
    broken.or(is_unassigned.then_some(Refused::Reserved)).map(|rule| rule(ip))
}

/// A server on this machine is at every loopback address, for all that is known; and one at no address is one of those.
fn are_one_host(nats: IpAddr, other: IpAddr) -> bool {
    let (nats, other) = (nats.to_canonical(), other.to_canonical());
    nats == other || (nats.is_loopback() || nats.is_unspecified()) && other.is_loopback()
}

/// The IPv4 addresses that an IPv6 address stands for on its way.
fn carried(outer: Ipv6Addr) -> Vec<Ipv4Addr> {
    if outer.is_unspecified() || outer.is_loopback() {
        return Vec::new();
    }
    let octets = outer.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    let is_in = |network: &Network| network.holds(outer.into());
    if [COMPATIBLE, MAPPED, TRANSLATED, NAT64].iter().any(is_in) {
        vec![last]
    } else if is_in(&LOCAL_NAT64) {
        // RFC 6052, section 2.2: where the address stands depends on how long the operator's prefix is (48, 56, 64,
        // 96), which is not to be seen. Read at a wrong place it is 0.x.x.x mostly, and that is nowhere.
        let anywhere = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]].map(at);
        let somewhere: Vec<_> = anywhere.into_iter().filter(|inner| inner.octets()[0] != 0).collect();
        if somewhere.is_empty() { vec![last] } else { somewhere }
    } else if is_in(&SIX_TO_FOUR) {
        vec![at([2, 3, 4, 5])]
    } else if is_in(&TEREDO) {
        // The server, and the client with every bit turned.
        vec![at([4, 5, 6, 7]), Ipv4Addr::from_bits(!last.to_bits())]
    } else {
        Vec::new()
    }
}

fn any_holds(networks: &[Network], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.holds(ip))
}

impl Network {
    fn holds(&self, ip: IpAddr) -> bool {
        match (self.begin, ip) {
            (IpAddr::V4(begin), IpAddr::V4(ip)) => (begin.to_bits() ^ ip.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(begin), IpAddr::V6(ip)) => (begin.to_bits() ^ ip.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
