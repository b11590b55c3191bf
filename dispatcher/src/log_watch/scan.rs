//! Reading all of the log, once after each start of nats-server: that goes on counting events of a damaged block, and nobody
//! else may read them for long. It is read slowly, by one dispatcher, and headers only.

use std::convert::Infallible;
use std::time::Duration;

use broker::Unavailable;
use broker::event_log::LogStatus;
use broker::feed::FeedError;
use broker::log_scan::LogScan;
use domain::Shard;
use domain::log_holes::Range;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::LogWatch;
use crate::ownership::owned::Owned;

/// How long after it can begin it does: URLs are set up first.
const BEGINS_AFTER: Duration = Duration::from_secs(2);
/// How often it is looked whether there is something to be read.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before reading on after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// After how many failures in a row it is told.
const FAILED_TO_BE_TOLD: u32 = 10;
/// How much is read in a second, at most. nats-server reads events whole.
const EVENTS_PER_SEC: u64 = 20_000;
const BYTES_PER_SEC: u64 = 32 * 1024 * 1024;
const TURNS_PER_SEC: u64 = 20;
const TURN: Duration = Duration::from_millis(1000 / TURNS_PER_SEC);

/// What is read: the log with this number, of this process of nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Of {
    server: String,
    log: u64,
}

/// How far it was read.
struct Progress {
    of: Of,
    from: u64,
    next: u64,
    began: Instant,
    is_done: bool,
}

impl LogWatch {
    /// Reads the log after each start of nats-server, for ever: where this dispatcher is the one that is to.
    pub(crate) async fn keep_scanning(&self, owned: &watch::Receiver<Owned>) -> Infallible {
        let (mut progress, mut failed) = (None::<Progress>, 0_u32);
        loop {
            sleep(LOOK_INTERVAL).await;
            // Of several dispatchers, one has the first shard.
            let is_mine = Shard::all().next().is_some_and(|first| owned.borrow().contains_key(&first));
            let Some(of) = self.to_be_scanned().filter(|_| is_mine) else { continue };
            if progress.as_ref().is_none_or(|progress| progress.of != of) {
                progress = Some(Progress { of, from: 0, next: 0, began: Instant::now(), is_done: false });
                sleep(BEGINS_AFTER).await;
            }
            let Some(progress) = progress.as_mut().filter(|progress| !progress.is_done) else { continue };
            match self.scan(progress).await {
                // It is opened again right before what it cannot read, and so passes over that.
                Ok(()) | Err(FeedError::Unreadable) => failed = 0,
                Err(error) => {
                    self.scans.has_failed();
                    failed = failed.saturating_add(1);
                    if failed == FAILED_TO_BE_TOLD {
                        tracing::warn!(%error, failed, "log.scan_failed");
                    } else {
                        tracing::debug!(%error, failed, "log.scan_failed");
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// What there is to be read now, once the log was looked at.
    fn to_be_scanned(&self) -> Option<Of> {
        let (link, known) = (*self.broker.link().borrow(), self.known.now());
        let is_looked_at = link.is_up && known.era.generation == link.generation;
        let server = self.broker.server_process().filter(|_| is_looked_at && !self.holes().is_limited())?;
        Some(Of { server, log: known.era.log })
    }

    /// Reads from where it was on to where the log ends now, unless there is something else to be read.
    async fn scan(&self, progress: &mut Progress) -> Result<(), FeedError> {
        let status = self.log.status().await?;
        let last = status.last_sequence;
        if progress.next == 0 {
            (progress.from, progress.next) = (status.first_sequence.max(1), status.first_sequence.max(1));
        }
        progress.next = progress.next.max(status.first_sequence);
        if progress.next <= last {
            let mut scan = self.scans.open(progress.next).await?;
            let mut turn = interval(TURN);
            turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while progress.next <= last {
                turn.tick().await;
                if self.to_be_scanned().as_ref() != Some(&progress.of) {
                    return Ok(());
                }
                self.scan_some(&mut scan, &mut progress.next, last, a_turn(&status)).await?;
            }
            scan.close().await?;
            let secs = progress.began.elapsed().as_secs_f64();
            tracing::info!(from_sequence = progress.from, to_sequence = last, secs, "log.scanned");
        }
        progress.is_done = true;
        Ok(())
    }

    /// Reads so many events from `next` on, and looks what became of those that it was not given.
    async fn scan_some(&self, scan: &mut LogScan, next: &mut u64, last: u64, count: u64) -> Result<(), FeedError> {
        let (mut read_to, mut jumps, mut failure) = (*next, Vec::<Range>::new(), None);
        for _ in 0..count {
            let found = match self.next_of(scan, read_to, last).await {
                Ok(found) => found,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            if found > read_to {
                jumps.push((read_to, last.min(found - 1)));
            }
            read_to = found + 1;
            if read_to > last {
                break;
            }
        }
        self.look_at(&jumps).await?;
        *next = read_to;
        failure.map_or(Ok(()), Err)
    }

    /// The next sequence that is given; one behind `last` where no more is.
    async fn next_of(&self, scan: &mut LogScan, from: u64, last: u64) -> Result<u64, FeedError> {
        match scan.next().await? {
            Some(found) => Ok(found),
            None if self.log.first_held(from).await?.is_some_and(|held| held <= last) => {
                Err(Unavailable::new("scanning the log", "nothing comes, though there is something").into())
            }
            None => Ok(last + 1),
        }
    }
}

/// How many events are read in a turn.
fn a_turn(status: &LogStatus) -> u64 {
    let each = (status.bytes / status.events.max(1)).max(1);
    (EVENTS_PER_SEC.min(BYTES_PER_SEC / each) / TURNS_PER_SEC).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_large_events_fewer_are_read_and_always_one() {
        let status = |events, bytes| LogStatus {
            first_sequence: 1,
            last_sequence: events,
            first_stored_at: None,
            last_stored_at: None,
            events,
            bytes,
            max_age: None,
            max_bytes: None,
            max_events: None,
            missing: 0,
            discards_old: true,
        };
        for (events, each, expected) in
            [(0, 0, 1_000), (1, 400, 1_000), (9, 1_677, 1_000), (9, 16_777, 100), (5, 1_000_000, 1), (5, 64_000_000, 1)]
        {
            assert_eq!(a_turn(&status(events, events * each)), expected, "{events} of {each} bytes");
        }
    }
}
