//! Asking the dispatcher of a lane, over NATS, how far the lane has come at this moment. The answer is only shown; where
//! there is none, what stands in `LANES` was true a few seconds ago.

use std::time::Duration;

use async_nats::{Subject, Subscriber};
use domain::SubscriptionId;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::connection::Broker;
use crate::error::{During, Unavailable};

/// What every subject starts with; the subscription's id follows.
const SUBJECT_PREFIX: &str = "mer.live.";
/// How long an answer may take. Where no dispatcher runs, the server says so at once.
const DEADLINE: Duration = Duration::from_secs(1);

/// How far a lane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// All that was wanted up to this sequence has been delivered.
    pub position: u64,
    /// How many events it has before it.
    pub lag: u64,
}

/// A question about a lane.
pub struct Question {
    /// Which lane.
    pub id: SubscriptionId,
    reply: Subject,
}

/// The questions that come to a dispatcher.
pub struct Questions {
    broker: Broker,
    questions: Subscriber,
}

/// Asks about a lane; `None` where no dispatcher answers, or the answer says nothing.
pub(crate) async fn ask(broker: &Broker, id: &SubscriptionId) -> Option<Live> {
    let client = &broker.handles().client;
    let answer = timeout(DEADLINE, client.request(format!("{SUBJECT_PREFIX}{id}"), Vec::new().into())).await;
    serde_json::from_slice(&answer.ok()?.ok()?.payload).ok()?
}

impl Questions {
    /// Begins to listen.
    pub async fn listen(broker: &Broker) -> Result<Self, Unavailable> {
        let client = &broker.handles().client;
        let questions = client.subscribe(format!("{SUBJECT_PREFIX}*")).await.during("listening for questions")?;
        Ok(Self { broker: broker.clone(), questions })
    }

    /// The next question; `None` where the connection was given up.
    pub async fn next(&mut self) -> Option<Question> {
        loop {
            let message = self.questions.next().await?;
            let id = message.subject.strip_prefix(SUBJECT_PREFIX).and_then(|id| SubscriptionId::parse(id).ok());
            if let (Some(id), Some(reply)) = (id, message.reply) {
                return Some(Question { id, reply });
            }
        }
    }

    /// Answers one, with `None` where the lane's place is not known, so that nobody waits for it. A lost answer is asked for
    /// again.
    pub async fn answer(&self, question: Question, live: Option<Live>) {
        if let Ok(value) = serde_json::to_vec(&live) {
            let _ = self.broker.handles().client.publish(question.reply, value.into()).await;
        }
    }
}
