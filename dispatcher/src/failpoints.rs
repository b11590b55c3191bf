//! Ways to break the dispatcher on purpose, so that tests see that the checker of histories finds what comes of it.
//!
//! Only in builds with the feature `failpoints`, which nothing that is shipped has; there the environment variable
//! `MER_FAILPOINT` names what is broken, and the log says so at the start. In all other builds nothing reads it, and every
//! question here is answered `false` when it is compiled.

use domain::{Lane, Subscription};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failpoint {
    /// An event is acknowledged before the target has taken it.
    AcknowledgeEarly,
    /// Nothing keeps a dispatcher that has lost its lease from going on.
    NoFencing,
    /// A lane that is to begin in the past begins one sequence too late.
    ReplayOffByOne,
}

/// Says in the log that this build can be broken, and whether it is.
#[cfg(feature = "failpoints")]
pub(crate) fn declare() {
    match chosen() {
        None => tracing::warn!("dispatcher.has_failpoints"),
        Some(failpoint) => tracing::error!(?failpoint, "dispatcher.failpoint_active"),
    }
}

#[cfg(not(feature = "failpoints"))]
pub(crate) const fn declare() {}

/// Whether an event is to be acknowledged before it is sent.
pub(crate) fn acknowledges_early() -> bool {
    is_chosen(Failpoint::AcknowledgeEarly)
}

/// Whether leases, epochs and the revisions of `LANES` are to count for nothing.
pub(crate) fn has_no_fencing() -> bool {
    is_chosen(Failpoint::NoFencing)
}

/// Lets a lane that begins in the past, or goes back to it, begin one sequence too late, if that is asked for.
pub(crate) fn misplace(lane: &mut Lane, before: Option<&Lane>, asked: &Subscription) {
    if is_chosen(Failpoint::ReplayOffByOne)
        && before.is_none_or(|before| lane.position < before.position)
        && lane.position + 1 < lane.live_from(asked)
    {
        lane.position += 1;
    }
}

#[cfg(feature = "failpoints")]
fn is_chosen(failpoint: Failpoint) -> bool {
    chosen() == Some(failpoint)
}

#[cfg(not(feature = "failpoints"))]
const fn is_chosen(_: Failpoint) -> bool {
    false
}

/// What `MER_FAILPOINT` names.
#[cfg(feature = "failpoints")]
fn chosen() -> Option<Failpoint> {
    static CHOSEN: std::sync::LazyLock<Option<Failpoint>> = std::sync::LazyLock::new(|| {
        let name = std::env::var_os("MER_FAILPOINT")?;
        Some(match name.to_str() {
            Some("acknowledge_early") => Failpoint::AcknowledgeEarly,
            Some("no_fencing") => Failpoint::NoFencing,
            Some("replay_off_by_one") => Failpoint::ReplayOffByOne,
            _ => panic!("MER_FAILPOINT={name:?} is none of acknowledge_early, no_fencing, replay_off_by_one"),
        })
    });
    *CHOSEN
}
