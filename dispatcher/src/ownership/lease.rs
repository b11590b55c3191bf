//! Until when this dispatcher may begin pushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::failpoints;

/// Whether pushes may begin. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    began: Instant,
    /// Milliseconds after that, until which it lasts.
    until_ms: Arc<AtomicU64>,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), until_ms: Arc::default() }
    }

    /// Whether a push may begin now.
    pub(crate) fn is_valid(&self) -> bool {
        failpoints::has_no_fencing()
            || self.began.elapsed() < Duration::from_millis(self.until_ms.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, until: Option<Instant>) {
        let ms = until.map_or(0, |until| until.saturating_duration_since(self.began).as_millis());
        self.until_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }
}
