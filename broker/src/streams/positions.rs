//! The stream `POSITIONS`: how far lanes that read the tail of the log have come, moment by moment, so that a crash repeats
//! little. A lane's state in `LANES` is written only every few seconds; a later position here goes before it.

use std::collections::HashMap;

use bytes::Bytes;
use domain::Stamp;

use crate::connection::Broker;
use crate::connection::direct_get::{self, DirectMessage, End, PageRequest};
use crate::error::{During, Unavailable};
use crate::log::message::stamp_of;
use crate::names::{POSITIONS, POSITIONS_PREFIX};

/// How many messages are read at a time.
const PAGE: usize = 1000;
/// How far back a dispatcher's last messages are read: further than a lane's state in `LANES` is ever behind. A write of that
/// state is begun at most five seconds after the lane has moved, and takes four at most, or the lane stands still.
const RECENT_MICROS: i64 = 20_000_000;
/// The same, where it is not known whose messages they are: the dispatcher may have died a lease ago, and others go on.
const LONG_AGO_MICROS: i64 = 360_000_000;
const READING: &str = "reading positions";

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

    /// The furthest that a dispatcher has written of each epoch, of the last seconds in which it wrote. `None`: nothing is
    /// known of that dispatcher.
    pub async fn read_of(&self, dispatcher: &str) -> Result<Option<HashMap<String, u64>>, Unavailable> {
        let subject = format!("{POSITIONS_PREFIX}{dispatcher}");
        let Some(last) = direct_get::last(&self.broker, POSITIONS, &subject, READING).await? else { return Ok(None) };
        self.read_since(last.stored_at.plus_micros(-RECENT_MICROS), &subject).await.map(Some)
    }

    /// The furthest that any dispatcher has written of each epoch, of the last minutes in which one wrote.
    pub async fn read(&self) -> Result<HashMap<String, u64>, Unavailable> {
        let stream = self.broker.handles().context.get_stream(POSITIONS).await.during(READING)?;
        let state = &stream.cached_info().state;
        if state.messages == 0 {
            return Ok(HashMap::new());
        }
        let last = stamp_of(state.last_timestamp.unix_timestamp_nanos());
        self.read_since(last.plus_micros(-LONG_AGO_MICROS), &format!("{POSITIONS_PREFIX}>")).await
    }

    async fn read_since(&self, since: Stamp, subject: &str) -> Result<HashMap<String, u64>, Unavailable> {
        let mut positions = HashMap::new();
        let take_in = |positions: &mut HashMap<String, u64>, found: DirectMessage| {
            // Other messages are left out.
            let some: HashMap<String, u64> = serde_json::from_slice(&found.message.payload).unwrap_or_default();
            for (epoch, position) in some {
                let furthest = positions.entry(epoch).or_insert(position);
                *furthest = position.max(*furthest);
            }
        };
        let page = |from| PageRequest { stream: POSITIONS, from, subject: Some(subject), limit: PAGE };
        let each = |found| take_in(&mut positions, found);
        let mut end = direct_get::read_since(&self.broker, &page(1), since, READING, each).await?;
        while let End::Before(next) = end {
            end = direct_get::read(&self.broker, &page(next), READING, |found| take_in(&mut positions, found)).await?;
        }
        Ok(positions)
    }
}
