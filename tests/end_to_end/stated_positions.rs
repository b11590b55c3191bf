//! A replica that keeps its position says so when it registers, and gets what comes behind it.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually, eventually_async};

use crate::gaps::remove_before;
use crate::{SOON, mer_on};

async fn put(api: &Api, body: &Value) -> (u16, Value) {
    let response = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// What came, each with what it says to have come before.
fn came(target: &Target) -> Vec<(u64, u64)> {
    let previous =
        |headers: &std::collections::BTreeMap<String, String>| headers["ce-previoussequence"].parse().unwrap();
    target.received().iter().map(|received| (received.sequence, previous(&received.headers))).collect()
}

fn pointer(problem: &Value) -> &str {
    problem["errors"][0]["pointer"].as_str().unwrap()
}

#[tokio::test]
async fn a_url_that_was_removed_meanwhile_misses_nothing_when_it_states_its_position() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (stating, silent) = (Target::start().await, Target::start().await);
    for target in [&stating, &silent] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    api.post_event("a", &json!({})).await;
    for target in [&stating, &silent] {
        eventually("the first arrives", SOON, || target.taken() == [1]).await;
        api.unregister(&target.url("/"), "a").await;
        let is_gone = async || nats.value("LANES", &target.url("/")).await.is_null();
        eventually_async("the lane is cleared away", SOON, is_gone).await;
    }
    api.post_event("a", &json!({})).await;
    let answer = api.register(&stating.url("/"), &["a"], &json!({"start_after": 1})).await;
    let expected = json!({"registered_for_retro_event_retrieval": {"a": {stating.url("/"): {"start_after": 1}}}});
    assert_eq!(answer, expected);
    api.register(&silent.url("/"), &["a"], &json!({})).await;
    let begins = async |target: &Target| {
        let subscription = api.subscription(&target.url("/")).await;
        (subscription["status"]["events"]["a"]["from_sequence"].clone(), subscription["events"][0]["start"].clone())
    };
    assert_eq!(begins(&stating).await, (json!(2), json!({"after": 1})));
    assert_eq!(begins(&silent).await, (json!(3), Value::Null), "a replica that has had 1 sees that 2 is missing");
    api.post_event("a", &json!({})).await;
    eventually("what it lacks arrives", SOON, || stating.taken() == [1, 2, 3]).await;
    assert_eq!(came(&stating)[1..], [(2, 1), (3, 2)], "each names the one before");
    eventually("the other goes on with what comes", SOON, || silent.taken() == [1, 3]).await;
}

#[tokio::test]
async fn each_statement_puts_the_url_there_back_or_forth() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    for _ in 0..3 {
        api.post_event("a", &json!({})).await;
        api.post_event("b", &json!({})).await;
    }
    let at = |position: u64| json!({"url": target.url("/"), "start": {"after": position}, "events": [{"type": "a"}, {"type": "b"}]});
    let mut expected = Vec::new();
    // The same words twice; back; forth, while it is at rest.
    for position in [4, 4, 2, 5] {
        let (status, answer) = put(&api, &at(position)).await;
        assert!(status == 200 || status == 201, "{answer}");
        expected.extend((position + 1..=6).map(|sequence| (sequence, sequence - 1)));
        eventually("it gets what is behind that", SOON, || came(&target).len() >= expected.len()).await;
        assert_eq!(came(&target), expected);
    }
    // At the end of the log nothing comes, and the next one names it.
    assert_eq!(put(&api, &at(6)).await.0, 200);
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/subscriptions/{id}");
    let patched = api.send(Method::PATCH, &path, &[], json!({"start": {"after": 5}}).to_string()).await.unwrap();
    assert_eq!(patched.status(), 200);
    expected.push((6, 5));
    eventually("PATCH puts all there", SOON, || came(&target) == expected).await;
    // One of two: the other goes on.
    let one = json!({"url": target.url("/"), "events": [{"type": "a", "start": {"after": 0}}, {"type": "b", "start": {"after": 6}}]});
    assert_eq!(put(&api, &one).await.0, 200);
    eventually("a comes from there", SOON, || target.taken().ends_with(&[1, 3, 5])).await;

    for (body, at) in [
        (at(7), "/start"),
        (json!({"url": target.url("/"), "events": [{"type": "a", "start": {"after": 7}}]}), "/events/0/start"),
    ] {
        let (status, problem) = put(&api, &body).await;
        assert_eq!((status, pointer(&problem)), (422, at), "the log ends before it: {problem}");
    }
}

#[tokio::test]
async fn a_position_that_the_log_reaches_no_longer_is_refused() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    for _ in 0..5 {
        api.post_event("a", &json!({})).await;
    }
    remove_before(&nats, 4).await;
    let stating = |position: u64, allow_gap: bool| {
        let event = json!({"type": "a", "start": {"after": position}, "allow_gap": allow_gap});
        json!({"url": target.url("/"), "events": [event]})
    };
    let (status, problem) = put(&api, &stating(2, false)).await;
    assert_eq!((status, pointer(&problem)), (422, "/events/0/start"));
    assert!(problem.to_string().contains("oldest event there is has sequence 4"), "{problem}");
    let registration = json!({"events_to_register": [{"event": "a", "urls_to_register": [{"url": target.url("/"), "start_after": 2}]}]});
    assert_eq!(api.post("/register_for_events/", &registration).await.status(), 422);
    assert_eq!(put(&api, &stating(3, false)).await.0, 201, "nothing is missing behind 3");
    eventually("the rest arrives", SOON, || target.taken() == [4, 5]).await;
    assert_eq!(put(&api, &stating(2, true)).await.0, 200);
    eventually("what is left arrives", SOON, || target.taken() == [4, 5, 4, 5]).await;
}
