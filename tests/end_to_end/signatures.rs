//! Signatures after Standard Webhooks: every delivery carries valid ones, and no secret is seen anywhere else.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use hmac::{Hmac, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use tests::{Answer, Api, Mer, Nats, Received, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON};

const KEY: &str = "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";
const OTHER_KEY: &str = "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjI=";

/// A mer on that nats-server with these keys, if any, that logs all there is to log about its own work.
async fn mer_with(nats: &Nats, keys: &str) -> Mer {
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LOG", "trace,async_nats=warn");
    if keys.is_empty() { mer.start().await } else { mer.set("MER_SECRET_KEY", keys).start().await }
}

async fn call(api: &Api, path: &str, body: &str) -> (u16, Value) {
    let response = api.send(Method::POST, &format!("/v1/subscriptions{path}"), &[], body.to_owned()).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// Makes a new secret of a target, and answers with what its signatures are verified with.
async fn rotated(api: &Api, target: &Target, body: &str) -> String {
    let id = id_of(target);
    let (status, answer) = call(api, &format!("/{id}/rotate-secret"), body).await;
    assert_eq!(status, 200, "{answer}");
    let answer = answer.as_object().unwrap();
    assert_eq!(answer.len(), 1);
    answer.values().next().unwrap().as_str().unwrap().to_owned()
}

fn id_of(target: &Target) -> String {
    domain::TargetUrl::parse(&target.url("/")).unwrap().subscription_id().to_string()
}

/// Posts events until one comes with so many signatures: a lane hears of a secret a moment after it was made.
async fn delivered_with(api: &Api, target: &Target, signatures: usize) -> Received {
    eventually_async("an event comes with so many signatures", SOON, async || {
        let sequence = api.post_event("a", &json!({"text": "größe"})).await.sequence;
        eventually("it comes", SOON, || target.taken().contains(&sequence)).await;
        signatures_of(target.received().last().unwrap()).len() == signatures
    })
    .await;
    target.received().last().unwrap().clone()
}

fn signatures_of(received: &Received) -> Vec<&str> {
    received.headers.get("webhook-signature").map_or(Vec::new(), |value| value.split(' ').collect())
}

/// Whether a request carries a signature that a secret or a public key verifies, made a moment ago.
fn is_signed(received: &Received, by: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let timestamp = &received.headers["webhook-timestamp"];
    assert!(now.abs_diff(timestamp.parse().unwrap()) < 300, "{timestamp}");
    let content = format!("{}.{timestamp}.{}", received.headers["webhook-id"], received.body);
    signatures_of(received).into_iter().any(|signature| match (signature.split_once(','), by.split_once('_')) {
        (Some(("v1", signature)), Some(("whsec", secret))) => {
            let mut hmac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret).unwrap()).unwrap();
            hmac.update(content.as_bytes());
            hmac.verify_slice(&STANDARD.decode(signature).unwrap()).is_ok()
        }
        (Some(("v1a", signature)), Some(("whpk", key))) => {
            let key = VerifyingKey::from_bytes(&STANDARD.decode(key).unwrap().try_into().unwrap()).unwrap();
            let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
            key.verify(content.as_bytes(), &signature).is_ok()
        }
        _ => false,
    })
}

#[tokio::test]
async fn deliveries_are_signed_with_every_current_secret() {
    let nats = Nats::start();
    let mer = mer_with(&nats, KEY).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let unsigned = delivered_with(&api, &target, 0).await;
    assert!(unsigned.headers.keys().all(|name| !name.starts_with("webhook-")), "{unsigned:?}");

    let first = rotated(&api, &target, "").await;
    let received = delivered_with(&api, &target, 1).await;
    assert!(is_signed(&received, &first), "{received:?}");

    let second = rotated(&api, &target, r#"{"grace_secs": 600}"#).await;
    let ed25519 = rotated(&api, &target, r#"{"type": "v1a"}"#).await;
    let received = delivered_with(&api, &target, 3).await;
    for by in [&first, &second, &ed25519] {
        assert!(is_signed(&received, by), "{by}: {received:?}");
    }
    // A test is signed too, and not with what expires at once.
    let third = rotated(&api, &target, r#"{"type": "v1", "grace_secs": 0}"#).await;
    let received = delivered_with(&api, &target, 2).await;
    let (_, answer) = call(&api, &format!("/{}/test", id_of(&target)), "").await;
    assert_eq!(answer["outcome"]["code"], 200);
    let test = target.received().last().unwrap().clone();
    assert_eq!(test.headers["ce-type"], "mer.test");
    for received in [received, test] {
        for (by, is_current) in [(&first, false), (&second, false), (&third, true), (&ed25519, true)] {
            assert_eq!(is_signed(&received, by), is_current, "{by}: {received:?}");
        }
    }
    // So it is in every mode.
    for mode in ["batched", "concurrent"] {
        let body = json!({"delivery": {"mode": mode}}).to_string();
        let path = format!("/v1/subscriptions/{}", id_of(&target));
        assert_eq!(api.send(Method::PATCH, &path, &[], body).await.unwrap().status(), 200);
        eventually_async("deliveries are in that mode", SOON, async || {
            let received = delivered_with(&api, &target, 2).await;
            assert!(is_signed(&received, &third) && is_signed(&received, &ed25519), "{received:?}");
            (received.headers["content-type"] == "application/cloudevents-batch+json") == (mode == "batched")
        })
        .await;
    }
    // What is given a moment signs no more when that is over, though nothing is asked anew.
    let fourth = rotated(&api, &target, r#"{"grace_secs": 1}"#).await;
    eventually_async("only the new one signs", SOON, async || {
        let received = delivered_with(&api, &target, 2).await;
        is_signed(&received, &fourth) && !is_signed(&received, &third)
    })
    .await;
    assert_eq!(api.subscription(&target.url("/")).await["secrets"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_attempt_is_signed_anew_under_the_id_of_its_event() {
    let nats = Nats::start();
    let mer = mer_with(&nats, KEY).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let secret = rotated(&api, &target, "").await;
    let earlier = delivered_with(&api, &target, 1).await;
    target.answer(Answer::Status(503));
    let sequence = api.post_event("a", &json!({})).await.sequence;
    let attempts = || -> Vec<Received> {
        target.received().into_iter().filter(|received| received.sequence == sequence).collect()
    };
    let timestamps = || {
        let mut timestamps: Vec<String> =
            attempts().iter().map(|received| received.headers["webhook-timestamp"].clone()).collect();
        timestamps.dedup();
        timestamps.len()
    };
    eventually("it is tried in more than one second", LONG, || timestamps() >= 2).await;
    target.answer(Answer::Status(200));
    eventually("it arrives", LONG, || target.taken().contains(&sequence)).await;
    let attempts = attempts();
    assert!(attempts.iter().all(|received| is_signed(received, &secret)));
    assert!(attempts.iter().all(|received| received.headers["webhook-id"] == attempts[0].headers["webhook-id"]));
    assert_ne!(earlier.headers["webhook-id"], attempts[0].headers["webhook-id"]);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_sealed() {
    let nats = Nats::start();
    let mer = mer_with(&nats, KEY).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let first = rotated(&api, &target, "").await;
    let second = rotated(&api, &target, "{}").await;
    let public_key = rotated(&api, &target, r#"{"type": "v1a"}"#).await;
    delivered_with(&api, &target, 3).await;
    let id = id_of(&target);
    let shown = api.get(&format!("/v1/subscriptions/{id}")).await;
    let secrets = shown["secrets"].as_array().unwrap();
    let types: Vec<&str> = secrets.iter().map(|secret| secret["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["v1", "v1", "v1a"]);
    assert!(secrets[0]["expires"].is_string() && secrets[1]["expires"].is_null() && secrets[2]["expires"].is_null());
    assert!(secrets[0]["expires"].as_str() > secrets[2]["created"].as_str());
    assert_eq!((&secrets[2]["public_key"], &secrets[1]["public_key"]), (&json!(public_key), &Value::Null));

    let kept = nats.value("SUBSCRIPTIONS", &target.url("/")).await;
    assert_eq!(kept["secrets"].as_array().unwrap().len(), 3);
    let listed = api.get("/v1/subscriptions").await;
    let attempts = api.get(&format!("/v1/subscriptions/{id}/attempts")).await;
    let lane = nats.value("LANES", &target.url("/")).await;
    let log = mer.log();
    assert!(log.contains("subscription.secret_rotated"));
    let of = |secret: &str| secret.split_once('_').unwrap().1.to_owned();
    for text in [shown, listed, attempts, kept, lane].iter().map(Value::to_string).chain([log]) {
        for secret in ["whsec_", "whsk_", &of(&first), &of(&second), KEY] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
    // A change of anything else leaves them.
    let patched = api.send(Method::PATCH, &format!("/v1/subscriptions/{id}"), &[], r#"{"group": "g"}"#).await.unwrap();
    assert_eq!(patched.json::<Value>().await.unwrap()["secrets"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn nothing_is_sent_unsigned_where_the_secret_does_not_open() {
    let nats = Nats::start();
    let mut mer = mer_with(&nats, KEY).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    let secret = rotated(&mer.api(), &target, "").await;
    assert!(mer.stop().await);
    let mut sequence = 0;
    for keys in ["", OTHER_KEY] {
        let mut mer = mer_with(&nats, keys).await;
        let api = mer.api();
        sequence = api.post_event("a", &json!({})).await.sequence;
        eventually_async("it is held, and says why", SOON, async || {
            let status = api.subscription(&target.url("/")).await["status"].clone();
            let error = status["last_attempt"]["error"].as_str().unwrap_or_default().to_owned();
            let reason = if keys.is_empty() { "no `MER_SECRET_KEY`" } else { "does not open with `MER_SECRET_KEY`" };
            status["state"] == "held" && error.contains(reason)
        })
        .await;
        if keys.is_empty() {
            let (status, problem) = call(&api, &format!("/{}/rotate-secret", id_of(&target)), "").await;
            assert!(status == 409 && problem["detail"].as_str().unwrap().contains("MER_SECRET_KEY"), "{problem}");
        }
        let (_, answer) = call(&api, &format!("/{}/test", id_of(&target)), "").await;
        assert!(answer["outcome"]["error"].as_str().unwrap().starts_with("not sent"), "{answer}");
        assert!(mer.stop().await);
    }
    assert!(target.received().is_empty());
    // With a new key in front of the old one all of it goes on.
    let mer = mer_with(&nats, &format!("{OTHER_KEY},{KEY}")).await;
    eventually("all arrive", LONG, || target.taken().last() == Some(&sequence)).await;
    assert!(target.received().iter().all(|received| is_signed(received, &secret)));
    let new = rotated(&mer.api(), &target, r#"{"grace_secs": 0}"#).await;
    drop(mer);
    let mer = mer_with(&nats, OTHER_KEY).await;
    assert!(is_signed(&delivered_with(&mer.api(), &target, 1).await, &new));
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused() {
    let nats = Nats::start();
    let mer = mer_with(&nats, KEY).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let path = format!("/{}/rotate-secret", id_of(&target));
    for (path, body, status) in [
        (path.as_str(), "nonsense", 400),
        (&path, "[]", 422),
        (&path, "null", 422),
        (&path, r#"{"type": "v2", "grace_secs": -1, "x": 1}"#, 422),
        ("/host_0000000000000000/rotate-secret", "", 404),
        ("/no*id/rotate-secret", "", 404),
    ] {
        assert_eq!(call(&api, path, body).await.0, status, "{path} {body}");
    }
    for _ in 0..5 {
        rotated(&api, &target, "").await;
    }
    let (status, problem) = call(&api, &path, "").await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("grace_secs"), "{problem}");
    rotated(&api, &target, r#"{"grace_secs": 0}"#).await;
    assert_eq!(api.subscription(&target.url("/")).await["secrets"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_that_is_none_ends_mer_without_being_repeated() {
    let output = std::process::Command::new(MER)
        .arg("serve")
        .env_clear()
        .envs([("MER_LISTEN", "127.0.0.1:0"), ("MER_SECRET_KEY", "c2hvcnQ=")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("MER_SECRET_KEY") && !said.contains("c2hvcnQ"), "{said}");
}
