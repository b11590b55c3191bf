//! The tail of the log as server-sent events: what a client that is cut off misses, and what it is told.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use domain::Stamp;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Nats};
use tokio::time::timeout;

use crate::{SOON, mer_on};

/// A tail that is being read.
struct Tail<S> {
    chunks: S,
    text: String,
}

async fn open(api: &Api, query: &str, id: Option<&str>) -> Tail<impl Stream<Item = String> + Unpin> {
    let mut headers = vec![("accept", "text/event-stream")];
    headers.extend(id.map(|id| ("last-event-id", id)));
    let response = api.send(Method::GET, &format!("/v1/events{query}"), &headers, "").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-accel-buffering"], "no", "behind nginx nothing would come");
    let chunks = response.bytes_stream().map(|chunk| String::from_utf8_lossy(&chunk.unwrap()).into_owned());
    Tail { chunks: Box::pin(chunks), text: String::new() }
}

impl<S: Stream<Item = String> + Unpin> Tail<S> {
    /// The next frame that is more than a comment.
    async fn frame(&mut self) -> String {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.text = rest;
                if !frame.starts_with(':') {
                    return frame;
                }
                continue;
            }
            let chunk = timeout(SOON, self.chunks.next()).await.expect("more of the tail").expect("it goes on");
            self.text.push_str(&chunk);
        }
    }
}

/// What a frame says, of a name, with numbers.
fn notice(frame: &str) -> (String, Value) {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap())
}

#[tokio::test]
async fn a_tail_that_is_cut_off_before_its_first_event_misses_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for _ in 0..3 {
        api.post_event("a", &json!({})).await;
    }
    let first = open(&api, "", None).await.frame().await;
    assert_eq!(first, "id: 3", "an id and no event");
    let missed = api.post_event("a", &json!({})).await.sequence;
    let again = open(&api, "", Some("3")).await.frame().await;
    assert!(again.starts_with(&format!("id: {missed}\ndata: ")), "{again}");
    assert_eq!(open(&api, "?after_sequence=2", None).await.frame().await, "id: 2");
}

#[tokio::test]
async fn a_client_that_knows_another_log_or_lacks_what_was_removed_is_told() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for _ in 0..9 {
        api.post_event("a", &json!({})).await;
    }
    let events = jetstream::new(nats.client().await).get_stream("EVENTS").await.unwrap();
    events.purge().sequence(5).await.unwrap();
    for query in ["", "?type=a"] {
        let mut gap = open(&api, query, Some("2")).await;
        let frame = gap.frame().await;
        assert_eq!(notice(&frame), ("gap".to_owned(), json!({"after": 2, "first_sequence": 5, "last_sequence": 9})));
        assert!(frame.contains("id: 4"), "{frame}");
        assert!(gap.frame().await.contains("id: 5"));
        let mut reset = open(&api, query, Some("4711")).await;
        let frame = reset.frame().await;
        assert_eq!(
            notice(&frame),
            ("reset".to_owned(), json!({"after": 4711, "first_sequence": 5, "last_sequence": 9}))
        );
        assert!(frame.contains("id: 9"), "{frame}");
    }
    let mut reset = open(&api, "", Some("4711")).await;
    reset.frame().await;
    let next = api.post_event("a", &json!({})).await.sequence;
    assert!(reset.frame().await.contains(&format!("id: {next}")), "it goes on");
}

#[tokio::test]
async fn a_tail_from_now_begins_behind_the_end_of_the_log() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    let api = mer.api();
    for _ in 0..3 {
        api.post_event("a", &json!({})).await;
    }
    // Beyond the margin for clocks that differ.
    let from = Stamp::now().plus_micros(3_600_000_000);
    let began = Instant::now();
    let first = open(&api, &format!("?from={from}"), None).await.frame().await;
    assert_eq!(first, "id: 3", "the log is not read from its beginning");
    assert!(began.elapsed() < Duration::from_secs(5));
}
