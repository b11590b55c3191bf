//! Whether events may be stored: where one process is everything, not before it has looked whether the log is the one that it
//! was. An event that is stored before that may take the place of one that was lost, and only its content tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Opens on each connection, once the log was looked at on it. Clones are one gate.
#[derive(Debug, Clone, Default)]
pub struct LogGate(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    is_needed: AtomicBool,
    /// The link's generation that the log was looked at on.
    looked_at: watch::Sender<u64>,
}

impl LogGate {
    /// From now on nothing is stored on a connection before the log was looked at on it.
    pub fn is_needed(&self) {
        self.0.is_needed.store(true, Ordering::Relaxed);
    }

    /// The log was looked at on a connection.
    pub fn is_looked_at(&self, generation: u64) {
        self.0.looked_at.send_if_modified(|known| std::mem::replace(known, generation) != generation);
    }

    /// Whether events may be stored on a connection.
    pub(crate) fn is_open(&self, generation: u64) -> bool {
        !self.0.is_needed.load(Ordering::Relaxed) || *self.0.looked_at.borrow() == generation
    }

    /// Waits until they may be, but not past the deadline.
    pub(crate) async fn opens_by(&self, generation: u64, deadline: Instant) -> bool {
        if self.is_open(generation) {
            return true;
        }
        let mut looked_at = self.0.looked_at.subscribe();
        matches!(timeout_at(deadline, looked_at.wait_for(|known| *known >= generation)).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_opens_on_each_connection_anew_where_it_is_needed() {
        let (gate, soon) = (LogGate::default(), || Instant::now() + Duration::from_millis(20));
        assert!(gate.opens_by(1, soon()).await, "nobody looks at the log");
        gate.is_needed();
        assert!(!gate.opens_by(1, soon()).await);
        gate.is_looked_at(1);
        assert!(gate.opens_by(1, soon()).await && gate.is_open(1));
        assert!(!gate.is_open(2) && !gate.opens_by(2, soon()).await);
    }
}
