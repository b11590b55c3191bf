//! What a program reads in mer's log.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tests::{Answer, Mer, Nats, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LEVELS: &str = "info,receiver=debug,dispatcher=debug";

/// The lines with this message, each of which must be an object.
fn lines(mer: &Mer, message: &str) -> Vec<Value> {
    let log = mer.log();
    // The last line may be half there.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parsed = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    parsed.filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn as_json_each_line_is_an_event_with_its_id_and_trace() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LOG_FORMAT", "json").set("MER_LOG", LEVELS);
    let mer = mer.start().await;
    let target = Target::start().await;
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": {"max_attempts": 2, "on_exhausted": "dead_letter"}});
    let made = mer.api().send(reqwest::Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(made.status(), 201);
    target.answer(Answer::StatusTo(vec![2], 500));
    let post = async |headers: &[(&str, &str)]| {
        let event = mer.api().send(reqwest::Method::POST, "/receive_event/a", headers, "{}").await.unwrap();
        event.headers()["event-id"].to_str().unwrap().to_owned()
    };
    let ids = [post(&[]).await, post(&[("traceparent", TRACEPARENT)]).await];
    let structured =
        json!({"specversion": "1.0", "id": "n\u{e4}me", "source": "/s", "type": "a", "traceparent": TRACEPARENT});
    let headers = [("content-type", "application/cloudevents+json")];
    let event = mer.api().send(reqwest::Method::POST, "/v1/events", &headers, structured.to_string()).await.unwrap();
    assert_eq!(event.status(), 201);
    eventually("the third arrives", LONG, || target.taken() == [1, 3]).await;
    eventually("that is logged", SOON, || lines(&mer, "delivery.attempted").len() == 4).await;

    let told = |line: &Value| (line["sequence"].clone(), line["event_id"].clone(), line["trace_id"].clone());
    let expected = [
        (json!(1), json!(ids[0]), Value::Null),
        (json!(2), json!(ids[1]), json!(TRACE)),
        (json!(3), json!("n%C3%A4me"), json!(TRACE)),
    ];
    let stored: Vec<_> = lines(&mer, "event.stored").iter().map(told).collect();
    assert_eq!(stored, expected);
    let attempted: Vec<_> = lines(&mer, "delivery.attempted").iter().map(told).collect();
    assert_eq!(attempted, [&expected[0], &expected[1], &expected[1], &expected[2]].map(Clone::clone));
    let buried: Vec<_> = lines(&mer, "dead_letter.written").iter().map(told).collect();
    assert_eq!(buried, expected[1..2]);
    for line in lines(&mer, "delivery.attempted") {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["id"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn as_text_they_are_there_too() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LOG", LEVELS).start().await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    let headers = [("traceparent", TRACEPARENT)];
    let event = mer.api().send(reqwest::Method::POST, "/receive_event/a", &headers, "{}").await.unwrap();
    let id = event.headers()["event-id"].to_str().unwrap();
    for message in ["event.stored", "delivery.attempted"] {
        let says = |line: &str| {
            line.contains(message)
                && line.contains(&format!("event_id=\"{id}\""))
                && line.contains(&format!("trace_id=\"{TRACE}\""))
        };
        eventually(message, SOON, || mer.log().lines().any(says)).await;
    }
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_logged() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({})).await;
    mer.api().post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken_count() == 1).await;
    assert!(mer.log().contains("subscription.registered") && !mer.log().contains("event.stored"));
}

/// A server that does not answer for a while is told, and not each time that it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lasts_is_told_when_it_begins_and_ends() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let context = async_nats::jetstream::new(nats.client().await);
    let leases = context.get_key_value("LEASES").await.unwrap();
    let is_written = async || {
        let keys: Vec<String> = leases.keys().await.unwrap().try_collect().await.unwrap();
        keys.iter().any(|key| key.starts_with("probe."))
    };
    eventually_async("a probe is written", SOON, is_written).await;
    nats.freeze();
    // Several probes, renewals and looks at the bucket, and not so long that the connection ends.
    tokio::time::sleep(Duration::from_secs(15)).await;
    nats.thaw();
    let told = |name: &str| mer.log().lines().filter(|line| line.contains(name)).count();
    eventually("it works again", LONG, || told("nats.probe_written") == 1 && told("ownership.renews_again") == 1).await;
    assert_eq!(told("nats.probe_failed"), 1, "{}", mer.log());
    // Looks at the bucket, renewals and single keys fail, each for a reason or two: each reason is told once.
    let log = mer.log();
    let reasons: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("ownership.interrupted")).map(|(_, why)| why).collect();
    let different: BTreeSet<&str> = reasons.iter().copied().collect();
    assert!(!reasons.is_empty() && reasons.len() == different.len(), "{log}");
}
