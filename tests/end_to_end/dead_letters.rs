//! An event that a target does not take is kept aside, once, and the next ones arrive; it can be delivered again.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Api, Mer, Nats, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

/// Subscribes a target to `a`, to give up an event after so many attempts. Answers with the subscription's id.
async fn subscribe(api: &Api, target: &Target, max_attempts: u32) -> String {
    let delivery = json!({"max_attempts": max_attempts, "on_exhausted": "dead_letter"});
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}], "delivery": delivery});
    let response = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(response.status(), 201);
    let subscription: Value = response.json().await.unwrap();
    subscription["id"].as_str().unwrap().to_owned()
}

async fn post(api: &Api, count: u64) {
    for n in 1..=count {
        api.post_event("a", &json!({"n": n})).await;
    }
}

async fn letters(api: &Api, query: &str) -> Vec<Value> {
    api.get(&format!("/v1/dead-letters{query}")).await["dead_letters"].as_array().unwrap().clone()
}

async fn status(api: &Api, target: &Target) -> Value {
    api.subscription(&target.url("/")).await["status"].clone()
}

/// Asks for dead letters to be delivered again. Answers with status and body.
async fn redrive(api: &Api, body: &Value) -> (u16, Value) {
    let response = api.post("/v1/dead-letters/redrive", body).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

fn said(mer: &Mer, arguments: &[&str]) -> String {
    let output = Command::new(MER).args(arguments).env_clear().env("MER_URL", mer.url()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_event_is_kept_aside_and_delivered_again_after_healing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let (sick, well) = (Target::start().await, Target::start().await);
    let id = subscribe(&api, &sick, 3).await;
    api.register(&well.url("/"), &["a"], &json!({})).await;
    sick.answer(Answer::StatusTo(vec![2, 4], 500));
    post(&api, 5).await;
    eventually("the others arrive in order", SOON, || sick.taken() == [1, 3, 5]).await;
    eventually("the neighbour gets all", SOON, || well.taken() == [1, 2, 3, 4, 5]).await;
    let tried = sick.received().iter().filter(|received| received.sequence == 2).count();
    assert_eq!(tried, 3);
    let third = sick.received().into_iter().find(|received| received.sequence == 3).unwrap();
    assert_eq!(third.headers["ce-previoussequence"], "00000000000000000001", "what was delivered before it");

    let all = letters(&api, "").await;
    assert_eq!(all.len(), 2, "{all:?}");
    let letter = &all[0];
    assert_eq!((letter["sequence"].as_u64(), letter["subscription"].as_str()), (Some(1), Some(&*id)));
    assert_eq!((letter["url"].as_str(), letter["attempts"].as_u64()), (Some(&*sick.url("/")), Some(3)));
    assert_eq!((letter["code"].as_u64(), letter["error"].as_str()), (Some(500), Some("answered 500")));
    assert_eq!(letter["event"], api.get("/v1/events/2").await);
    let counted = async || {
        let status = status(&api, &sick).await;
        let progress =
            json!({"delivered": 3, "skipped": 0, "dead_lettered": 2, "completed": false, "from_sequence": 1});
        status["state"] == "active" && status["lag"] == 0 && status["events"]["a"] == progress
    };
    eventually_async("they are counted", SOON, counted).await;

    // Filters.
    let at = all[1]["at"].as_str().unwrap();
    for (query, found) in [
        (format!("?subscription={id}"), 2),
        ("?subscription=another".to_owned(), 0),
        ("?type=a".to_owned(), 2),
        ("?type=b.*".to_owned(), 0),
        ("?after=1".to_owned(), 1),
        (format!("?from={at}"), 1),
        (format!("?to={at}"), 2),
        ("?to=20200101000000.0".to_owned(), 0),
    ] {
        assert_eq!(letters(&api, &query).await.len(), found, "{query}");
    }
    let page = api.get("/v1/dead-letters?limit=1").await;
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), page["next"].as_u64()), (1, Some(1)));
    assert_eq!(api.status("/v1/dead-letters?limit=0&x=1").await, Some(422));

    // One of them is still not taken: it is another dead letter then.
    sick.answer(Answer::StatusTo(vec![4], 503));
    let (code, body) = redrive(&api, &json!({"subscription": id, "sequences": [1, 2]})).await;
    assert_eq!((code, body["status"]["replay"]["total"].as_u64()), (202, Some(3)), "{body}");
    eventually("the healed one arrives", SOON, || sick.taken() == [1, 3, 5, 2]).await;
    let third = async || letters(&api, "?after=2").await;
    eventually_async("the other one dies again", SOON, async || third().await.len() == 1).await;
    assert_eq!((&third().await[0]["event"]["sequence"], &third().await[0]["code"]), (&json!(4), &json!(503)));
    let again = sick.received().into_iter().rfind(|received| received.sequence == 2).unwrap();
    assert_eq!(again.headers["ce-replay"], "false", "it is from after the registration");
    assert_eq!(again.headers["ce-redelivery"], body["status"]["replay"]["id"].as_str().unwrap());
    sick.answer(Answer::Status(200));
    assert!(said(&mer, &["dead", "ls", "--subscription", &sick.url("/")]).contains("event 4 a  attempts 3"));
    assert!(said(&mer, &["dead", "show", "3"]).contains("\"code\": 503"));
    said(&mer, &["dead", "redrive", &sick.url("/"), "3"]);
    assert_eq!(sick.taken(), [1, 3, 5, 2, 4]);
    post(&api, 1).await;
    eventually("deliveries go on", SOON, || sick.taken() == [1, 3, 5, 2, 4, 6]).await;
    eventually("the neighbour has had each once", SOON, || well.taken() == [1, 2, 3, 4, 5, 6]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_again_is_refused() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let id = subscribe(&api, &target, 1).await;
    target.answer(Answer::StatusTo(vec![1], 500));
    post(&api, 2).await;
    eventually("the next one arrives", SOON, || target.taken() == [2]).await;
    let code = async |body: Value| redrive(&api, &body).await.0;
    assert_eq!(code(json!({"subscription": "nobody", "sequences": [1]})).await, 404);
    assert_eq!(code(json!({"subscription": id, "sequences": [2]})).await, 422);
    assert_eq!(code(json!({"subscription": id, "from": "20400101000000.0"})).await, 422);
    assert_eq!(code(json!({"subscription": id})).await, 422);
    // Nobody wants it any more.
    let change = async |events: Value| {
        let body = json!({ "events": events }).to_string();
        let path = format!("/v1/subscriptions/{id}");
        assert_eq!(api.send(Method::PATCH, &path, &[], body).await.unwrap().status(), 200);
    };
    change(json!([{"type": "b"}])).await;
    assert_eq!(code(json!({"subscription": id, "sequences": [1]})).await, 422);
    change(json!([{"type": "b", "count": 1}])).await;
    api.post_event("b", &json!({})).await;
    eventually_async("it is completed", SOON, async || status(&api, &target).await["state"] == "completed").await;
    assert_eq!(code(json!({"subscription": id, "sequences": [1]})).await, 409);
    api.send(Method::DELETE, &format!("/v1/subscriptions/{id}"), &[], "").await.unwrap();
    let left = letters(&api, "").await;
    assert_eq!((left.len(), left[0].get("url")), (1, None), "it outlives its subscription");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_redrives_in_a_row_are_both_carried_out() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let id = subscribe(&api, &target, 1).await;
    target.answer(Answer::StatusTo(vec![1, 2, 3], 500));
    post(&api, 4).await;
    eventually("the fourth arrives", SOON, || target.taken() == [4]).await;
    target.answer(Answer::Status(200));
    let pause = format!("/v1/subscriptions/{id}/pause");
    api.send(Method::POST, &pause, &[], "").await.unwrap();
    for sequences in [[1], [3]] {
        let (code, body) = redrive(&api, &json!({"subscription": id, "sequences": sequences})).await;
        assert_eq!(code, 202, "{body}");
    }
    let resume = format!("/v1/subscriptions/{id}/resume");
    api.send(Method::POST, &resume, &[], "").await.unwrap();
    eventually("both arrive", SOON, || target.taken() == [4, 1, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mer_that_is_killed_leaves_one_dead_letter_of_each_event() {
    const EVENTS: u64 = 120;
    let nats = Nats::start();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LEASE_SECS", "2").start().await;
    let api = mer.api();
    let target = Target::start().await;
    subscribe(&api, &target, 2).await;
    let poison: Vec<u64> = (1..=EVENTS).filter(|n| n % 3 != 0).collect();
    target.answer(Answer::StatusTo(poison.clone(), 500));
    post(&api, EVENTS).await;
    for round in 1..=4 {
        let some = 15 * round;
        eventually("it goes on", LONG, || target.received().len() > some * 3).await;
        // Wherever it is just now.
        tokio::time::sleep(Duration::from_millis(7 * some as u64 % 50)).await;
        mer.kill();
        mer.launch();
    }
    mer.until_ready().await;
    let last = EVENTS;
    eventually("the last one arrives", LONG, || target.taken().last() == Some(&last)).await;
    let died: Vec<u64> =
        letters(&api, "?limit=1000").await.iter().map(|l| l["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(died, poison, "one of each, in order");
    let mut taken = target.taken();
    taken.dedup();
    assert_eq!(taken, (1..=EVENTS).filter(|n| n % 3 == 0).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_was_stored_just_before_a_crash_is_not_written_again_nor_is_the_target_tried() {
    let nats = Nats::start();
    let mut mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).set("MER_LEASE_SECS", "2").start().await;
    let api = mer.api();
    let target = Target::start().await;
    let context = async_nats::jetstream::new(nats.client().await);
    let mut config = context.get_stream("DEAD_LETTERS").await.unwrap().cached_info().config.clone();
    (config.max_messages, config.discard) = (1, async_nats::jetstream::stream::DiscardPolicy::New);
    context.update_stream(config.clone()).await.unwrap();
    let id = subscribe(&api, &target, 2).await;
    target.answer(Answer::StatusTo(vec![1, 2], 500));
    post(&api, 3).await;
    // There is room for one: the second event is held.
    let refusals = || mer.log().matches("dead_letter.not_written").count();
    eventually("the letter is refused again and again", SOON, || refusals() >= 3).await;
    let times = |sequence: u64| target.received().iter().filter(|received| received.sequence == sequence).count();
    assert_eq!((times(1), times(2), times(3)), (2, 2, 0), "only the letter is tried again");
    assert_eq!(status(&api, &target).await["state"], "held");
    mer.kill();
    // As if it had been stored and mer had died on the acknowledgement, longer ago than the server knows duplicates for.
    (config.max_messages, config.duplicate_window) = (-1, Duration::from_millis(100));
    context.update_stream(config).await.unwrap();
    let name = nats.value("LANES", &target.url("/")).await["failure"]["letter"].as_str().unwrap().to_owned();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("{id}.2.{name}").as_str());
    let stored = context.publish_with_headers(format!("dead_letters.{id}"), headers, "".into()).await.unwrap();
    assert_eq!(stored.await.unwrap().sequence, 2);
    mer.launch();
    mer.until_ready().await;
    eventually("the next one arrives", SOON, || target.taken() == [3]).await;
    assert_eq!((times(1), times(2)), (2, 2));
    let stream = context.get_stream("DEAD_LETTERS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 2);
}

#[tokio::test]
async fn a_dead_letter_is_removed_and_its_event_stays() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (api, target) = (mer.api(), Target::start().await);
    subscribe(&api, &target, 1).await;
    target.answer(Answer::Status(500));
    post(&api, 3).await;
    eventually_async("they are dead letters", SOON, async || letters(&api, "").await.len() == 3).await;
    let remove = async |sequence: &str| {
        let path = format!("/v1/dead-letters/{sequence}");
        api.send(Method::DELETE, &path, &[], "").await.unwrap().status().as_u16()
    };
    assert_eq!(remove("2").await, 204);
    for (sequence, status) in [("2", 404), ("9", 404), ("0", 422), ("x", 422)] {
        assert_eq!(remove(sequence).await, status, "{sequence}");
    }
    let left: Vec<u64> = letters(&api, "").await.iter().map(|letter| letter["sequence"].as_u64().unwrap()).collect();
    assert_eq!(left, [1, 3]);
    assert_eq!(api.status("/v1/events/2").await, Some(200));
    assert_eq!(said(&mer, &["dead", "rm", "1", "3"]), "removed 1\nremoved 3\n");
    assert!(letters(&api, "").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_hides_no_dead_letter() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (api, target) = (mer.api(), Target::start().await);
    let id = subscribe(&api, &target, 1).await;
    target.answer(Answer::Status(500));
    post(&api, 2).await;
    eventually_async("two have died", SOON, async || letters(&api, "").await.len() == 2).await;
    let mut unreadable = Vec::new();
    // On the second one the client library panics.
    for block in [&b"NATS/1.0\r\nX: \xe9\r\n\r\n"[..], &b"NATS/1.0\r\nX: a\rb\r\n\r\n"[..]] {
        unreadable.push(nats.store_raw(format!("dead_letters.{id}"), block, b"{}"));
    }
    post(&api, 1).await;
    let sequences = async |query: &str| {
        let answer = api.send(Method::GET, &format!("/v1/dead-letters{query}"), &[], "").await.unwrap();
        if answer.status() != 200 {
            return json!(answer.status().as_u16());
        }
        let page: Value = answer.json().await.unwrap();
        let shown = page["dead_letters"].as_array().unwrap().iter().map(|letter| letter["sequence"].clone());
        json!({"shown": shown.collect::<Vec<_>>(), "unreadable": page["unreadable"], "next": page["next"]})
    };
    let all = json!({"shown": [1, 2, 5], "unreadable": unreadable, "next": null});
    eventually_async("the others are shown", LONG, async || sequences("").await == all).await;
    assert_eq!(sequences(&format!("?subscription={id}")).await, all);
    assert_eq!(sequences("?limit=2").await, json!({"shown": [1, 2], "unreadable": unreadable, "next": 4}));
    assert_eq!(sequences("?after=4").await, json!({"shown": [5], "unreadable": null, "next": null}));
    let told = |sequence: u64| {
        let log = mer.log();
        let lines = log.lines().filter(|line| line.contains("dead_letters.unreadable_message_passed_over"));
        lines.filter(|line| line.contains(&format!("sequence={sequence} "))).count()
    };
    assert_eq!((told(3), told(4)), (1, 1), "each is told once");
    assert!(said(&mer, &["dead", "ls"]).lines().count() >= 3);

    target.answer(Answer::Status(200));
    let (code, body) = redrive(&api, &json!({"subscription": id, "sequences": [1, 2, 3, 4, 5]})).await;
    assert_eq!((code, &body["redriven"]), (202, &json!(3)), "{body}");
    eventually("all arrive", SOON, || target.taken() == [1, 2, 3]).await;
    for sequence in unreadable {
        said(&mer, &["dead", "rm", &sequence.to_string()]);
    }
    assert_eq!(sequences("").await, json!({"shown": [1, 2, 5], "unreadable": null, "next": null}));
}
