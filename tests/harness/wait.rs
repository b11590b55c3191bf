//! Waiting for a condition, with a deadline: never for a time.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, and panics with `what` if it does not within `deadline`.
pub async fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually_async(what, deadline, async || condition()).await;
}

/// The same for a condition that has to be asked for.
pub async fn eventually_async(what: &str, deadline: Duration, condition: impl AsyncFnMut() -> bool) {
    assert!(holds_within(deadline, condition).await, "not within {deadline:?}: {what}");
}

/// Waits until `condition` holds, and answers whether it did within `deadline`.
pub async fn holds_within(deadline: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition().await {
        if began.elapsed() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
    true
}
