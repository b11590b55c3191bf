//! How long to wait before an event is tried again: doubling, with full jitter, capped.

use std::time::Duration;

/// The waits between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubling, at most 30 s: what the contract says.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after so many failed attempts in a row (from 1): somewhere between nothing and the bound for it, by
    /// `random`, a number from 0 to 1. Full jitter keeps many lanes from coming back all at once.
    pub(crate) fn wait(&self, failed_attempts: u32, random: f64) -> Duration {
        self.bound(failed_attempts).mul_f64(random.clamp(0.0, 1.0))
    }

    fn bound(&self, failed_attempts: u32) -> Duration {
        let doublings = failed_attempts.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds: Vec<u64> = [1, 2, 3, 9, 10, 1000, u32::MAX]
            .into_iter()
            .map(|failed| u64::try_from(Backoff::default().wait(failed, 1.0).as_millis()).unwrap())
            .collect();
        assert_eq!(bounds, [100, 200, 400, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn the_wait_is_anything_up_to_the_bound() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(3, 0.5), Duration::from_millis(200));
        assert_eq!(backoff.wait(3, 7.0), Duration::from_millis(400));
    }
}
