//! Nobody gets anywhere through mer that they may not go: not by a redirect, not by an address inside.

use serde_json::{Value, json};
use tests::{Answer, Api, Mer, Nats, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

/// The state of a URL, once an attempt has failed and a second one is on its way.
async fn held_status(api: &Api, url: &str) -> Value {
    let mut status = Value::Null;
    eventually_async("it is held", LONG, async || {
        status = api.subscription(url).await["status"].clone();
        status["state"] == "held" && status["last_attempt"]["attempt"].as_u64() >= Some(2)
    })
    .await;
    status
}

#[tokio::test]
async fn a_redirect_is_a_failed_attempt_and_not_followed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (redirecting, elsewhere) = (Target::start().await, Target::start().await);
    redirecting.answer(Answer::Redirect(elsewhere.url("/secret")));
    api.register(&redirecting.url("/"), &["a"], &json!({})).await;
    let sequence = api.post_event("a", &json!({})).await.sequence;

    let status = held_status(&api, &redirecting.url("/")).await;
    assert_eq!((&status["last_attempt"]["sequence"], &status["last_attempt"]["code"]), (&json!(sequence), &json!(302)));
    assert!(redirecting.taken().is_empty() && !redirecting.received().is_empty());
    assert!(elsewhere.received().is_empty(), "{:?}", elsewhere.received());

    redirecting.answer(Answer::Status(200));
    eventually("the event was kept for it", LONG, || redirecting.taken() == [sequence]).await;
}

#[tokio::test]
async fn a_public_mer_sends_nothing_to_an_address_inside() {
    let nats = Nats::start();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_EGRESS", "public").start().await;
    let target = Target::start().await;
    let by_name = target.url("/").replace("127.0.0.1", "localhost");
    for url in [&target.url("/"), &by_name] {
        mer.api().register(url, &["a"], &json!({})).await;
    }
    let sequence = mer.api().post_event("a", &json!({})).await.sequence;
    for url in [&target.url("/"), &by_name] {
        let attempt = held_status(&mer.api(), url).await["last_attempt"].clone();
        let error = attempt["error"].as_str().unwrap();
        assert!(error.starts_with("refused: ") && error.contains("is not a public address"), "{attempt}");
        assert_eq!((&attempt["sequence"], &attempt["code"]), (&json!(sequence), &Value::Null));
    }
    assert!(target.received().is_empty(), "{:?}", target.received());

    // It is an ordinary failure: where the policy changes, what was held arrives.
    assert!(mer.stop().await);
    mer = mer.set("MER_EGRESS", "internal").start().await;
    eventually("both have it", LONG, || target.taken() == [sequence, sequence]).await;
    drop(mer);
}

#[tokio::test]
async fn mers_own_nats_is_not_pushed_to() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let port = nats.port();
    let healthy = Target::start().await;
    let urls = [format!("http://127.0.0.1:{port}/"), format!("http://localhost:{port}/")];
    for url in urls.iter().chain([&healthy.url("/")]) {
        api.register(url, &["a"], &json!({})).await;
    }
    let sequence = api.post_event("a", &json!({})).await.sequence;
    for url in &urls {
        let attempt = held_status(&api, url).await["last_attempt"].clone();
        assert!(attempt["error"].as_str().unwrap().contains("is a NATS server that mer itself uses"), "{attempt}");
    }
    eventually("its neighbour is served", SOON, || healthy.taken() == [sequence]).await;
}
