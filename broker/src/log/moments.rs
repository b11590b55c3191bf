//! Where in the log a moment is.
//!
//! nats-server looks it up by what it believes of its blocks, and is wrong where one is damaged: with a block of zeros in the
//! middle it passes over all before it (seen with 2.15.1). So what it answers is compared with the event before; and where that
//! does not fit, the place is searched for by single look-ups.

use domain::Stamp;

use crate::error::Unavailable;
use crate::log::event_log::EventLog;
use crate::log::lookup::{self, StoredMessage};

impl EventLog {
    /// From which sequence on events were stored at or after a moment, if there are any. Where it lies in or behind a hole, that is
    /// where the hole begins: what is lost may have been stored then. Asked of the stream's leader.
    pub async fn first_sequence_from(&self, moment: Stamp) -> Result<Option<u64>, Unavailable> {
        let found = lookup::stored_from(&self.broker, moment).await?.map(|message| message.sequence);
        if found == Some(1) {
            return Ok(found);
        }
        let bounds = self.bounds().await?;
        let before = found.map_or(bounds.last_sequence, |found| found - 1);
        // A log that never held anything begins with 0.
        if before < bounds.first_sequence.max(1) {
            return Ok(found);
        }
        let last_before = lookup::at(&self.broker, before).await?;
        if last_before.is_some_and(|message| is_before(&message, moment)) {
            return Ok(found);
        }
        self.search(moment, bounds.first_sequence.max(1), bounds.last_sequence).await
    }

    /// Halves the log until it is found. What is stored later lies further behind.
    async fn search(&self, moment: Stamp, first: u64, last: u64) -> Result<Option<u64>, Unavailable> {
        let (mut from, mut to) = (first, last + 1);
        while from < to {
            let middle = from + (to - from) / 2;
            match lookup::next(&self.broker, middle, ">").await? {
                Some(message) if is_before(&message, moment) => from = message.sequence + 1,
                _ => to = middle,
            }
        }
        Ok((from <= last).then_some(from))
    }
}

/// Whether a message was stored before a moment.
fn is_before(message: &StoredMessage, moment: Stamp) -> bool {
    message.stored_at().is_some_and(|stored_at| stored_at < moment)
}
