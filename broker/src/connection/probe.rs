//! The probe: a small write of this process's own, now and then. That NATS answers questions does not show that it can write.
//!
//! It is the key `probe.<name>` of the bucket `LEASES`, with a time to live, so that what a process leaves behind goes by
//! itself. A probe in `EVENTS` would be an event.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::connection::Broker;
use crate::connection::publish::PublishError;
use crate::connection::write_health::{Cause, Outcome};
use crate::names::LEASES;
use crate::reminder::Reminder;

/// Between two probes.
const INTERVAL: Duration = Duration::from_secs(4);
/// How long a probe may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a probe's key lives, in seconds.
const TTL_SECS: &str = "60";
/// What every key of a probe begins with.
const PREFIX: &str = "probe.";
/// The stream that the bucket is.
const STREAM: &str = "KV_LEASES";

/// The key of a process that begins now.
pub(super) fn new_key() -> String {
    format!("{PREFIX}{}", Uuid::now_v7().simple())
}

impl Broker {
    /// Probes for ever.
    pub(super) async fn keep_probing(&self) -> Infallible {
        let reminder = Reminder::default();
        self.until_ready().await;
        loop {
            // Where this user may not write it, that is not tried again on this connection.
            if self.is_connected() && !self.probe_is_refused() {
                self.probe(&reminder).await;
            }
            sleep(INTERVAL).await;
        }
    }

    fn probe_is_refused(&self) -> bool {
        self.listeners.probe_is_refused.load(Ordering::Relaxed)
    }

    async fn probe(&self, reminder: &Reminder) {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_TTL, TTL_SECS);
        let subject = format!("$KV.{LEASES}.{}", self.probe_key);
        let (began, link) = (Instant::now(), *self.listeners.link.borrow());
        let asked = self.ask_to_store(STREAM, subject, headers, Bytes::new(), began + DEADLINE).await;
        let outcome = match &asked {
            Ok(_) => Outcome::Written,
            // A lost connection is told by itself.
            Err(_) if *self.listeners.link.borrow() != link => return,
            Err(_) if self.probe_is_refused() => Outcome::SaysNothing,
            Err(error) => outcome_of(error),
        };
        match &asked {
            Err(error) if matches!(outcome, Outcome::Failed(_)) => {
                if reminder.fails(error) {
                    tracing::warn!(%error, "nats.probe_failed");
                }
            }
            Err(error) => tracing::debug!(%error, "nats.probe_says_nothing"),
            Ok(_) => {
                if reminder.works() {
                    tracing::info!("nats.probe_written");
                }
            }
        }
        self.storage().probed(outcome, began);
    }
}

/// What an error of a write says of the storage.
pub(crate) fn outcome_of(error: &PublishError) -> Outcome {
    match error {
        PublishError::Refused(refused) => {
            let cause = Cause::of_refusal(refused.error_code(), &refused.to_string());
            cause.map_or(Outcome::SaysNothing, Outcome::Failed)
        }
        PublishError::NoStream => Outcome::Failed(Cause::NoStream),
        PublishError::TimedOut => Outcome::Failed(Cause::Unanswered),
        PublishError::NotSent(_)
        | PublishError::BrokenOff
        | PublishError::Unreadable(_)
        | PublishError::NoAcknowledgement(_) => Outcome::SaysNothing,
    }
}

/// Whether a server's words say that this process may not write its probe.
pub(super) fn is_refusal(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("permissions violation") && words.contains(&format!("$kv.leases.{PREFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_may_not_write_the_probe_is_told_apart() {
        assert!(is_refusal(r#"Permissions Violation for Publish to "$KV.LEASES.probe.0190""#));
        assert!(!is_refusal(r#"Permissions Violation for Publish to "$KV.LEASES.owner.0190""#));
        assert!(!is_refusal("Maximum Payload Violation"));
    }
}
