//! `/v1/subscriptions`: all that is registered for a URL as one thing, with its state.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::{Answer, Api, Nats, Target, eventually, eventually_async};

use crate::{LONG, SOON, mer_on};

async fn call(api: &Api, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response: Response = api.send(method, &format!("/v1/subscriptions{path}"), &[], body).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn status_of(api: &Api, id: &str) -> Value {
    let (status, subscription) = call(api, Method::GET, &format!("/{id}"), &Value::Null).await;
    assert_eq!(status, 200, "{subscription}");
    subscription["status"].clone()
}

#[tokio::test]
async fn a_subscription_is_made_read_changed_listed_and_removed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let body = json!({
        "url": target.url("/in"),
        "events": [{"type": "a"}, {"type": "b.*", "listener_data": {"x": 1}}],
        "group": "shop",
        "delivery": {"mode": "ordered", "timeout_ms": 1500},
    });
    let (status, made) = call(&api, Method::PUT, "", &body).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("127-0-0-1-") && id.contains("-in_"), "{id}");
    assert_eq!((&made["url"], &made["group"], &made["delivery"]), (&body["url"], &body["group"], &body["delivery"]));
    assert_eq!(made["events"][1]["listener_data"], json!({"x": 1}));

    let first = api.post_event("a", &json!({})).await.sequence;
    eventually("it is delivered", SOON, || target.taken() == [first]).await;
    eventually_async("the state says so", SOON, async || {
        let status = status_of(&api, &id).await;
        status["position"] == first && status["lag"] == 0 && status["last_attempt"]["code"] == 200
    })
    .await;
    let status = status_of(&api, &id).await;
    assert_eq!((&status["state"], &status["phase"]), (&json!("active"), &json!("live")));
    assert_eq!(
        status["events"]["a"],
        json!({"delivered": 1, "skipped": 0, "dead_lettered": 0, "completed": false, "from_sequence": 1})
    );

    // The same again changes nothing; a part of it changes that part.
    assert_eq!(call(&api, Method::PUT, "", &body).await.0, 200);
    let (code, patched) =
        call(&api, Method::PATCH, &format!("/{id}"), &json!({"group": null, "events": [{"type": "c"}]})).await;
    assert_eq!(code, 200);
    assert_eq!((&patched["group"], &patched["delivery"]), (&Value::Null, &body["delivery"]));
    api.post_event("a", &json!({})).await;
    let of_c = api.post_event("c", &json!({})).await.sequence;
    eventually("only what is asked for now arrives", SOON, || target.taken() == [first, of_c]).await;

    let other = json!({"url": target.url("/other"), "events": [{"type": "z"}], "group": "shop"});
    assert_eq!(call(&api, Method::PUT, "", &other).await.0, 201);
    let ids = async |query: &str| {
        let (_, list) = call(&api, Method::GET, query, &Value::Null).await;
        list["subscriptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await.len(), 2);
    assert_eq!(ids("?group=shop").await.len(), 1);
    let (_, page) = call(&api, Method::GET, "?limit=1", &Value::Null).await;
    let rest = ids(&format!("?after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(rest.len(), 1);
    assert_ne!(page["subscriptions"][0]["id"], rest[0].as_str());

    assert_eq!(call(&api, Method::DELETE, &format!("/{id}"), &Value::Null).await.0, 204);
    assert_eq!(call(&api, Method::DELETE, &format!("/{id}"), &Value::Null).await.0, 404);
    assert_eq!(call(&api, Method::GET, &format!("/{id}"), &Value::Null).await.0, 404);
    assert_eq!(call(&api, Method::POST, &format!("/{id}/pause"), &Value::Null).await.0, 404);
}

#[tokio::test]
async fn putting_the_same_subscription_again_replays_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.post_event("a", &json!({})).await;
    let body = json!({"url": target.url("/"), "events": [{"type": "a", "datetime_start": "20200101000000.0"}]});
    assert_eq!(call(&api, Method::PUT, "", &body).await.0, 201);
    eventually("the past arrives", SOON, || target.taken() == [1]).await;
    assert_eq!(call(&api, Method::PUT, "", &body).await.0, 200);
    api.post_event("a", &json!({})).await;
    eventually("the next arrives", SOON, || target.taken().contains(&2)).await;
    api.register(&target.url("/"), &["end"], &json!({})).await;
    let end = api.post_event("end", &json!({})).await.sequence;
    eventually("the end arrives", SOON, || target.taken().contains(&end)).await;
    assert_eq!(target.taken(), [1, 2, end]);
}

#[tokio::test]
async fn a_paused_subscription_waits_and_goes_on_where_it_was() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let (target, witness) = (Target::start().await, Target::start().await);
    for target in [&target, &witness] {
        api.register(&target.url("/"), &["a"], &json!({})).await;
    }
    api.post_event("a", &json!({})).await;
    eventually("both are served", SOON, || target.taken_count() + witness.taken_count() == 2).await;
    let (_, list) = call(&api, Method::GET, "", &Value::Null).await;
    let of_target = |s: &&Value| s["url"] == target.url("/");
    let id =
        list["subscriptions"].as_array().unwrap().iter().find(of_target).unwrap()["id"].as_str().unwrap().to_owned();
    let (code, paused) = call(&api, Method::POST, &format!("/{id}/pause"), &Value::Null).await;
    assert_eq!((code, &paused["status"]["state"]), (200, &json!("paused")));
    eventually_async("the dispatcher has written it", SOON, async || {
        nats.value("LANES", &target.url("/")).await["state"] == "paused"
    })
    .await;
    for _ in 0..10 {
        api.post_event("a", &json!({})).await;
    }
    eventually("the other URL gets everything", SOON, || witness.taken_count() == 11).await;
    // It stays so over a restart.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    api.post_event("a", &json!({})).await;
    eventually("the other URL gets everything", SOON, || witness.taken_count() == 12).await;
    assert_eq!(target.taken(), [1], "nothing while it is paused");
    assert_eq!(call(&api, Method::POST, &format!("/{id}/resume"), &Value::Null).await.0, 200);
    eventually("everything has arrived", SOON, || target.taken_count() >= 12).await;
    assert_eq!(target.taken(), (1..=12).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_replay_delivers_a_part_of_the_log_again_and_goes_on() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let (_, made) = call(&api, Method::PUT, "", &json!({"url": target.url("/"), "events": [{"type": "a"}]})).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let mut posted = Vec::new();
    for n in 0..20 {
        posted.push(api.post_event("a", &json!({"n": n})).await);
    }
    eventually("all arrive", SOON, || target.taken_count() == 20).await;
    // The last event in the log is one that this URL does not get.
    api.post_event("b", &json!({})).await;
    let part = json!({"from": posted[4].stamp, "to": posted[9].stamp});
    let (code, accepted) = call(&api, Method::POST, &format!("/{id}/replay"), &part).await;
    assert_eq!(code, 202, "{accepted}");
    assert!(accepted["status"]["replay"]["total"].as_u64().unwrap() >= 6, "{accepted}");
    eventually_async("it is finished", SOON, async || status_of(&api, &id).await["replay"]["is_finished"] == true)
        .await;
    let live = api.post_event("a", &json!({})).await.sequence;
    let expected: Vec<u64> = (1..=20).chain(5..=10).chain([live]).collect();
    eventually("the part and the live one arrive", SOON, || target.taken_count() >= expected.len()).await;
    assert_eq!(target.taken(), expected);
    let replayed = &target.received()[20];
    assert_eq!((replayed.headers["ce-replay"].as_str(), &replayed.headers["ce-id"]), ("false", &posted[4].id));
    assert!(!replayed.headers["ce-redelivery"].is_empty());
    eventually_async("it is finished", SOON, async || status_of(&api, &id).await["replay"]["is_finished"] == true)
        .await;
    for (body, code) in [(json!({}), 422), (json!({"from": "20990101000000.0"}), 422), (json!([]), 422)] {
        assert_eq!(call(&api, Method::POST, &format!("/{id}/replay"), &body).await.0, code, "{body}");
    }
}

#[tokio::test]
async fn a_replay_that_a_kill_interrupts_goes_on_and_counts_nothing() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({"count": 25})).await;
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let first = api.post_event("a", &json!({})).await;
    for _ in 1..20 {
        api.post_event("a", &json!({})).await;
    }
    eventually("all arrive", SOON, || target.taken_count() == 20).await;
    target.answer(Answer::After(std::time::Duration::from_millis(20)));
    let (code, _) = call(&api, Method::POST, &format!("/{id}/replay"), &json!({"from": first.stamp})).await;
    assert_eq!(code, 202);
    eventually("the replay is under way", SOON, || target.taken_count() >= 28).await;
    mer.kill();
    let before = target.taken_count();
    mer.launch();
    mer.until_ready().await;
    for _ in 0..10 {
        api.post_event("a", &json!({})).await;
    }
    eventually_async("it has had all that it counts", SOON, async || {
        status_of(&api, &id).await["state"] == "completed"
    })
    .await;
    let taken = target.taken();
    // Where the kill came, the event under way may come twice; what was acknowledged before does not come again.
    let (interrupted, after) = (&taken[20..before], &taken[before..]);
    assert_eq!(interrupted, (1..=interrupted.len() as u64).collect::<Vec<u64>>(), "{taken:?}");
    let next = interrupted.len() as u64 + 1;
    let expected = |from: u64| (from..=25).collect::<Vec<u64>>();
    assert!(after == expected(next) || after == expected(next - 1), "{taken:?}");
}

#[tokio::test]
async fn a_held_subscription_says_why_and_when_it_is_tried_again() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    target.answer(Answer::Status(503));
    let body = json!({"url": target.url("/"), "events": [{"type": "a"}]});
    let id = call(&api, Method::PUT, "", &body).await.1["id"].as_str().unwrap().to_owned();
    let sequence = api.post_event("a", &json!({})).await.sequence;
    api.post_event("a", &json!({})).await;
    eventually_async("it is held, with what comes behind", LONG, async || {
        let status = status_of(&api, &id).await;
        status["state"] == "held" && status["lag"] == 2
    })
    .await;
    let attempt = status_of(&api, &id).await["last_attempt"].clone();
    assert_eq!((&attempt["sequence"], &attempt["code"]), (&json!(sequence), &json!(503)));
    assert_eq!(attempt["error"], "answered 503");
    assert!(attempt["attempt"].as_u64().unwrap() >= 1 && attempt["next_attempt"].is_string(), "{attempt}");
    // A timeout of its own.
    target.answer(Answer::After(std::time::Duration::from_millis(1000)));
    call(&api, Method::PATCH, &format!("/{id}"), &json!({"delivery": {"timeout_ms": 50}})).await;
    let timed_out =
        async || status_of(&api, &id).await["last_attempt"]["error"].as_str().unwrap_or("").contains("timed out");
    eventually_async("it times out", LONG, timed_out).await;
    call(&api, Method::PATCH, &format!("/{id}"), &json!({"delivery": {"timeout_ms": null}})).await;
    eventually_async("both arrive", LONG, async || {
        let status = status_of(&api, &id).await;
        status["state"] == "active" && status["lag"] == 0
    })
    .await;
}

#[tokio::test]
async fn attempts_are_listed_every_failure_among_them_and_survive_a_restart() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    target.answer(Answer::Status(503));
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let sequence = api.post_event("a", &json!({})).await.sequence;
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let attempts = async |query: &str| {
        let page = api.get(&format!("/v1/subscriptions/{id}/attempts{query}")).await;
        page["attempts"].as_array().unwrap().clone()
    };
    eventually_async("two have failed", SOON, async || attempts("?outcome=failed").await.len() >= 2).await;
    target.answer(Answer::Status(200));
    eventually("it arrives", SOON, || target.taken() == [sequence]).await;
    // What was not written yet is when mer stops.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    eventually_async("that is there", SOON, async || attempts("?outcome=delivered").await.len() == 1).await;
    let all = attempts("").await;
    let numbers: Vec<u64> = all.iter().map(|attempt| attempt["attempt"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).rev().collect::<Vec<u64>>(), "the latest first, none missing");
    assert_eq!((&all[0]["code"], &all[0]["error"]), (&json!(200), &Value::Null));
    assert_eq!((&all[1]["code"], &all[1]["error"]), (&json!(503), &json!("answered 503")));
    assert_eq!(attempts("?outcome=delivered").await.len(), 1);
    assert_eq!(attempts("?limit=1").await, all[..1]);
    assert_eq!(attempts("?from_sequence=2").await.len(), 0);
    let (status, problem) = call(&api, Method::GET, &format!("/{id}/attempts?outcome=x&y=1"), &Value::Null).await;
    assert_eq!((status, problem["errors"].as_array().unwrap().len()), (422, 2));
    assert_eq!(call(&api, Method::GET, "/host_0000000000000000/attempts", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_test_is_posted_to_the_target_beside_its_events_whatever_state_it_is_in() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let id = api.subscription(&target.url("/")).await["id"].as_str().unwrap().to_owned();
    let (status, answer) = call(&api, Method::POST, &format!("/{id}/test"), &Value::Null).await;
    assert_eq!((status, &answer["outcome"]["code"]), (200, &json!(200)), "{answer}");
    let received = target.received();
    assert_eq!(received.len(), 1);
    let header = |name: &str| received[0].headers.get(name).map(String::as_str);
    assert_eq!((header("ce-type"), header("ce-sequence")), (Some("mer.test"), None));
    assert_eq!(header("ce-id"), answer["id"].as_str());
    // While an event waits because the target is down, the test says so; and the event still comes, once.
    target.refuse().await;
    let sequence = api.post_event("a", &json!({})).await.sequence;
    let (status, answer) = call(&api, Method::POST, &format!("/{id}/test"), &Value::Null).await;
    assert_eq!(status, 200);
    assert!(answer["outcome"]["error"].as_str().unwrap().contains("could not connect"), "{answer}");
    target.listen().await;
    eventually("the event arrives", SOON, || target.taken().contains(&sequence)).await;
    call(&api, Method::POST, &format!("/{id}/pause"), &Value::Null).await;
    let (_, answer) = call(&api, Method::POST, &format!("/{id}/test"), &Value::Null).await;
    assert_eq!(answer["outcome"]["code"], 200, "a paused one is tested too: {answer}");
    assert_eq!(target.taken(), [0, sequence, 0]);
    assert_eq!(status_of(&api, &id).await["last_test"], answer);
    assert_eq!(call(&api, Method::POST, "/host_0000000000000000/test", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_bad_subscription_names_every_fault_and_is_not_stored() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let bad = json!({"url": "nonsense", "events": [{"type": "a", "count": 0}], "delivery": {"mode": "chaotic"}, "notify": []});
    let (code, problem) = call(&api, Method::PUT, "", &bad).await;
    assert_eq!(code, 422);
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/url", "/events/0/count", "/delivery/mode", "/notify"]);
    // One of two members of a name would win in silence.
    let twice = r#"{"url": "http://127.0.0.1:9/", "events": [{"type": "a", "count": 1, "count": 2}], "group": "g", "group": "h"}"#;
    let response = api.send(Method::PUT, "/v1/subscriptions", &[], twice).await.unwrap();
    assert_eq!(response.status(), 422);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][1]["pointer"]),
        (&json!("/events/0/count"), &json!("/group"))
    );
    let headers = [("content-type", "application/json-patch+json")];
    let response = api.send(Method::PATCH, "/v1/subscriptions/some_id", &headers, "{}").await.unwrap();
    assert_eq!(response.status(), 415, "it is another kind of patch");
    for (method, path, code) in [
        (Method::POST, "", 405),
        (Method::GET, "?limit=0", 422),
        (Method::GET, "?nonsense=1", 422),
        (Method::GET, "/no*id", 404),
        (Method::PUT, "/some_id", 405),
    ] {
        assert_eq!(call(&api, method, path, &json!({})).await.0, code, "{path}");
    }
    assert_eq!(call(&api, Method::GET, "", &Value::Null).await.1, json!({"subscriptions": [], "next": null}));
}

#[tokio::test]
async fn the_largest_subscription_can_be_paused_resumed_tested_and_delivered_again() {
    const TYPES: usize = 200;
    let nats = Nats::start_with("max_payload: 1MB");
    let mer = mer_on(&nats).await;
    let (api, target) = (mer.api(), Target::start().await);
    let url = target.url("/");
    let first = api.post_event("a", &json!({})).await.stamp;
    let add = async |name: &str, bytes: usize| {
        let sizes = (0..TYPES).map(|n| (n, bytes / TYPES + usize::from(n < bytes % TYPES)));
        let events = sizes.map(|(n, size)| {
            let url = json!({"url": url, "listener_data": "x".repeat(size)});
            json!({"event": format!("{name}.{n}"), "urls_to_register": [url]})
        });
        let events: Vec<Value> = events.collect();
        let response = api.post("/register_for_events/", &json!({"events_to_register": events})).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (most, rest) = (700_000, 500_000);
    assert_eq!(add("most", most).await.0, 200);
    // The answer says by how much it is too large: so it can be filled to the byte.
    let (code, problem) = add("rest", rest).await;
    assert_eq!(code, 413, "{problem}");
    let detail = serde_json::from_str::<Value>(&problem).unwrap()["detail"].as_str().unwrap().to_owned();
    let numbers: Vec<usize> = detail.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let (bytes, limit) = (numbers[0], numbers[1]);
    let (code, problem) = add("rest", rest - (bytes - limit)).await;
    assert_eq!(code, 200, "{problem}");
    let (_, listed) = call(&api, Method::GET, "", &Value::Null).await;
    let id = listed["subscriptions"][0]["id"].as_str().expect("an id").to_owned();
    for (act, body, expected) in [
        ("pause", Value::Null, 200),
        ("resume", Value::Null, 200),
        ("replay", json!({"from": first}), 202),
        ("test", Value::Null, 200),
        ("pause", Value::Null, 200),
    ] {
        let (code, answer) = call(&api, Method::POST, &format!("/{id}/{act}"), &body).await;
        assert_eq!(code, expected, "{act} with {limit} bytes: {answer}");
    }
}
