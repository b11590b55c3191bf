use super::*;
use crate::push::egress::EgressPolicy::{Internal, Public};

fn assert_refused(outcome: &PushOutcome, why: &str, url: &str) {
    assert!(
        matches!(outcome, PushOutcome::Failed(reason) if reason.starts_with("refused: ") && reason.contains(why)),
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
    assert_eq!(outcome, PushOutcome::Failed("could not connect: entity not found".to_owned()));
}
