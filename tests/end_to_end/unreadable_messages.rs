//! Messages of plain NATS clients on which the client library ends its connection, or panics: they are passed over, nothing
//! else is.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::target::first_deliveries;
use tests::{Answer, Api, Mer, Nats, Posted, Target, eventually, eventually_async};

use crate::{LONG, SOON, mer_on};

/// Headers in Latin-1.
const LATIN_1: &[u8] = b"NATS/1.0\r\nX: \xe9\r\n\r\n";
/// A carriage return that ends no line. On this one the client library panics.
const LONE_CARRIAGE_RETURN: &[u8] = b"NATS/1.0\r\nX: a\rb\r\n\r\n";
/// Other things that are no headers, or that nobody can read.
const REFUSED: [&[u8]; 5] = [
    LONE_CARRIAGE_RETURN,
    b"NATS/1.0\r\nno colon\r\n\r\n",
    "NATS/1.0\r\n\u{e9}: x\r\n\r\n".as_bytes(),
    b"NATS/1.0\r\na name: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
];

/// How many events lie before the unreadable messages, so that a lane that begins there reads a consumer of its own.
const PAST: u64 = 1_200;

/// Stores that many events, and answers the first one's stamp.
async fn store_events(mer: &Mer, count: u64) -> String {
    let first = mer.api().post_event("a", &json!({})).await.stamp;
    for _ in 1..count {
        mer.api().post_event("a", &json!({})).await;
    }
    first
}

/// Posts an event as a sender does who tries again: a connection that is lost takes the acknowledgement with it.
async fn post(api: &Api, key: &str) -> Posted {
    let mut tries = 0..5;
    while tries.next().is_some() {
        if let Some(posted) = api.try_post_event_as(key, "a", &json!({})).await {
            return posted;
        }
    }
    panic!("posts are not accepted");
}

/// The lines of the log that tell of a message that was passed over.
fn told(mer: &Mer, sequence: u64) -> usize {
    let log = mer.log();
    let is_told = |line: &&str| line.contains("log.unreadable_message_passed_over");
    log.lines().filter(is_told).filter(|line| line.contains(&format!("sequence={sequence} "))).count()
}

#[tokio::test]
async fn urls_that_follow_the_log_get_what_comes_after_an_unreadable_message() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (api, target, late) = (mer.api(), Target::start().await, Target::start().await);
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let first = api.post_event("a", &json!({})).await;
    let mut good = vec![first.sequence];
    eventually("it follows", SOON, || first_deliveries(&target.taken()) == good).await;
    let unreadable = nats.store_raw("events.a", LATIN_1, b"{}");
    for number in 0..20 {
        good.push(post(&api, &format!("behind-{number}")).await.sequence);
    }
    eventually("those behind it come", LONG, || first_deliveries(&target.taken()) == good).await;
    // Close together, in a row, and of a type that nobody has asked for.
    for (number, block) in REFUSED.into_iter().enumerate() {
        nats.store_raw("events.a", block, b"{}");
        nats.store_raw("events.b", LATIN_1, b"{}");
        nats.store_raw(b"events.\xe9", b"NATS/1.0\r\n\r\n", b"{}");
        good.push(post(&api, &format!("between-{number}")).await.sequence);
    }
    eventually("all come, in order", LONG, || first_deliveries(&target.taken()) == good).await;
    api.register(&late.url("/"), &["a"], &json!({"datetime_start": first.stamp})).await;
    eventually("who begins in the past has them too", LONG, || first_deliveries(&late.taken()) == good).await;
    assert_eq!(told(&mer, unreadable), 1, "it is told once");
    assert!(mer.log().contains("subject=\"events.a\""));
}

#[tokio::test]
async fn urls_that_begin_in_the_past_come_past_unreadable_messages() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    // The first reads by itself, the others together.
    let (api, targets) = (mer.api(), [Target::start().await, Target::start().await, Target::start().await]);
    let first = store_events(&mer, PAST / 4).await;
    let mut good: Vec<u64> = (1..=PAST / 4).collect();
    for _ in 0..3 {
        nats.store_raw("events.a", LONE_CARRIAGE_RETURN, b"{}");
        nats.store_raw("events.a", LATIN_1, b"{}");
        let next = good.len() as u64;
        store_events(&mer, PAST / 4).await;
        let began = good.last().unwrap() + 3;
        good.extend(began..began + PAST / 4);
        assert_eq!(good.len() as u64, next + PAST / 4);
    }
    for target in &targets {
        let body = json!({"url": target.url("/"), "events": [{"type": "a", "datetime_start": first}]}).to_string();
        // Connections are lost on behalf of those before it.
        eventually_async("it is registered", LONG, async || {
            let made = api.send(Method::PUT, "/v1/subscriptions", &[], body.clone()).await.unwrap();
            [200, 201].contains(&made.status().as_u16())
        })
        .await;
    }
    eventually("some come", LONG, || targets[0].taken_count() > 200).await;
    good.push(post(&api, "meanwhile").await.sequence);
    for target in &targets {
        eventually("all come", LONG, || target.taken().last() == good.last()).await;
        // Where the answer to what a lane has written is lost with a connection, it may go back to what it had written before.
        assert_eq!(first_deliveries(&target.taken()), good);
    }
}

#[tokio::test]
async fn an_event_that_is_held_before_an_unreadable_message_is_not_lost() {
    a_held_event_is_not_lost(false).await;
}

#[tokio::test]
async fn an_event_that_is_held_before_an_unreadable_message_is_not_lost_where_others_read_the_same() {
    a_held_event_is_not_lost(true).await;
}

async fn a_held_event_is_not_lost(others_read_the_same: bool) {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let (api, target, other) = (mer.api(), Target::start().await, Target::start().await);
    let first = store_events(&mer, 40).await;
    let unreadable = nats.store_raw("events.a", LATIN_1, b"{}");
    store_events(&mer, PAST).await;
    if others_read_the_same {
        other.answer(Answer::Status(500));
        api.register(&other.url("/"), &["a"], &json!({"datetime_start": first})).await;
        eventually("it is being read", LONG, || !other.received().is_empty()).await;
    }
    target.answer(Answer::StatusTo(vec![7], 500));
    let body = json!({
        "url": target.url("/"),
        "events": [{"type": "a", "datetime_start": first}],
        "delivery": {"mode": "concurrent", "concurrency": 4},
    });
    let made = api.send(Method::PUT, "/v1/subscriptions", &[], body.to_string()).await.unwrap();
    assert_eq!(made.status(), 201);
    let taken = || target.taken().into_iter().collect::<BTreeSet<u64>>();
    eventually("all before it are tried", LONG, || taken().len() == 39).await;
    eventually("it is found", LONG, || told(&mer, unreadable) == 1).await;
    let tries = || target.received().iter().filter(|request| request.sequence == 7).count();
    let before = tries();
    eventually("it is tried again", LONG, || tries() >= before + 2).await;
    // Nobody can get past it now: what was read is not read again and again meanwhile.
    assert!(mer.log().matches("lane.reads_again").count() < 3);
    target.answer(Answer::Status(200));
    let good: BTreeSet<u64> = (1..=40 + PAST + 1).filter(|sequence| *sequence != unreadable).collect();
    eventually("all come", LONG, || taken() == good).await;
}

#[tokio::test]
async fn the_log_is_read_past_an_unreadable_message() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    api.post_event("a", &json!({})).await;
    for block in [LONE_CARRIAGE_RETURN, LATIN_1] {
        let unreadable = nats.store_raw("events.a", block, b"{}");
        post(&api, &format!("behind-{unreadable}")).await;
        for query in ["", "?type=a"] {
            let read = api.get(&format!("/v1/events{query}")).await;
            let sequences = read["events"].as_array().unwrap().iter().map(|event| event["sequence"].clone());
            let good = (1..=unreadable + 1).step_by(2).map(Value::from);
            assert_eq!(sequences.collect::<Vec<Value>>(), good.collect::<Vec<Value>>(), "{query}");
        }
        assert_eq!(api.status(&format!("/v1/events/{unreadable}")).await, Some(404), "it is no event");
    }
    let last = nats.store_raw("events.a", LATIN_1, b"{}");
    let headers = [("expected-last-sequence", "1")];
    let refused = api.send(Method::POST, "/v1/events/a", &headers, "{}").await.unwrap();
    assert_eq!(refused.status(), 412);
    assert!(refused.text().await.unwrap().contains(&last.to_string()), "it is the last one of its type all the same");
}
