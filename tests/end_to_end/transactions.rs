//! Transactions whose ids a sender made, which look like moments: they are found wherever the sender's clock stands.

use std::time::Duration;

use domain::Stamp;
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};
use tokio::time::sleep;

use crate::{SOON, mer_on};

const HOUR_MICROS: i64 = 3_600_000_000;
/// A little more than by how much a stamp may be ahead of NATS' clock.
const AHEAD_MICROS: i64 = 6_000_000;
/// Long enough for a look-up by that stamp to begin behind an event that was stored before.
const UNTIL_THE_NEXT: Duration = Duration::from_millis(1_500);

async fn sequences_of(api: &Api, id: &str) -> Vec<u64> {
    let page = api.get(&format!("/v1/events?transaction_id={id}")).await;
    page["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_id_that_looks_like_a_moment_is_not_believed_to_be_one() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    api.post_event("other", &json!({})).await;
    let now = Stamp::now();
    let ids = [
        "20991231000000.000000".to_owned(),
        now.plus_micros(3 * HOUR_MICROS).to_string(),
        now.plus_micros(-3 * HOUR_MICROS).to_string(),
        now.plus_micros(AHEAD_MICROS).to_string(),
    ];
    let mut firsts = Vec::new();
    for id in &ids {
        firsts.push(api.post_event("a", &json!({"transaction_id": id, "doc": "x"})).await.sequence);
    }
    sleep(UNTIL_THE_NEXT).await;
    for (id, first) in ids.iter().zip(firsts) {
        let next = api.post_event("b", &json!({"transaction_id": id})).await.sequence;
        assert_eq!(sequences_of(&api, id).await, [first, next], "{id}");

        let target = Target::start().await;
        api.register(&target.url("/"), &["a", "b"], &json!({"transaction_id": id})).await;
        eventually("the transaction arrives", SOON, || target.taken() == [first, next]).await;

        let lacking = Target::start().await;
        let attributes = json!({"transaction_id": id, "required_data": ["doc"]});
        api.register(&lacking.url("/"), &["b"], &attributes).await;
        eventually("what it lacks is filled in", SOON, || lacking.taken() == [next]).await;
        let body: Value = serde_json::from_str(&lacking.received()[0].body).unwrap();
        assert_eq!(body["doc"], "x", "{id}");
    }
}

#[tokio::test]
async fn a_transaction_that_mer_began_is_found_from_its_first_event_on() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    api.post_event("a", &json!({})).await;
    let first = api.post_event("a", &json!({"n": 1})).await;
    api.post_event("a", &json!({})).await;
    let next = api.post_event("a", &json!({"n": 2, "transaction_id": first.stamp})).await;
    assert_eq!(sequences_of(&api, &first.stamp).await, [first.sequence, next.sequence]);
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({"transaction_id": first.stamp})).await;
    eventually("both arrive", SOON, || target.taken() == [first.sequence, next.sequence]).await;
}
