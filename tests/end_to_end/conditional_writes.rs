//! `Expected-Last-Sequence` together with what makes an event the same one when it is sent again.
//!
//! The tests of this file also tell when another version of nats-server compares an expected id of the last message before
//! it looks for the message's own: see `known_sequence` in the broker.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Cluster, Mer, Nats};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{MER, mer_on};

const STRUCTURED: &str = "application/cloudevents+json";
/// How long nats-server does nothing: longer than an attempt with a key waits, and shorter than the whole call.
const LONGER_THAN_AN_ATTEMPT: Duration = Duration::from_millis(2_200);
/// How many keys, or types, are used at once on a cluster, and by how many senders each.
const ROUNDS: usize = 60;
const SENDERS: usize = 3;

/// What is answered to an event that is stored only behind this sequence of its type.
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn sequence(&self) -> u64 {
        self.body["events"][0]["sequence"].as_u64().unwrap_or_else(|| panic!("{}: {}", self.status, self.body))
    }
}

async fn send(api: &Api, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let response = api.send(Method::POST, path, headers, body.to_string()).await.unwrap();
    Answer { status: response.status().as_u16(), body: response.json().await.unwrap() }
}

async fn with_key(api: &Api, event_type: &str, key: &str, last: &str) -> Answer {
    let headers = [("idempotency-key", key), ("expected-last-sequence", last)];
    send(api, &format!("/v1/events/{event_type}"), &headers, &json!({"key": key})).await
}

#[tokio::test]
async fn an_event_that_is_stored_is_answered_again_though_its_condition_does_not_hold_any_more() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let first = with_key(&api, "c", "k7", "0").await;
    assert_eq!((first.status, first.sequence()), (201, 1));
    let again = with_key(&api, "c", "k7", "0").await;
    assert_eq!((again.status, again.sequence()), (201, 1), "{}", again.body);
    assert_eq!(again.body["events"][0]["id"], first.body["events"][0]["id"]);
    let other = with_key(&api, "c", "k8", "0").await;
    assert_eq!(other.status, 412, "another event: {}", other.body);
    assert_eq!(other.body["last_sequence"], 1);
    let headers = [("expected-last-sequence", "7")];
    let refused = api.send(Method::POST, "/receive_event/c", &headers, "{}").await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["event-last-sequence"]), (412, &"1".parse().unwrap()));
    assert_eq!(with_key(&api, "c", "k8", "1").await.sequence(), 2);
    assert_eq!(with_key(&api, "c", "k7", "0").await.sequence(), 1, "others have come since");

    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "d", "data": 1});
    let headers = [("content-type", STRUCTURED), ("expected-last-sequence", "0")];
    for _ in 0..2 {
        let stored = send(&api, "/v1/events", &headers, &event).await;
        assert_eq!((stored.status, stored.sequence()), (201, 3), "{}", stored.body);
    }
    let mut other = event;
    other["id"] = "2".into();
    assert_eq!(send(&api, "/v1/events", &headers, &other).await.status, 412);
    assert_eq!(api.post_event("e", &json!({})).await.sequence, 4, "nothing was stored twice, or to find out");
}

#[tokio::test]
async fn the_original_call_takes_the_condition_too() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for (path, last, status) in [
        ("/receive_event/d", "0", 200),
        ("/receive_event/d", "0", 412),
        ("/receive_event/d/", "1", 200),
        ("/receive_event/d", "x", 422),
    ] {
        let answer = send(&api, path, &[("expected-last-sequence", last)], &json!({})).await;
        assert_eq!(answer.status, status, "{path} {last}: {}", answer.body);
    }
    assert_eq!(api.post_event("e", &json!({})).await.sequence, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_acknowledgement_is_late_is_not_answered_with_412() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    nats.freeze();
    let posting = {
        let api = api.clone();
        let mut posting = JoinSet::new();
        posting.spawn(async move { with_key(&api, "c", "k", "0").await });
        posting
    };
    sleep(LONGER_THAN_AN_ATTEMPT).await;
    nats.thaw();
    let [answer] = &posting.join_all().await[..] else { panic!("one answer") };
    assert_eq!((answer.status, answer.sequence()), (201, 1), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_each_is_told_what_became_of_it_though_others_send_the_same() {
    let cluster = Cluster::start().await;
    let mer = Mer::new(MER).set("MER_NATS_URL", cluster.urls()).set("MER_REPLICAS", 3).start().await;
    let api = mer.api();
    for round in 0..ROUNDS {
        let (mut same_key, mut same_type) = (JoinSet::new(), JoinSet::new());
        for sender in 0..SENDERS {
            let (one, other) = (api.clone(), api.clone());
            same_key.spawn(async move {
                let key = format!("k{round}");
                send(&one, "/v1/events/a", &[("idempotency-key", &key)], &json!(sender)).await
            });
            same_type.spawn(async move {
                let path = format!("/v1/events/b.{round}");
                send(&other, &path, &[("expected-last-sequence", "0")], &json!(sender)).await
            });
        }
        let same_key: Vec<(u16, u64)> =
            same_key.join_all().await.iter().map(|answer| (answer.status, answer.sequence())).collect();
        assert!(same_key.iter().all(|answer| *answer == (201, same_key[0].1)), "{same_key:?}");

        let (stored, refused): (Vec<_>, Vec<_>) =
            same_type.join_all().await.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(stored.len(), 1, "one of them is the first: {:?}", refused[0].body);
        for answer in refused {
            assert_eq!(answer.status, 412, "{}", answer.body);
            let named = format!("has sequence {} ", stored[0].sequence());
            assert!(answer.body["detail"].as_str().unwrap().contains(&named), "{named}: {}", answer.body);
        }
    }
}
