//! The stream `POSITIONS`: how far lanes that read the tail of the log have come, moment by moment, so that a crash repeats
//! little. A lane's state in `LANES` is written only every few seconds; a later position here goes before it.

use std::collections::HashMap;

use bytes::Bytes;

use crate::connection::Broker;
use crate::connection::direct_get::{self, End, PageRequest};
use crate::error::{During, Unavailable};
use crate::names::{POSITIONS, POSITIONS_PREFIX};

/// How many messages are read at a time.
const PAGE: usize = 1000;

/// The stream.
#[derive(Clone)]
pub struct Positions {
    broker: Broker,
}

impl Positions {
    /// The stream behind a connection.
    pub fn new(broker: Broker) -> Self {
        Self { broker }
    }

    /// Adds how far some lanes have come, by epoch: a JSON object. Does not wait for the server; where there is no
    /// connection it is lost.
    pub async fn add(&self, dispatcher: &str, positions: &HashMap<String, u64>) -> Result<(), Unavailable> {
        const WHAT: &str = "writing positions";
        if !self.broker.link().borrow().is_up {
            return Err(Unavailable::new(WHAT, "there is no connection"));
        }
        let value = Bytes::from(serde_json::to_vec(positions).during(WHAT)?);
        self.broker.handles().client.publish(format!("{POSITIONS_PREFIX}{dispatcher}"), value).await.during(WHAT)
    }

    /// The furthest that is known of each epoch.
    pub async fn read(&self) -> Result<HashMap<String, u64>, Unavailable> {
        let (mut positions, mut from) = (HashMap::new(), 1);
        loop {
            let request = PageRequest { stream: POSITIONS, from, subject: None, limit: PAGE };
            let end = direct_get::read(&self.broker, &request, "reading positions", |found| {
                // Other messages are left out.
                let some: HashMap<String, u64> = serde_json::from_slice(&found.message.payload).unwrap_or_default();
                for (epoch, position) in some {
                    let furthest = positions.entry(epoch).or_insert(position);
                    *furthest = position.max(*furthest);
                }
            });
            match end.await? {
                End::OfLog => return Ok(positions),
                End::Before(next) => from = next,
            }
        }
    }
}
