//! Each attribute of a registration, alone and in pairs that interact.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Answer, Mer, Nats, Target, eventually, eventually_async};

use crate::{LONG, MER, SOON, mer_on};

const FROM_THE_BEGINNING: &str = "20200101000000.0";

/// An event to post: its type and data.
type Post = (&'static str, Value);

/// One row: what is posted before and after registering with these attributes for these types, and the data's `n` of
/// what has to arrive, in order. After everything, an event of type `end` is posted, which every row is registered for.
struct Row {
    what: &'static str,
    before: Vec<Post>,
    types: &'static [&'static str],
    attributes: Value,
    after: Vec<Post>,
    arrives: &'static [u64],
}

fn post(event_type: &'static str, n: u64) -> Post {
    (event_type, json!({ "n": n }))
}

fn of(event_type: &'static str, transaction: &str, n: u64) -> Post {
    (event_type, json!({"n": n, "transaction_id": transaction}))
}

fn rows() -> Vec<Row> {
    let past = json!({"datetime_start": FROM_THE_BEGINNING});
    let with = |more: Value| {
        let mut attributes = past.clone();
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        attributes
    };
    let three = || vec![post("a", 1), post("a", 2), post("b", 3)];
    let transactions = || vec![of("a", "x", 1), of("a", "y", 2), of("b.c", "x", 3)];
    vec![
        Row {
            what: "nothing",
            before: three(),
            types: &["a"],
            attributes: json!({}),
            after: vec![post("a", 4), post("b", 5)],
            arrives: &[4],
        },
        Row {
            what: "a past start",
            before: three(),
            types: &["a"],
            attributes: past.clone(),
            after: vec![post("a", 4)],
            arrives: &[1, 2, 4],
        },
        Row {
            what: "a start in the future",
            before: three(),
            types: &["a"],
            attributes: json!({"datetime_start": "20990101000000.0"}),
            after: vec![post("a", 4)],
            arrives: &[],
        },
        Row {
            what: "a past end",
            before: three(),
            types: &["a"],
            attributes: with(json!({"datetime_end": "20200101000001.0"})),
            after: vec![post("a", 4)],
            arrives: &[],
        },
        Row {
            what: "a count",
            before: three(),
            types: &["a"],
            attributes: json!({"count": 1}),
            after: vec![post("a", 4), post("a", 5)],
            arrives: &[4],
        },
        Row {
            what: "a count and a past start",
            before: three(),
            types: &["a"],
            attributes: with(json!({"count": 3})),
            after: vec![post("a", 4), post("a", 5)],
            arrives: &[1, 2, 4],
        },
        Row {
            what: "a pattern",
            before: vec![],
            types: &["a.*"],
            attributes: json!({}),
            after: vec![post("a", 1), post("a.b", 2), post("a.b.c", 3)],
            arrives: &[2],
        },
        Row {
            what: "a pattern of the rest and a past start",
            before: vec![post("a.b", 1), post("b", 2)],
            types: &["a.>"],
            attributes: past.clone(),
            after: vec![post("a.b.c", 3)],
            arrives: &[1, 3],
        },
        Row {
            what: "a transaction",
            before: transactions(),
            types: &["a"],
            attributes: json!({"transaction_id": "x"}),
            after: vec![of("a", "y", 4), of("a", "x", 5)],
            arrives: &[1, 5],
        },
        Row {
            what: "a transaction and a pattern",
            before: transactions(),
            types: &[">"],
            attributes: json!({"transaction_id": "x"}),
            after: vec![of("z", "x", 4)],
            arrives: &[1, 3, 4],
        },
        Row {
            what: "a transaction and a count",
            before: transactions(),
            types: &["a", "b.c"],
            attributes: json!({"transaction_id": "x", "count": 1}),
            after: vec![of("a", "x", 4)],
            arrives: &[1, 3],
        },
        Row {
            what: "an expiry that is far away",
            before: three(),
            types: &["a"],
            attributes: json!({"expire_after": 3600}),
            after: vec![post("a", 4)],
            arrives: &[4],
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attribute_lets_through_what_it_says() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for (i, row) in rows().into_iter().enumerate() {
        let target = Target::start().await;
        // Types of its own, so that no row sees another's events.
        let own = |event_type: &str| format!("row{i}.{event_type}");
        for (event_type, data) in &row.before {
            api.post_event(&own(event_type), data).await;
        }
        let types: Vec<String> = row.types.iter().map(|t| own(t)).collect();
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        api.register(&target.url("/"), &types, &row.attributes).await;
        api.register(&target.url("/"), &[&format!("end{i}")], &json!({})).await;
        for (event_type, data) in &row.after {
            api.post_event(&own(event_type), data).await;
        }
        let end = api.post_event(&format!("end{i}"), &json!({})).await.sequence;
        eventually(row.what, SOON, || target.taken().contains(&end)).await;
        let arrived: Vec<u64> = target.bodies().iter().filter_map(|body| body["n"].as_u64()).collect();
        assert_eq!(arrived, row.arrives, "{}", row.what);
    }
}

#[tokio::test]
async fn required_data_is_filled_in_from_earlier_events_of_the_transaction_or_the_event_is_skipped() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    // Of a type that nobody is registered for, and before the registration.
    let first = api.post_event("order.created", &json!({"address": {"city": "Ulm"}, "n": 0})).await;
    let transaction = first.stamp;
    api.post_event("order.created", &json!({"address": "of others", "transaction_id": "other"})).await;
    api.register(&target.url("/"), &["order.sent", "end"], &json!({"required_data": ["address"]})).await;
    let sent = async |data: Value| api.post_event("order.sent", &data).await.sequence;
    let filled = sent(json!({"transaction_id": transaction, "n": 1})).await;
    let has_it = sent(json!({"transaction_id": transaction, "n": 2, "address": null})).await;
    let skipped = sent(json!({"transaction_id": "of nobody", "n": 3})).await;
    eventually("two arrive", SOON, || target.taken_count() == 2).await;
    // Over a restart of the dispatcher nothing is remembered, and the log tells the latest that has the key.
    assert!(mer.stop().await);
    mer.launch();
    mer.until_ready().await;
    api.post_event("order.moved", &json!({"transaction_id": transaction, "address": "Bonn"})).await;
    let moved = sent(json!({"transaction_id": transaction, "n": 4})).await;
    eventually("the next arrives", SOON, || target.taken().contains(&moved)).await;
    assert_eq!(target.taken(), [filled, has_it, moved]);
    assert!(!target.taken().contains(&skipped));
    let addresses: Vec<Value> = target.bodies().into_iter().map(|body| body["address"].clone()).collect();
    assert_eq!(addresses, [json!({"city": "Ulm"}), Value::Null, json!("Bonn")]);
    let body = format!("{{\"transaction_id\":\"{transaction}\",\"n\":1,\"address\":{{\"city\":\"Ulm\"}}}}");
    assert_eq!(target.received()[0].body, body, "what was there stays, byte for byte");

    // The skip is counted, and visible.
    let skips = async || nats.value("LANES", &target.url("/")).await["entries"]["order.sent"]["skipped"].as_u64();
    eventually_async("the skip is written", SOON, async || skips().await == Some(1)).await;
}

#[tokio::test]
async fn listener_data_comes_back_with_each_delivery() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let target = Target::start().await;
    mer.api().register(&target.url("/"), &["a"], &json!({"listener_data": {"für": ["50 %"]}})).await;
    mer.api().post_event("a", &json!({})).await;
    eventually("it arrives", SOON, || target.taken_count() == 1).await;
    let value = &target.received()[0].headers["ce-listenerdata"];
    assert_eq!(value, "{%22f%C3%BCr%22:[%2250%20%25%22]}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_deliveries_wait_the_lower_priority_goes_first() {
    let nats = Nats::start();
    let front = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar").start().await;
    let api = front.api();
    let target = Target::start().await;
    target.answer(Answer::After(Duration::from_millis(20)));
    for priority in [300, 500, 100] {
        api.register(&target.url(&format!("/{priority}")), &["a"], &json!({"priority": priority})).await;
    }
    for _ in 0..20 {
        api.post_event("a", &json!({})).await;
    }
    // Everything waits when the dispatcher starts, and one delivery may begin at a time.
    let back = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("dispatcher").set("MER_MAX_DELIVERIES", 1);
    let _back = back.start().await;
    eventually("all have arrived", LONG, || target.taken_count() == 60).await;
    let received = target.received();
    let last_urgent = received.iter().rposition(|received| received.path == "/100").unwrap();
    let patient_before = received[..last_urgent].iter().filter(|received| received.path == "/500").count();
    // In turns it would be nearly all of them; a few may go while the others are being set up.
    assert!(patient_before <= 10, "{patient_before} of 20 went before an urgent one that waited");
}

#[tokio::test]
async fn a_start_before_what_is_left_of_the_log_is_refused_unless_a_gap_is_allowed() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    let mut posted = Vec::new();
    for n in 0..5 {
        posted.push(api.post_event("a", &json!({"n": n})).await);
    }
    let events = async_nats::jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap();
    events.purge().sequence(posted[2].sequence).await.unwrap();

    let register = async |attributes: Value| {
        let mut entry = attributes;
        entry["url"] = target.url("/").into();
        api.post("/register_for_events/", &json!({"events_to_register": [{"event": "a", "urls_to_register": [entry]}]}))
            .await
    };
    let refused = register(json!({"datetime_start": posted[1].stamp})).await;
    assert_eq!(refused.status(), 422);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/events_to_register/0/urls_to_register/0/datetime_start");
    assert!(problem["detail"].as_str().unwrap().contains(&posted[2].stamp), "it names the oldest: {problem}");

    assert_eq!(register(json!({"datetime_start": posted[2].stamp})).await.status(), 200);
    eventually("what is left arrives", SOON, || target.taken() == [3, 4, 5]).await;
    let other = Target::start().await;
    api.register(&other.url("/"), &["a"], &json!({"datetime_start": posted[0].stamp, "allow_gap": true})).await;
    eventually("what is left arrives", SOON, || other.taken() == [3, 4, 5]).await;
}
