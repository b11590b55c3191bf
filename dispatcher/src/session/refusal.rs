//! A request that the target did not take: it failed, or the target says that it is elsewhere.

use std::time::Duration;

/// A request that did not succeed.
pub(super) struct Failed<'a> {
    /// The sequences of its events.
    pub(super) load: &'a [u64],
    /// Which attempt at them it was.
    pub(super) attempt: u32,
    pub(super) error: String,
    pub(super) duration: Duration,
    /// The wait that the target asks for.
    pub(super) after: Option<Duration>,
    /// A number from 0 to 1 for the wait.
    pub(super) jitter: f64,
}

/// What a target has said.
#[derive(Debug)]
pub(super) struct Said {
    /// The events of the request, and which attempt at them it was.
    pub(super) load: Vec<u64>,
    pub(super) attempt: u32,
    /// It has had everything up to here.
    pub(super) resumes_after: u64,
    pub(super) duration: Duration,
    pub(super) jitter: f64,
}
