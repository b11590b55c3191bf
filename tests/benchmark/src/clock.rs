//! One clock for senders and targets: they are in one process.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Microseconds since the first call.
pub(crate) fn micros() -> u64 {
    micros_at(Instant::now())
}

/// The same of another moment; zero of one before the first call.
pub(crate) fn micros_at(instant: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    u64::try_from(instant.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX)
}

/// A duration as so many a second.
pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
