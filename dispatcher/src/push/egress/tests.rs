//! What may be dialled and what not: addresses in all their forms.

use super::*;
use EgressPolicy::{Internal, Public};

fn check(policy: EgressPolicy, ip: &str) -> Result<(), Refused> {
    Guard::new(policy, []).check(SocketAddr::new(ip.parse().unwrap(), 80))
}

/// The rule that an address breaks, through what carries it.
fn rule(refused: Refused) -> Rule {
    match refused {
        Refused::Metadata(_) => Refused::Metadata,
        Refused::Unspecified(_) => Refused::Unspecified,
        Refused::LinkLocal(_) => Refused::LinkLocal,
        Refused::Multicast(_) => Refused::Multicast,
        Refused::Broadcast(_) => Refused::Broadcast,
        Refused::Reserved(_) => Refused::Reserved,
        Refused::NotPublic(_) => Refused::NotPublic,
        Refused::Carried { inner, .. } => rule(*inner),
        Refused::OwnNats(address) => panic!("{address} is no NATS server here"),
    }
}

#[test]
fn what_is_never_dialled() {
    let table: [(Rule, &[&str]); 6] = [
        (
            Refused::Metadata,
            &[
                "169.254.169.254",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd20:ce::254",
                "fd00:c1::a9fe:a9fe",
                "fd00:42::42",
                "fd00:a9fe:a9fe::1",
                "fd00:100::100:200",
            ],
        ),
        (Refused::Unspecified, &["0.0.0.0", "0.0.0.1", "0.255.255.255", "::"]),
        (
            Refused::LinkLocal,
            &["169.254.0.0", "169.254.170.2", "169.254.255.255", "fe80::", "fe80::a9fe:a9fe", "febf:ffff::1"],
        ),
        (Refused::Multicast, &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ffff::1"]),
        (Refused::Broadcast, &["255.255.255.255"]),
        (
            Refused::Reserved,
            &[
                "240.0.0.0",
                "255.255.255.254",
                "192.0.0.1",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.255",
                "192.88.99.1",
                "2001:db8::1",
                "3fff::1",
                "100::1",
                "64:ff9b:2::808:808",
                "1fff:ffff::1",
                "4000::1",
                "5f00::1",
                "fbff::1",
                "fe00::1",
            ],
        ),
    ];
    for (expected, addresses) in table {
        for address in addresses {
            let ip: IpAddr = address.parse().unwrap();
            for policy in [Internal, Public] {
                assert_eq!(check(policy, address), Err(expected(ip)), "{policy:?}");
            }
        }
    }
}

#[test]
fn what_lies_inside_is_dialled_by_policy() {
    for address in [
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "::1",
        "fc00::1",
        "fdff:ffff::1",
        "fec0::1",
        "feff:ffff::1",
        "2001:2::1",
    ] {
        assert_eq!(check(Internal, address), Ok(()), "{address}");
        assert_eq!(check(Public, address), Err(Refused::NotPublic(address.parse().unwrap())));
    }
}

#[test]
fn what_is_public_is_dialled() {
    for address in [
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "3ffe:ffff::1",
    ] {
        assert_eq!(check(Public, address), Ok(()), "{address}");
        assert_eq!(check(Internal, address), Ok(()), "{address}");
    }
}

/// Every form of IPv6 address that carries this IPv4 address.
fn disguises(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
    let bits = u128::from(inner.to_bits());
    let [a, b, c, d] = inner.octets().map(u128::from);
    let at_the_end = |prefix: &str| Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | bits);
    let local = "64:ff9b:1::".parse::<Ipv6Addr>().unwrap().to_bits();
    let teredo = |server: u128, client: u128| Ipv6Addr::from_bits(0x2001_0000 << 96 | server << 64 | client);
    let (public, turned) = (0x0808_0808, u128::from(!inner.to_bits()));
    vec![
        at_the_end("::"),
        at_the_end("::ffff:0:0"),
        at_the_end("::ffff:0:0:0"),
        at_the_end("64:ff9b::"),
        at_the_end("64:ff9b:1::"),
        at_the_end("64:ff9b:1:808:8:800::"),
        Ipv6Addr::from_bits(local | a << 72 | b << 64 | c << 48 | d << 40),
        Ipv6Addr::from_bits(local | a << 64 | b << 48 | c << 40 | d << 32),
        Ipv6Addr::from_bits(local | a << 48 | b << 40 | c << 32 | d << 24),
        Ipv6Addr::from_bits(0x2002 << 112 | bits << 80 | 1),
        teredo(bits, 0xf7f7_f7f7),
        teredo(public, turned),
    ]
}

#[test]
fn an_address_in_an_address_is_judged_too() {
    let table: [(&str, Rule); 7] = [
        ("169.254.169.254", Refused::Metadata),
        ("100.100.100.200", Refused::Metadata),
        ("169.254.1.1", Refused::LinkLocal),
        ("224.0.0.251", Refused::Multicast),
        ("255.255.255.255", Refused::Broadcast),
        ("240.0.0.1", Refused::Reserved),
        ("198.51.100.7", Refused::Reserved),
    ];
    for (inner, expected) in table {
        let inner: Ipv4Addr = inner.parse().unwrap();
        for outer in disguises(inner) {
            for policy in [Internal, Public] {
                let refused = check(policy, &outer.to_string()).expect_err(&outer.to_string());
                assert!(matches!(refused, Refused::Carried { outer: said, .. } if said == outer), "{refused}");
                assert_eq!(rule(refused)(inner.into()), expected(inner.into()), "{outer}");
            }
        }
    }
    for inner in ["127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.9.9"] {
        for outer in disguises(inner.parse().unwrap()) {
            assert_eq!(check(Internal, &outer.to_string()), Ok(()), "{outer}");
            let refused = check(Public, &outer.to_string()).expect_err(&outer.to_string());
            assert_eq!(rule(refused)(outer.into()), Refused::NotPublic(outer.into()));
        }
    }
    for outer in disguises("9.9.9.9".parse().unwrap()) {
        assert_eq!(check(Public, &outer.to_string()), Ok(()), "{outer}");
    }
    for nowhere in ["::ffff:0.0.0.0", "::2", "64:ff9b::", "64:ff9b:1::", "2002::1"] {
        let refused = check(Internal, nowhere).expect_err(nowhere);
        assert!(matches!(refused, Refused::Carried { inner, .. } if matches!(*inner, Refused::Unspecified(_))));
    }
}

#[test]
fn mers_own_nats_is_no_target() {
    let check = |nats: &str, target: &str| {
        let (host, port) = nats.rsplit_once(' ').unwrap();
        Guard::new(Internal, [(host.to_owned(), port.parse().unwrap())]).check(target.parse().unwrap())
    };
    for (nats, target) in [
        ("10.0.0.5 4222", "10.0.0.5:4222"),
        ("10.0.0.5 4222", "[::ffff:10.0.0.5]:4222"),
        ("10.0.0.5 4222", "[64:ff9b::10.0.0.5]:4222"),
        ("::ffff:10.0.0.5 4222", "10.0.0.5:4222"),
        ("fd00::5 4222", "[fd00::5]:4222"),
        ("8.8.8.8 443", "8.8.8.8:443"),
        ("127.0.0.1 4222", "127.0.0.1:4222"),
        ("127.0.0.1 4222", "127.9.9.9:4222"),
        ("127.0.0.1 4222", "[::1]:4222"),
        ("127.0.0.1 4222", "[::ffff:127.0.0.1]:4222"),
        ("::1 4222", "127.0.0.1:4222"),
        ("0.0.0.0 4222", "127.0.0.1:4222"),
    ] {
        let refused = check(nats, target).expect_err(target).to_string();
        assert!(refused.contains("is a NATS server that mer itself uses"), "{refused}");
    }
    for (nats, target) in [
        ("10.0.0.5 4222", "10.0.0.5:4223"),
        ("10.0.0.5 4222", "10.0.0.6:4222"),
        ("10.0.0.5 4222", "127.0.0.1:4222"),
        ("127.0.0.1 4222", "127.0.0.1:80"),
        ("127.0.0.1 4222", "10.0.0.5:4222"),
    ] {
        assert_eq!(check(nats, target), Ok(()), "{nats}: {target}");
    }
}

#[test]
fn a_refusal_says_which_address_breaks_which_rule() {
    for (policy, address, said) in [
        (Internal, "169.254.1.1", "169.254.1.1 is a link-local address"),
        (Public, "10.0.0.1", "10.0.0.1 is not a public address, and MER_EGRESS is `public`"),
        (
            Internal,
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a9fe:a9fe carries an IPv4 address: 169.254.169.254 is an address of a cloud's metadata service",
        ),
    ] {
        assert_eq!(check(policy, address).unwrap_err().to_string(), said);
    }
}
