//! Waiting for a condition, with a deadline: never for a time.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, and panics with `what` if it does not within `deadline`.
pub async fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually_async(what, deadline, async || condition()).await;
}

/// The same for a condition that has to be asked for.
pub async fn eventually_async(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
