//! Batches of events: whatever becomes of one sender, others are served, and each call ends in time.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Api, Mer, Nats};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::mer_on;

const BATCH: &str = "application/cloudevents-batch+json";
/// More batches than nats-server keeps unfinished for a stream.
const GONE_AWAY: usize = 60;
/// How long others may be kept waiting: half as long as nats-server keeps what is unfinished.
const UNTIL_SERVED: Duration = Duration::from_secs(5);
/// What may pass between one call's beginning and its answer, whatever NATS does.
const CALL_DEADLINE: Duration = Duration::from_secs(9);
/// So many that most of them wait for others.
const AT_ONCE: usize = 80;

fn batch(name: &str, count: usize) -> String {
    let event = |n| json!({"specversion": "1.0", "id": format!("{name}-{n}"), "source": "/s", "type": "a", "data": n});
    Value::from((0..count).map(event).collect::<Vec<Value>>()).to_string()
}

async fn post(api: &Api, body: String) -> (u16, String) {
    let response = api.send(Method::POST, "/v1/events", &[("content-type", BATCH)], body).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Posts a batch, and closes the connection a moment later.
async fn post_and_go(mer: &Mer, body: &str) {
    let address = mer.url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: {address}\r\nContent-Type: {BATCH}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    sleep(Duration::from_millis(4)).await;
}

#[tokio::test]
async fn senders_that_go_away_take_batches_from_nobody() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    for n in 0..GONE_AWAY {
        post_and_go(&mer, &batch(&format!("gone-{n}"), 1000)).await;
    }
    // Those that have begun are stored first. nats-server would keep unfinished ones for ten seconds.
    let began = Instant::now();
    for n in 0..5 {
        let (mut status, mut body) = (0, String::new());
        while status != 201 && began.elapsed() < UNTIL_SERVED {
            (status, body) = post(&mer.api(), batch(&format!("here-{n}"), 2)).await;
        }
        assert_eq!(status, 201, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_batch_is_answered_in_time_though_nats_answers_nothing() {
    let nats = Nats::start();
    let mer = mer_on(&nats).await;
    assert_eq!(post(&mer.api(), batch("before", 2)).await.0, 201);
    nats.freeze();
    let mut posting = JoinSet::new();
    for n in 0..AT_ONCE {
        let api = mer.api();
        posting.spawn(async move {
            let began = Instant::now();
            let (status, body) = post(&api, batch(&format!("frozen-{n}"), 2)).await;
            (began.elapsed(), status, body)
        });
    }
    let answers = posting.join_all().await;
    nats.thaw();
    for (took, status, body) in &answers {
        assert_eq!(*status, 503, "{body}");
        assert!(*took < CALL_DEADLINE, "{took:?}: {body}");
    }
    assert!(answers.iter().any(|(_, _, body)| body.contains("It is safe to send it again")), "those that waited");
}
