//! The stream `ATTEMPTS`: the last attempts to deliver, per subscription. It is only shown: nothing depends on it, and a
//! crash may lose its last second.

use bytes::Bytes;
use domain::SubscriptionId;
use domain::lane::Attempt;

use crate::connection::Broker;
use crate::connection::direct_get::{self, End, PageRequest};
use crate::error::{During, Unavailable};
use crate::names::{ATTEMPTS, ATTEMPTS_PREFIX};

/// How many messages are read at a time.
const PAGE: usize = 1000;

/// The stream.
#[derive(Clone)]
pub struct AttemptLog {
    broker: Broker,
}

impl AttemptLog {
    /// The stream behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Adds some attempts of one subscription, in the order in which they were made. Does not wait for the server;
    /// where there is no connection they are lost.
    pub async fn add(&self, id: &SubscriptionId, attempts: &[Attempt]) -> Result<(), Unavailable> {
        const WHAT: &str = "writing attempts";
        if !self.broker.link().borrow().is_up {
            return Err(Unavailable::new(WHAT, "there is no connection"));
        }
        let value = Bytes::from(serde_json::to_vec(attempts).during(WHAT)?);
        self.broker.handles().client.publish(format!("{ATTEMPTS_PREFIX}{id}"), value).await.during(WHAT)
    }

    /// Forgets the attempts of one subscription.
    pub async fn remove(&self, id: &SubscriptionId) -> Result<(), Unavailable> {
        const WHAT: &str = "removing attempts";
        let stream = self.broker.handles().context.get_stream_no_info(ATTEMPTS).await.during(WHAT)?;
        stream.purge().filter(format!("{ATTEMPTS_PREFIX}{id}")).await.during(WHAT)?;
        Ok(())
    }

    /// The attempts of one subscription that are still known, oldest first.
    pub async fn read(&self, id: &SubscriptionId) -> Result<Vec<Attempt>, Unavailable> {
        let subject = format!("{ATTEMPTS_PREFIX}{id}");
        let (mut attempts, mut from) = (Vec::new(), 1);
        loop {
            let request = PageRequest { stream: ATTEMPTS, from, subject: Some(&subject), limit: PAGE };
            let end = direct_get::read(&self.broker, &request, "reading attempts", |found| {
                // Other messages are left out.
                attempts.extend(serde_json::from_slice::<Vec<Attempt>>(&found.message.payload).unwrap_or_default());
            });
            match end.await? {
                End::OfLog => return Ok(attempts),
                End::Before(next) => from = next,
            }
        }
    }
}
