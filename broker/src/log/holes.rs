//! Which sequences in the middle of the stream `EVENTS` hold no event.

use async_nats::jetstream::response::Response;
use domain::log_holes::{Missing, Observed, Range, merged, ranges_of};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::log::event_log::{EventLog, missing};
use crate::log::lookup;
use crate::names::EVENTS;

/// How many missing sequences nats-server is asked to name, at most: it names each one, in an answer of one message.
const MAX_NAMED: u64 = 500_000;
/// How many events are looked up, at most, to see which of the sequences that a reader has not found are missing.
const MAX_LOOK_UPS: usize = 64;
/// What this is, for errors.
const WHAT: &str = "looking for holes in the log";

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default, rename = "max_msgs_per_subject")]
    max_per_subject: i64,
}

#[derive(Deserialize)]
struct StreamState {
    #[serde(rename = "first_seq")]
    first_sequence: u64,
    #[serde(rename = "last_seq")]
    last_sequence: u64,
    messages: u64,
    #[serde(default)]
    deleted: Option<Vec<u64>>,
}

impl StreamState {
    fn missing(&self) -> u64 {
        missing(self.first_sequence, self.last_sequence, self.messages)
    }
}

impl EventLog {
    /// What is missing in the middle of the log, asked of the stream's leader. `suspects`: sequences that a reader has not found;
    /// each is looked at, as nats-server counts events that it cannot read any more among those that it has.
    pub async fn observe_holes(&self, suspects: &[Range]) -> Result<Observed, Unavailable> {
        let mut info = ask(&self.broker, &json!({})).await?;
        let is_limited = info.config.max_per_subject > 0;
        let missing = match info.state.missing() {
            0 => Missing::Ranges(Vec::new()),
            missing if is_limited || missing > MAX_NAMED => Missing::TooMany(missing),
            _ => {
                info = ask(&self.broker, &json!({"deleted_details": true})).await?;
                Missing::Ranges(ranges_of(info.state.deleted.take().unwrap_or_default()))
            }
        };
        let StreamState { first_sequence, last_sequence, .. } = info.state;
        let (mut looked_at, mut not_found) = (Vec::new(), Vec::new());
        for suspect in merged(suspects.to_vec()) {
            let (holes, is_whole) = self.not_found_in(suspect).await?;
            not_found.extend(holes);
            looked_at.extend(is_whole.then_some(suspect));
        }
        Ok(Observed { first_sequence, last_sequence, missing, looked_at, not_found, is_limited })
    }

    /// The first sequence from `from` on that holds a message, asked of the stream's leader.
    pub async fn first_held(&self, from: u64) -> Result<Option<u64>, Unavailable> {
        Ok(lookup::next(&self.broker, from, ">").await?.map(|message| message.sequence))
    }

    /// Which of some sequences hold nothing, in order; and whether all of them were looked at.
    async fn not_found_in(&self, (from, to): Range) -> Result<(Vec<Range>, bool), Unavailable> {
        let (mut next, mut holes) = (from, Vec::new());
        for _ in 0..MAX_LOOK_UPS {
            let found = lookup::next(&self.broker, next, ">").await?.map_or(u64::MAX, |message| message.sequence);
            if found > next {
                holes.push((next, to.min(found - 1)));
            }
            if found >= to {
                return Ok((holes, true));
            }
            next = found + 1;
        }
        Ok((holes, false))
    }
}

async fn ask(broker: &Broker, request: &Value) -> Result<StreamInfo, Unavailable> {
    let answer: Response<StreamInfo> =
        broker.handles().context.request(format!("STREAM.INFO.{EVENTS}"), request).await.during(WHAT)?;
    match answer {
        Response::Ok(info) => Ok(info),
        Response::Err { error } => Err(error).during(WHAT),
    }
}
