//! The write watchdog: whether the connected server still works together with the others of its cluster.
//!
//! A server that is cut off from its cluster keeps its clients and answers their pings. But a write is acknowledged only
//! when most of the servers that hold the stream have it. So writes show what pings do not.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long writes may go without an acknowledgement. A stream that has lost its leader has another one sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// When the first write began since which none was acknowledged; `None` where the last one was. Clones share it.
#[derive(Clone)]
pub(crate) struct WriteWatchdog(watch::Sender<Option<Instant>>);

impl WriteWatchdog {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A write was acknowledged, or there is another connection.
    pub(crate) fn acknowledged(&self) {
        self.0.send_if_modified(|missing| missing.take().is_some());
    }

    /// A write that began then was not acknowledged.
    pub(crate) fn missed(&self, began: Instant) {
        self.0.send_if_modified(|missing| {
            let is_first = missing.is_none();
            missing.get_or_insert(began);
            is_first
        });
    }

    /// Waits until no write has been acknowledged for too long.
    pub(crate) async fn expired(&self) {
        let mut missing = self.0.subscribe();
        loop {
            let since = *missing.borrow_and_update();
            let too_long = async {
                match since {
                    Some(since) => sleep_until(since + PATIENCE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = too_long => return,
                // The sender lives as long as this.
                _ = missing.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn it_expires_when_nothing_is_acknowledged_for_too_long_and_not_before() {
        let watchdog = WriteWatchdog::new();
        let began = Instant::now();
        assert!(timeout(10 * PATIENCE, watchdog.expired()).await.is_err(), "nothing is written");
        watchdog.missed(began);
        watchdog.acknowledged();
        assert!(timeout(10 * PATIENCE, watchdog.expired()).await.is_err(), "what came last was acknowledged");
        let began = Instant::now();
        watchdog.missed(began);
        tokio::time::advance(PATIENCE / 2).await;
        watchdog.missed(Instant::now());
        watchdog.expired().await;
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 2 * PATIENCE, "counted from the first");
    }
}
