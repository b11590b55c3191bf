//! The stream `POSITIONS`: how far lanes that read the tail of the log have come, moment by moment, so that a crash repeats
//! little. A lane's state in `LANES` is written only every few seconds; a later position here goes before it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use domain::Stamp;
use serde_json::json;
use tokio::time::timeout;

use crate::connection::Broker;
use crate::connection::direct_get::{self, DirectMessage, End, PageRequest};
use crate::error::{During, Unavailable};
use crate::log::message::stamp_of;
use crate::names::{POSITIONS, POSITIONS_PREFIX};

/// How long reading the last message may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How many messages are read at a time.
const PAGE: usize = 1000;
/// How far back a dispatcher's last messages are read: further than a lane's state in `LANES` is ever behind. A write of that
/// state is begun at most five seconds after the lane has moved, and takes four at most, or the lane stands still.
const RECENT_MICROS: i64 = 20_000_000;
/// The same, where it is not known whose messages they are: the dispatcher may have died a lease ago, and others go on.
const LONG_AGO_MICROS: i64 = 360_000_000;
const READING: &str = "reading positions";

/// What the key begins with under which the newest event stands, with its sequence; its value is when it was stored, in
/// microseconds.
const NEWEST: &str = "@";

/// The newest event that lanes had had when their positions were noted: where it is in the log, the positions are of that log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Newest {
    /// Its place.
    pub sequence: u64,
    /// When it was stored.
    pub stored_at: Stamp,
}

/// How far a lane had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Everything up to here was delivered.
    pub position: u64,
    /// `None`: a build noted it that did not say.
    pub newest: Option<Newest>,
    /// When the stream took it.
    pub at: Stamp,
}

impl Newest {
    fn written(self) -> Option<(String, u64)> {
        let micros = u64::try_from(self.stored_at.as_micros()).ok()?;
        Some((format!("{NEWEST}{}", self.sequence), micros))
    }

    fn read(key: &str, micros: u64) -> Option<Self> {
        let sequence = key.strip_prefix(NEWEST)?.parse().ok()?;
        Some(Self { sequence, stored_at: Stamp::from_micros(i64::try_from(micros).ok()?) })
    }
}

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

    /// Adds how far some lanes have come, by epoch: a JSON object, with the newest event that any of them has had. Does not wait
    /// for the server; where there is no connection it is lost.
    pub async fn add(
        &self,
        dispatcher: &str,
        positions: &HashMap<String, u64>,
        newest: Option<Newest>,
    ) -> Result<(), Unavailable> {
        const WHAT: &str = "writing positions";
        if !self.broker.link().borrow().is_up {
            return Err(Unavailable::new(WHAT, "there is no connection"));
        }
        let mut value = serde_json::to_vec(positions).during(WHAT)?;
        if let Some((key, micros)) = newest.and_then(Newest::written).filter(|_| !positions.is_empty()) {
            // Behind the others. No lane's epoch begins so: builds that do not know it find no lane for it.
            value.pop();
            value.extend_from_slice(format!(",\"{key}\":{micros}}}").as_bytes());
        }
        let value = Bytes::from(value);
        self.broker.handles().client.publish(format!("{POSITIONS_PREFIX}{dispatcher}"), value).await.during(WHAT)
    }

    /// The newest event that was noted last, and when that was.
    pub async fn newest(&self) -> Result<Option<(Newest, Stamp)>, Unavailable> {
        const WHAT: &str = "reading the last positions";
        let body = json!({"last_by_subj": format!("{POSITIONS_PREFIX}>")}).to_string();
        let subject = format!("$JS.API.DIRECT.GET.{POSITIONS}");
        let handles = self.broker.handles();
        let answer =
            async { timeout(DEADLINE, handles.client.request(subject, body.into())).await.during(WHAT)?.during(WHAT) };
        let answer = self.broker.while_connected(WHAT, answer).await?;
        let noted_at = answer.headers.as_ref().and_then(|headers| headers.get_last("Nats-Time-Stamp"));
        let Some(noted_at) = noted_at.and_then(|at| Stamp::parse(at.as_str()).ok()) else { return Ok(None) };
        let some: HashMap<String, u64> = serde_json::from_slice(&answer.payload).unwrap_or_default();
        Ok(some.iter().find_map(|(key, micros)| Newest::read(key, *micros)).map(|newest| (newest, noted_at)))
    }

    /// The furthest that a dispatcher has written of each epoch, of the last seconds in which it wrote. `None`: nothing is
    /// known of that dispatcher.
    pub async fn read_of(&self, dispatcher: &str) -> Result<Option<HashMap<String, Noted>>, Unavailable> {
        let subject = format!("{POSITIONS_PREFIX}{dispatcher}");
        let Some(last) = direct_get::last(&self.broker, POSITIONS, &subject, READING).await? else { return Ok(None) };
        self.read_since(last.stored_at.plus_micros(-RECENT_MICROS), &subject).await.map(Some)
    }

    /// The furthest that any dispatcher has written of each epoch, of the last minutes in which one wrote.
    pub async fn read(&self) -> Result<HashMap<String, Noted>, Unavailable> {
        let handles = self.broker.handles();
        let stream = async { handles.context.get_stream(POSITIONS).await.during(READING) };
        let stream = self.broker.while_connected(READING, stream).await?;
        let state = &stream.cached_info().state;
        if state.messages == 0 {
            return Ok(HashMap::new());
        }
        let last = stamp_of(state.last_timestamp.unix_timestamp_nanos());
        self.read_since(last.plus_micros(-LONG_AGO_MICROS), &format!("{POSITIONS_PREFIX}>")).await
    }

    async fn read_since(&self, since: Stamp, subject: &str) -> Result<HashMap<String, Noted>, Unavailable> {
        let mut positions = HashMap::new();
        let page = |from| PageRequest { stream: POSITIONS, from, subject: Some(subject), limit: PAGE };
        let each = |found| take_in(&mut positions, &found);
        let mut end = direct_get::read_since(&self.broker, &page(1), since, READING, each).await?;
        while let End::Before(next) = end {
            end = direct_get::read(&self.broker, &page(next), READING, |found| take_in(&mut positions, &found)).await?;
        }
        Ok(positions)
    }
}

/// Takes in a message. What is no positions is left out.
fn take_in(positions: &mut HashMap<String, Noted>, found: &DirectMessage) {
    let some: HashMap<String, u64> = serde_json::from_slice(&found.message.payload).unwrap_or_default();
    let newest = some.iter().find_map(|(key, micros)| Newest::read(key, *micros));
    for (epoch, position) in some.into_iter().filter(|(key, _)| !key.starts_with(NEWEST)) {
        let noted = Noted { position, newest, at: found.stored_at };
        let furthest = positions.entry(epoch).or_insert(noted);
        if position > furthest.position {
            *furthest = noted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_event_is_told_from_epochs() {
        let newest = Newest { sequence: 17, stored_at: Stamp::from_micros(1_769_851_800_000_007) };
        let (key, micros) = newest.written().unwrap();
        assert_eq!((key.as_str(), micros), ("@17", 1_769_851_800_000_007));
        assert_eq!(Newest::read(&key, micros), Some(newest));
        assert_eq!(Newest::read("tail-018f", 5), None);
    }
}
