//! Where the log begins and ends, for all lanes: looked up again and again, so that what retention removes is noticed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use broker::event_log::EventLog;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often it is looked up. A lane that has read everything needs it only when the log is cut.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where the log began and ended a moment ago.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KnownBounds {
    /// The oldest event's sequence.
    pub(crate) first_sequence: u64,
    /// Where the log ended at the look-up before the last.
    pub(crate) settled_to: u64,
    /// When that was.
    pub(crate) settled_at: Option<Instant>,
    /// Which log it is: a number that changes when the log is found to be another one.
    pub(crate) log: u64,
    /// How many sequences between its ends held no event, once that was looked up.
    pub(crate) missing: Option<u64>,
    /// A number that changes when other holes are known.
    pub(crate) holes: u64,
}

impl KnownBounds {
    /// Says that the log is another one.
    pub(crate) fn is_of_log(log_bounds: &watch::Sender<Self>, log: u64) {
        log_bounds.send_if_modified(|known| std::mem::replace(&mut known.log, log) != log);
    }

    /// Says that other holes are known.
    pub(crate) fn has_other_holes(log_bounds: &watch::Sender<Self>) {
        log_bounds.send_modify(|known| known.holes += 1);
    }
}

/// Looks it up for ever. Receivers are told when the beginning moves, the log is another one, or other holes are known; a look-up that fails is made good
/// by the next.
pub(crate) async fn follow(log: EventLog, log_bounds: Arc<watch::Sender<KnownBounds>>) -> Infallible {
    let (mut settled_to, mut settled_at) = (0, None);
    loop {
        let began = Instant::now();
        if let Ok(span) = log.bounds().await {
            let (to, at) = (settled_to, settled_at);
            (settled_to, settled_at) = (span.last_sequence, Some(began));
            log_bounds.send_if_modified(|known| {
                let is_cut = known.first_sequence != span.first_sequence;
                *known = KnownBounds {
                    first_sequence: span.first_sequence,
                    settled_to: to,
                    settled_at: at,
                    missing: Some(span.missing()),
                    ..*known
                };
                is_cut
            });
        }
        sleep(INTERVAL).await;
    }
}
