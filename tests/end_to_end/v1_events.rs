//! `/v1/events`: JSON and CloudEvents in, and reading the log.

use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::{Api, Nats, Target, eventually};
use tokio::task::JoinSet;

use crate::{SOON, mer_on};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const NDJSON: &str = "application/x-ndjson";

async fn post(api: &Api, path: &str, content_type: &str, body: impl ToString) -> Response {
    api.send(Method::POST, path, &[("content-type", content_type)], body.to_string()).await.unwrap()
}

/// The events of a 201.
async fn created(response: Response) -> Vec<Value> {
    let (status, body) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 201, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["events"].as_array().unwrap().clone()
}

fn sequences(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

/// Events of an answer, without what says that they were there already.
fn unmarked(events: &[Value]) -> Vec<Value> {
    let mut events = events.to_vec();
    for event in &mut events {
        event.as_object_mut().unwrap().remove("duplicate");
    }
    events
}

fn event(id: &str, event_type: &str, data: &Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": event_type, "data": data})
}

#[tokio::test]
async fn json_of_any_kind_is_stored_as_it_is_and_delivered() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &["a"], &json!({})).await;
    let bodies =
        [r#"{"n": 1.50, "transaction_id": "T"}"#, "[1, 2]", "\"text\"", "null", "123456789012345678901234567890"];
    for (i, body) in bodies.iter().enumerate() {
        let events = created(post(&api, "/v1/events/a", "application/json", format!(" {body}\n")).await).await;
        assert_eq!(events[0]["type"], "a");
        assert_eq!(sequences(&events), [i as u64 + 1]);
        assert!(events[0]["id"].is_string() && events[0]["time"].is_string());
    }
    eventually("all arrive", SOON, || target.taken_count() == bodies.len()).await;
    let received: Vec<String> = target.received().into_iter().map(|r| r.body).collect();
    assert_eq!(received, bodies);
    assert_eq!(target.received()[0].headers["ce-transactionid"], "T");
    let read = api.get("/v1/events/1").await;
    assert_eq!((&read["type"], &read["transaction_id"]), (&json!("a"), &json!("T")));
}

#[tokio::test]
async fn cloudevents_are_taken_in_every_mode_and_delivered_with_what_they_say() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let target = Target::start().await;
    api.register(&target.url("/"), &[">"], &json!({})).await;

    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "Euro%20%E2%82%AC"),
        ("ce-source", "/binary"),
        ("ce-type", "com.example.binary"),
        ("ce-time", "2018-04-05T17:31:00+02:00"),
        ("ce-comexampleextension", "gr%C3%BCn"),
        ("content-type", "text/plain; charset=utf-8"),
    ];
    let binary = created(api.send(Method::POST, "/v1/events", &headers, "grün").await.unwrap()).await;
    assert_eq!(binary[0]["id"], "Euro €");
    assert_eq!(binary[0]["time"], "2018-04-05T15:31:00.000000Z");
    let structured =
        created(post(&api, "/v1/events", STRUCTURED, event("s", "t.structured", &json!({"n": 1}))).await).await;
    let list = json!([event("b1", "t.batch", &json!(1)), event("b2", "t.batch", &json!(2))]);
    let batch = created(post(&api, "/v1/events", BATCH, list).await).await;
    let lines = format!("{}\n\n{}\n", event("n1", "t.lines", &json!("x")), event("n2", "t.lines", &Value::Null));
    let lines = created(post(&api, "/v1/events", NDJSON, lines).await).await;
    let all: Vec<u64> = [binary, structured, batch, lines].iter().flat_map(|events| sequences(events)).collect();
    assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    assert_eq!(created(post(&api, "/v1/events", BATCH, "[]").await).await.len(), 0);

    eventually("all arrive", SOON, || target.taken_count() == 6).await;
    let received = target.received();
    assert_eq!(received[0].body, "grün");
    for (name, value) in [
        ("ce-id", "Euro%20%E2%82%AC"),
        ("ce-source", "/binary"),
        ("ce-type", "com.example.binary"),
        ("ce-time", "2018-04-05T15:31:00.000000Z"),
        ("ce-comexampleextension", "gr%C3%BCn"),
        ("content-type", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(received[0].headers[name], value, "{name}");
    }
    assert_eq!(received[1].body, r#"{"n":1}"#);
    assert_eq!(received[1].headers["content-type"], "application/json");
    assert_eq!(api.get("/v1/events/1").await["data"], "grün");
}

#[tokio::test]
async fn the_same_source_and_id_is_stored_once_alone_or_in_a_batch() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let one = event("1", "t", &json!({"first": true}));
    let first = created(post(&api, "/v1/events", STRUCTURED, &one).await).await;
    let again = created(post(&api, "/v1/events", STRUCTURED, event("1", "t", &json!({"first": false}))).await).await;
    assert_eq!(unmarked(&first), unmarked(&again));
    // In a batch: one that is there, one twice, and two new ones.
    let list = json!([event("2", "t", &json!(2)), one, event("3", "t", &json!(3)), event("2", "t", &json!(2))]);
    let batch = created(post(&api, "/v1/events", BATCH, &list).await).await;
    assert_eq!(sequences(&batch), [2, 1, 3, 2]);
    let retried = created(post(&api, "/v1/events", BATCH, &list).await).await;
    assert_eq!(unmarked(&retried), unmarked(&batch));
    assert_eq!(api.post_event("t", &json!({})).await.sequence, 4, "nothing was stored twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_stored_whole_and_in_a_row_or_not_at_all() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut posting = JoinSet::new();
    for sender in 0..8 {
        let api = api.clone();
        posting.spawn(async move {
            for n in 0..5 {
                let list: Vec<Value> =
                    (0..200).map(|i| event(&format!("{sender}-{n}-{i}"), &format!("t.{i}"), &json!(i))).collect();
                let stored = sequences(&created(post(&api, "/v1/events", BATCH, json!(list)).await).await);
                let in_a_row: Vec<u64> = (stored[0]..stored[0] + 200).collect();
                assert_eq!(stored, in_a_row);
            }
        });
    }
    posting.join_all().await;
    let large: Vec<Value> = (0..1000).map(|i| event(&format!("large-{i}"), "t", &json!("x".repeat(1000)))).collect();
    let stored = sequences(&created(post(&api, "/v1/events", BATCH, json!(large)).await).await);
    assert_eq!((stored[0], stored[999]), (8001, 9000));

    let mut bad = vec![event("new", "t", &json!(1)); 3];
    bad[1]["id"] = "other".into();
    bad[2] = json!({"specversion": "1.0"});
    let refused = post(&api, "/v1/events", BATCH, json!(bad)).await;
    assert_eq!(refused.status(), 400);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/2/id");
    let too_many: Vec<Value> = (0..1001).map(|i| event(&i.to_string(), "t", &json!(i))).collect();
    assert_eq!(post(&api, "/v1/events", BATCH, json!(too_many)).await.status(), 413);
    // Before anybody looks at what they are.
    assert_eq!(post(&api, "/v1/events", BATCH, json!(vec![1; 1001])).await.status(), 413);
    assert_eq!(post(&api, "/v1/events", NDJSON, "1\n\n".repeat(1001)).await.status(), 413);
    assert_eq!(api.post_event("t", &json!({})).await.sequence, 9001, "nothing of these was stored");
}

#[tokio::test]
async fn an_event_is_stored_only_after_the_one_it_expects() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let expecting = async |event_type: &str, last: &str| {
        let path = format!("/v1/events/{event_type}");
        api.send(Method::POST, &path, &[("expected-last-sequence", last)], "{}").await.unwrap()
    };
    assert_eq!(expecting("a", "0").await.status(), 201);
    assert_eq!(expecting("b", "0").await.status(), 201);
    let refused = expecting("a", "0").await;
    assert_eq!(refused.status(), 412);
    let problem: Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("sequence 1 "), "{problem}");
    assert_eq!(expecting("a", "1").await.status(), 201);
    assert_eq!(expecting("c", "7").await.status(), 412);
    assert_eq!(expecting("a", "x").await.status(), 422);
}

#[tokio::test]
async fn what_is_no_cloudevent_is_refused_by_what_is_wrong_with_it() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let good = event("1", "t", &json!(1));
    for (content_type, body, status) in [
        (STRUCTURED, "{".to_owned(), 400),
        (STRUCTURED, "[]".to_owned(), 400),
        (STRUCTURED, "{}".to_owned(), 400),
        (STRUCTURED, json!({"specversion": "0.3", "id": "1", "source": "/s", "type": "t"}).to_string(), 400),
        (STRUCTURED, event("1", "a/b", &json!(1)).to_string(), 422),
        (STRUCTURED, event("1", "mer.x", &json!(1)).to_string(), 422),
        (BATCH, good.to_string(), 400),
        (BATCH, "[5]".to_owned(), 400),
        (NDJSON, format!("{good}\nnot json"), 400),
        ("application/json", good.to_string(), 415),
        ("application/cloudevents+avro", good.to_string(), 415),
        ("text/plain", "hello".to_owned(), 415),
    ] {
        let response = post(&api, "/v1/events", content_type, &body).await;
        assert_eq!(response.status(), status, "{content_type} {body}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    let refused = post(&api, "/v1/events", NDJSON, format!("{good}\n\nnot json")).await.text().await.unwrap();
    assert!(refused.contains("line 3 is not JSON"), "{refused}");
    let binary = [("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-id", "1")];
    let response = api.send(Method::POST, "/v1/events", &binary, "{}").await.unwrap();
    assert_eq!(response.status(), 400);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(
        problem["errors"],
        json!([{"header": "ce-source", "detail": "it is missing, and a CloudEvent must have it"}])
    );
    assert_eq!(api.post_event("t", &json!({})).await.sequence, 1, "nothing of these was stored");
}

#[tokio::test]
async fn the_log_is_read_by_type_time_and_transaction_in_pages_and_as_lines() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let mut posted = Vec::new();
    for n in 0..30 {
        let data = json!({"n": n, "transaction_id": format!("T{}", n % 3)});
        posted.push(api.post_event(["order.created", "order.paid", "user.created"][n % 3], &data).await);
    }
    let read =
        async |query: &str| sequences(api.get(&format!("/v1/events?{query}")).await["events"].as_array().unwrap());
    let every_third = |first: u64| (0..10).map(|i| first + 3 * i).collect::<Vec<u64>>();
    assert_eq!(read("").await, (1..=30).collect::<Vec<u64>>());
    assert_eq!(read("type=user.created").await, every_third(3));
    assert_eq!(read("type=*.created&transaction_id=T0").await, every_third(1));
    assert_eq!(read(&format!("from={}&to={}", posted[4].stamp, posted[6].stamp)).await, [5, 6, 7]);
    assert_eq!(read("type=nothing.>").await, [0u64; 0]);
    assert_eq!(read("from=20990101000000.0").await, [0u64; 0]);

    // Pages, each from where the one before it says.
    let (mut after, mut collected) = (json!(0), Vec::new());
    while !after.is_null() {
        let page = api.get(&format!("/v1/events?type=order.>&limit=7&after_sequence={after}")).await;
        collected.extend(sequences(page["events"].as_array().unwrap()));
        after = page["next"].clone();
    }
    assert_eq!(collected, (1..=30).filter(|n| n % 3 != 0).collect::<Vec<u64>>());

    let response = api.send(Method::GET, "/v1/events?type=order.paid", &[("accept", NDJSON)], "").await.unwrap();
    assert_eq!(response.headers()["content-type"], NDJSON);
    let lines: Vec<Value> =
        response.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sequences(&lines), every_third(2));
    assert_eq!(lines[0]["data"], json!({"n": 1, "transaction_id": "T1"}));

    for (path, status) in [
        ("/v1/events/31", 404),
        ("/v1/events/0", 422),
        ("/v1/events/x", 422),
        ("/v1/events?limit=0", 422),
        ("/v1/events?from=yesterday&nonsense=1", 422),
    ] {
        assert_eq!(api.send(Method::GET, path, &[], "").await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_says_where_to_go_on() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    let data = json!({"x": "x".repeat(1_000_000)});
    for _ in 0..30 {
        api.post_event("a", &data).await;
    }
    let (mut after, mut collected, mut pages) = (json!(0), Vec::new(), 0);
    while !after.is_null() {
        let page = api.get(&format!("/v1/events?limit=1000&after_sequence={after}")).await;
        collected.extend(sequences(page["events"].as_array().unwrap()));
        after = page["next"].clone();
        pages += 1;
    }
    assert_eq!(collected, (1..=30).collect::<Vec<u64>>());
    assert_eq!(pages, 2);
}

#[tokio::test]
async fn a_tail_goes_on_from_where_it_was_and_then_live() {
    let nats = Nats::start();
    let mut mer = mer_on(&nats).await;
    let api = mer.api();
    for _ in 0..5 {
        api.post_event("a", &json!({})).await;
    }
    let headers = [("accept", "text/event-stream"), ("last-event-id", "3")];
    let response = api.send(Method::GET, "/v1/events?type=a", &headers, "").await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.bytes_stream();
    let mut text = String::new();
    let mut read_until = async |wanted: &str| {
        while !text.contains(wanted) {
            let chunk = tokio::time::timeout(SOON, chunks.next()).await.expect("more of the tail").unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text.clone()
    };
    let past = read_until("id: 5\n").await;
    assert!(past.contains("id: 4\n") && !past.contains("id: 3\n"), "{past}");
    api.post_event("b", &json!({})).await;
    let live = api.post_event("a", &json!({"live": true})).await.sequence;
    let all = read_until(&format!("id: {live}\n")).await;
    assert!(!all.contains("id: 6\n"), "of another type: {all}");
    assert!(mer.stop().await, "an open tail does not keep mer from stopping");
}
