//! Where the log begins and ends, for all lanes: looked up again and again, so that what retention removes is noticed.

use std::convert::Infallible;
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
}

/// Looks it up for ever. Receivers are told when the beginning moves; a look-up that fails is made good by the next.
pub(crate) async fn follow(log: EventLog, log_bounds: watch::Sender<KnownBounds>) -> Infallible {
    let (mut settled_to, mut settled_at) = (0, None);
    loop {
        let began = Instant::now();
        if let Ok(span) = log.bounds().await {
            let now = KnownBounds { first_sequence: span.first_sequence, settled_to, settled_at };
            (settled_to, settled_at) = (span.last_sequence, Some(began));
            log_bounds.send_if_modified(|known| std::mem::replace(known, now).first_sequence != now.first_sequence);
        }
        sleep(INTERVAL).await;
    }
}
