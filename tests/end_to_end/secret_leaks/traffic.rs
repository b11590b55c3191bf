//! All that users, targets and other NATS clients do, with a secret in each place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;
use tests::{Answer, Target, eventually, eventually_async};
use tokio::task::JoinSet;

use super::{BATCH, CLOUD_EVENT, NDJSON, User, babbler};
use crate::LONG;

/// How many events are posted and published before targets are told to refuse.
const POSTED: usize = 10;

/// Registers targets, with a secret in each attribute of a registration.
pub(super) async fn subscribe(api: &User<'_>, at: &impl Fn(&str) -> String) -> (Vec<Target>, JoinSet<()>) {
    let mut targets = Vec::new();
    for (mode, on_exhausted) in
        [("ordered", "dead_letter"), ("batched", "hold"), ("concurrent", "disable"), ("ordered", "hold")]
    {
        let target = Target::start().await;
        let (name, word) = (at("user of a URL"), at("password of a URL"));
        let url = target.url("/in").replace("//", &format!("//{name}:{word}@"));
        let basic = STANDARD.encode(format!("{name}:{word}"));
        api.secrets.given("userinfo, as a header", &basic);
        let url = format!("{url}?token={}", at("query of a URL"));
        let body = json!({"url": url, "group": "shop", "events": [{
            "type": ">", "listener_data": {"secret": at("listener_data")}, "priority": 1,
        }], "delivery": {"mode": mode, "max_attempts": 2, "on_exhausted": on_exhausted, "batch_max_wait_ms": 20}});
        let made = api.is_answered(201, Method::PUT, "/v1/subscriptions", &[], body).await;
        let id = made["id"].as_str().unwrap();
        for kind in ["v1", "v1a"] {
            let path = format!("/v1/subscriptions/{id}/rotate-secret");
            let rotated = api.is_answered(200, Method::POST, &path, &[], json!({"type": kind})).await;
            if let Some(secret) = rotated["secret"].as_str() {
                api.secrets.given("a signing secret", secret);
                api.secrets.given("a signing secret's bytes", secret.rsplit('_').next().unwrap());
            }
        }
        let path = format!("/v1/subscriptions/{id}/test");
        api.ask(Method::POST, &path, &[], "").await;
        targets.push(target);
    }
    // The original call; and targets that cannot be reached, or talk nonsense.
    let (host, babbling) =
        babbler(format!("HTTP/1.1 {} {}\r\n\r\n", at("a status that is none"), at("its reason"))).await;
    for host in [host.as_str(), "127.0.0.1:9", "169.254.169.254", "no-such-host.invalid"] {
        let url =
            format!("http://{}:{}@{host}/?q={}", at("user of a URL"), at("password of a URL"), at("query of a URL"));
        let entry = json!({"url": url, "listener_data": at("listener_data"), "required_data": [at("required_data")],
            "transaction_id": at("transaction_id of a registration")});
        let all = json!({"url": url.replace("?q", "?r"), "listener_data": [at("listener_data")]});
        let body = json!({"events_to_register": [{"event": "a", "urls_to_register": [entry, all]}]});
        api.is_answered(200, Method::POST, "/register_for_events/", &[], body).await;
    }
    (targets, babbling)
}

/// Posts events in every way that there is.
pub(super) async fn post_events(api: &User<'_>, at: &impl Fn(&str) -> String) {
    for target in ["/receive_event/a", "/v1/events/a"] {
        let data = json!({"secret": at("data of an event"), at("a key in the data"): 1, "deep": [{"x": at("deep data")}],
            "transaction_id": at("transaction_id")});
        let (key, parent) = (at("idempotency-key"), at("a traceparent of hexadecimal digits"));
        let headers = [("idempotency-key", key.as_str()), ("traceparent", parent.as_str())];
        let path = format!("{target}?token={}", at("query of a post"));
        // The second one is there already.
        for _ in 0..2 {
            let (status, answer) = api.ask(Method::POST, &path, &headers, &data).await;
            assert!(status < 300, "{status} {answer}");
        }
    }
    let url = format!(
        "https://u:{}@h/{}?{}",
        at("userinfo of redirect_url"),
        at("path of redirect_url"),
        at("query of redirect_url")
    );
    api.is_answered(302, Method::POST, "/receive_event/a", &[], json!({"redirect_url": url})).await;
    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "b", "subject": at("subject"), "dataschema": at("dataschema"),
            "secret": at("an extension"), "transactionid": at("transactionid"), "traceparent": format!("x {}", at("a traceparent that is none")),
            "data": {"secret": at("data of a CloudEvent")}})
    };
    api.is_answered(201, Method::POST, "/v1/events", &[CLOUD_EVENT], event("1")).await;
    api.is_answered(201, Method::POST, "/v1/events", &[BATCH], json!([event("2"), event("3")])).await;
    api.is_answered(201, Method::POST, "/v1/events", &[NDJSON], format!("{}\n{}\n", event("4"), event("5"))).await;
    let (extension, subject, media) =
        (at("ce-secret"), at("ce-subject"), format!("text/plain; x={}", at("a media type's parameter")));
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "6"),
        ("ce-source", "/s"),
        ("ce-type", "b"),
        ("ce-secret", extension.as_str()),
        ("ce-subject", &subject),
        ("content-type", &media),
    ];
    api.is_answered(201, Method::POST, "/v1/events", &headers, at("a body of any kind")).await;
}

/// Publishes as any NATS client may.
pub(super) async fn publish_plainly(client: &async_nats::Client, at: &impl Fn(&str) -> String) {
    for subject in ["events.plain", "events.mer.not_one", "events.a/b"] {
        let mut headers = async_nats::HeaderMap::new();
        for name in ["Authorization", "ce-secret", "ce-time", "traceparent", "tracestate", "content-type", "X-Secret"] {
            headers.insert(name, at(&format!("{name} of a plain message")).as_str());
        }
        let data = json!({"secret": at("a plain message's data")}).to_string();
        client.publish_with_headers(subject, headers, data.into()).await.unwrap();
    }
    client.flush().await.unwrap();
}

/// Has the targets answer in every way that there is, with secrets.
pub(super) async fn deliver(api: &User<'_>, at: &impl Fn(&str) -> String, targets: &[Target]) {
    let answers = |status: u16| {
        let headers = vec![
            ("set-cookie", at("a cookie of a target")),
            ("x-secret", at("a header of a target")),
            ("retry-after", at("retry-after of a target")),
            ("resume-after", at("resume-after of a target")),
            ("location", format!("http://u:{}@h/?{}", at("location of a target"), at("location of a target"))),
        ];
        Answer::Whole(status, headers, at("what a target answers"))
    };
    for target in targets {
        eventually("what was posted and published arrives", LONG, || target.taken().len() >= POSTED).await;
    }
    // The first one goes on whatever it answers: what it does not take dies.
    let first = &targets[0];
    for status in [200, 500, 302, 409, 429, 400, 410] {
        targets.iter().for_each(|target| target.answer(answers(status)));
        let before = first.received().len();
        let data = json!({"secret": at("data of an event")});
        api.is_answered(200, Method::POST, "/receive_event/a", &[], data).await;
        eventually("it is tried", LONG, || first.received().len() > before).await;
    }
    let all = async || api.ask(Method::GET, "/v1/subscriptions", &[], "").await.1;
    eventually_async("it is gone", LONG, async || all().await.contains("\"gone\"")).await;
}

/// Writes into the buckets what nobody else would.
pub(super) async fn write_nonsense(client: &async_nats::Client, at: &impl Fn(&str) -> String) {
    let context = async_nats::jetstream::new(client.clone());
    let bucket = context.get_key_value("SUBSCRIPTIONS").await.unwrap();
    for (n, field) in ["url", "entries", "delivery", "secrets"].into_iter().enumerate() {
        let mut value = json!({"url": "http://h/", "entries": {}});
        value[field] = at(&format!("nonsense in the bucket: {field}")).into();
        bucket.put(format!("h_{n:016x}"), value.to_string().into()).await.unwrap();
    }
}
