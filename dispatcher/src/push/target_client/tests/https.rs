use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::push::egress::EgressPolicy::Internal;

/// A target that shows that it is `name.test`, and what a client that believes it trusts.
async fn target() -> (Target, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["name.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
    // It would rather speak another protocol, which it is not asked for.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let target = Target::serving(move |visit| {
        let acceptor = acceptor.clone();
        async move {
            let Visit { connection, number, requests } = visit;
            let Ok(connection) = acceptor.accept(connection).await else { return };
            assert_eq!(connection.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut visit = Visit { connection: Box::new(connection), number, requests };
            while visit.request().await {
                visit.say(OK).await;
            }
        }
    });
    (target.await, cert.der().clone())
}

#[tokio::test]
async fn a_target_of_https_has_to_show_who_it_is() {
    let (target, certificate) = target().await;
    let mut roots = RootCertStore::empty();
    let trusts_nobody = pusher(Internal, &[], &always(Ipv4Addr::LOCALHOST));
    roots.add(certificate).unwrap();
    let tls = tls::trusting(roots).unwrap();
    let guard = Guard::new(Internal, []);
    let trusts_it = Pusher::with(Duration::from_secs(30), guard, always(Ipv4Addr::LOCALHOST), tls);
    let url = |host: &str| format!("https://{host}:{}/", target.port);
    let client = client(&trusts_it, &url("name.test"));
    for _ in 0..3 {
        assert_eq!(client.push(request()).await.code(), Some(200));
    }
    assert_eq!((target.connections(), target.requests()), (1, 3));
    for (pusher, host, why) in [
        (&trusts_nobody, "name.test", "could not connect: invalid peer certificate: UnknownIssuer"),
        (&trusts_it, "other.test", "could not connect: invalid peer certificate: certificate not valid for name"),
        (&trusts_it, "127.0.0.1", "could not connect: invalid peer certificate: certificate not valid for name"),
    ] {
        let outcome = push(pusher, &url(host)).await.to_string();
        assert!(outcome.starts_with(why), "{outcome}");
    }
    assert_eq!(target.requests(), 3);
}
