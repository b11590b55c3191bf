//! A scan of the log reads all of it for what is missing: nats-server counts messages that it cannot read any more among those
//! that it has, until a consumer comes to them.
//!
//! It goes over a connection of its own. A message on which the client library fails ends that connection alone, and is passed
//! over after a few of them.

use std::time::Duration;

use tokio::time::timeout;

use super::log_reader::LogReader;
use super::numbered::FeedError;
use crate::connection::Broker;
use crate::error::{During, Unavailable};
use crate::poison::detection::PoisonDetection;

/// For how long nothing may come, though there is something.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
const WHAT: &str = "opening a scan of the log";

/// Opens scans of the log, one after the other.
pub struct LogScans {
    broker: Broker,
    poison_detection: PoisonDetection,
}

/// A scan that is under way.
pub struct LogScan {
    reader: LogReader,
}

impl LogScans {
    /// Of a broker's log.
    pub fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), poison_detection: broker.poison_detection().aside() }
    }

    /// Opens a scan from a sequence on.
    pub async fn open(&self, from: u64) -> Result<LogScan, Unavailable> {
        let aside = self.broker.aside(self.poison_detection.clone()).await.during(WHAT)?;
        Ok(LogScan { reader: LogReader::open_scan(&aside, from).await? })
    }

    /// A scan has failed: the message that it was before may be the reason.
    pub fn has_failed(&self) {
        self.poison_detection.connection_is_lost();
    }
}

impl LogScan {
    /// The sequence of the next message; `None` where none comes.
    pub async fn next(&mut self) -> Result<Option<u64>, FeedError> {
        match timeout(LONGEST_SILENCE, self.reader.next_sequence()).await {
            Ok(read) => Ok(Some(read?)),
            Err(_) => Ok(None),
        }
    }

    /// Leaves nothing behind.
    pub async fn close(self) -> Result<(), Unavailable> {
        self.reader.close().await
    }
}
