//! A stream's backup by JetStream's snapshot API, as `nats stream backup` and `nats stream restore` make and use it.

use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Message};
use futures_util::StreamExt;
use serde_json::{Value, json};

/// Small, so that a stream of some hundred events takes several of them.
const CHUNK_BYTES: usize = 4 * 1024;
/// How long it may take until it is known throughout a cluster who listens on a subject.
const HEARD_DEADLINE: Duration = Duration::from_secs(10);

/// What was in a stream at one moment, without its consumers.
pub struct Backup {
    stream: String,
    config: Value,
    state: Value,
    chunks: Vec<Message>,
}

impl Backup {
    /// Takes one of a stream that is in use.
    pub async fn take(client: &Client, stream: &str) -> Self {
        let inbox = client.new_inbox();
        let mut chunks_to_come = client.subscribe(inbox.clone()).await.expect("an inbox");
        let wanted = json!({"deliver_subject": inbox, "no_consumers": true, "chunk_size": CHUNK_BYTES});
        let answer = ask(client, &format!("$JS.API.STREAM.SNAPSHOT.{stream}"), &wanted).await;
        let (config, state) = (answer["config"].clone(), answer["state"].clone());
        let mut chunks = Vec::new();
        loop {
            let chunk = chunks_to_come.next().await.expect("a chunk");
            if chunk.payload.is_empty() {
                let status = chunk.status.map(|status| status.as_u16());
                assert!(matches!(status, None | Some(204)), "the backup ends with {status:?} {:?}", chunk.description);
                return Self { stream: stream.to_owned(), config, state, chunks };
            }
            // The server sends only so much before it is told what has come. About the last one it does not ask.
            if let Some(reply) = chunk.reply.clone() {
                client.publish(reply, "".into()).await.expect("a connection");
            }
            chunks.push(chunk);
        }
    }

    /// The sequence of the last message in it.
    pub fn last_sequence(&self) -> u64 {
        self.state["last_seq"].as_u64().expect("a sequence")
    }

    /// How many pieces it came in.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Makes the stream as it was, on a server that does not have it.
    pub async fn restore(&self, client: &Client) {
        let wanted = json!({"config": self.config, "state": self.state});
        let answer = ask(client, &format!("$JS.API.STREAM.RESTORE.{}", self.stream), &wanted).await;
        let subject = answer["deliver_subject"].as_str().expect("a subject").to_owned();
        for chunk in &self.chunks {
            let taken = hand_over(client, &subject, chunk).await;
            assert!(taken.payload.is_empty(), "{}: {:?}", self.stream, taken.payload);
        }
        let end = client.request(subject, "".into()).await.expect("an answer");
        let restored = answer_of(&end);
        assert_eq!(restored["state"]["last_seq"], self.state["last_seq"], "{restored}");
        assert_eq!(restored["state"]["messages"], self.state["messages"], "{restored}");
    }
}

/// The server that restores may be another one of the cluster, which this one has not heard of yet.
async fn hand_over(client: &Client, subject: &str, chunk: &Message) -> Message {
    let began = Instant::now();
    loop {
        match client.request(subject.to_owned(), chunk.payload.clone()).await {
            Ok(answer) => return answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders && began.elapsed() < HEARD_DEADLINE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("the restoring server does not answer: {error}"),
        }
    }
}

async fn ask(client: &Client, subject: &str, wanted: &Value) -> Value {
    let answer = client.request(subject.to_owned(), wanted.to_string().into()).await.expect("an answer");
    answer_of(&answer)
}

fn answer_of(message: &Message) -> Value {
    let answer: Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert!(answer["error"].is_null(), "{answer}");
    answer
}
