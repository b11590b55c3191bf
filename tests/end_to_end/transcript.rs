//! The transcript of the original calls, verbatim but for host, stamps and ids.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::{Api, Mer, Nats, eventually};

use crate::{MER, SOON};

/// Posts as the transcript does, and answers with the body, byte for byte.
async fn curl(api: &Api, path: &str, body: &str) -> String {
    let response = api.send(reqwest::Method::POST, path, &[], body.to_owned()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

/// The stamp in the answer of `receive_event`.
fn stamp_of(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["event_received"]["event"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()
}

/// What the sample listener has logged of this name: one line for each time it was greeted.
fn greeted(mer: &Mer, name: &str) -> Vec<String> {
    let response = format!("response={{\"hello\":{{\"response\":\"Hello, {name}!\"}}}}");
    mer.log()
        .lines()
        .filter(|line| line.contains("hello.received") && line.contains(&response))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn the_original_transcript_works_as_it_is_written() {
    let nats = Nats::start();
    let mer = Mer::new(MER).set("MER_NATS_URL", nats.url()).roles("receiver,registrar,dispatcher,hello").start().await;
    let (api, hello) = (mer.api(), format!("{}/hello/", mer.url()));

    // The sample listener, directly.
    assert_eq!(curl(&api, "/hello/", r#"{"name": "tismoj"}"#).await, r#"{"hello":{"response":"Hello, tismoj!"}}"#);

    // An event before any registration.
    let first = curl(&api, "/receive_event/request_from_human", r#"{"name": "tismoj while unregistered"}"#).await;
    let stamp = stamp_of(&first);
    assert_eq!(
        first,
        format!(
            r#"{{"event_received":{{"data":{{"name":"tismoj while unregistered","transaction_id":"{stamp}"}},"event":"request_from_human:{stamp}"}}}}"#
        )
    );

    // Registration, and an event that then arrives.
    let body = json!({"events_to_register": [{"event": "request_from_human", "urls_to_register": [{"url": hello}]}]});
    let answer = curl(&api, "/register_for_events/", &body.to_string()).await;
    assert_eq!(answer, format!(r#"{{"registered_for_events":{{"request_from_human":{{"{hello}":{{}}}}}}}}"#));
    curl(&api, "/receive_event/request_from_human", r#"{"name": "tismoj now registered"}"#).await;
    eventually("the event arrives", SOON, || greeted(&mer, "tismoj now registered").len() == 1).await;
    let line = &greeted(&mer, "tismoj now registered")[0];
    assert!(line.contains("ce-type: request_from_human") && line.contains("ce-replay: false"), "{line}");

    // A second type, posted first and registered later from the very stamp that was answered.
    let cat = curl(&api, "/receive_event/request_from_animal", r#"{"name": "cat"}"#).await;
    let start = stamp_of(&cat);
    let url = json!({"url": hello, "datetime_start": start});
    let body = json!({"events_to_register": [{"event": "request_from_animal", "urls_to_register": [url]}]});
    let answer = curl(&api, "/register_for_events/", &body.to_string()).await;
    assert_eq!(
        answer,
        format!(
            r#"{{"registered_for_retro_event_retrieval":{{"request_from_animal":{{"{hello}":{{"datetime_start":"{start}"}}}}}}}}"#
        )
    );
    eventually("the past event arrives", SOON, || greeted(&mer, "cat").len() == 1).await;
    assert!(greeted(&mer, "cat")[0].contains("ce-replay: true"));
    curl(&api, "/receive_event/request_from_animal", r#"{"name": "dog"}"#).await;
    eventually("the live event arrives", SOON, || greeted(&mer, "dog").len() == 1).await;

    // A long past start with a count of one: the oldest event, and it alone.
    let url = json!({"url": hello, "datetime_start": "20200101000000.0", "count": 1});
    let body = json!({"events_to_register": [{"event": "request_from_human", "urls_to_register": [url]}]});
    let answer = curl(&api, "/register_for_events/", &body.to_string()).await;
    assert_eq!(
        answer,
        format!(
            r#"{{"registered_for_retro_event_retrieval":{{"request_from_human":{{"{hello}":{{"datetime_start":"20200101000000.0","count":1}}}}}}}}"#
        )
    );
    eventually("the oldest event arrives", SOON, || greeted(&mer, "tismoj while unregistered").len() == 1).await;
    // The lane goes on with the other type, and by then nothing of the completed one has come.
    curl(&api, "/receive_event/request_from_human", r#"{"name": "nobody asks for this one"}"#).await;
    curl(&api, "/receive_event/request_from_animal", r#"{"name": "bird"}"#).await;
    eventually("the next live event arrives", SOON, || greeted(&mer, "bird").len() == 1).await;
    for (name, times) in
        [("tismoj while unregistered", 1), ("tismoj now registered", 1), ("cat", 1), ("nobody asks for this one", 0)]
    {
        assert_eq!(greeted(&mer, name).len(), times, "{name}");
    }
}
