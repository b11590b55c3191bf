//! Connections that nobody uses at the moment, kept for the next request of the same lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;

/// How long an unused connection is kept: less than the five seconds after which common servers close theirs.
const LONGEST: Duration = Duration::from_secs(4);

/// The unused connections of one lane: never more than it has had requests under way at a time. The one that was used
/// last is used next, so that those too many grow old.
#[derive(Default)]
pub(super) struct Kept(Mutex<KeptConnections>);

#[derive(Default)]
struct KeptConnections {
    /// Since when each has been unused: the oldest first.
    connections: Vec<(Instant, Connection)>,
    /// Whether the task that closes old connections knows of it.
    is_listed: bool,
}

/// Which lanes have unused connections: one list to go through, in place of a timer for each of them.
#[derive(Default)]
pub(super) struct Lists(Mutex<Vec<Weak<Kept>>>);

impl Kept {
    /// The one that was used last, unless it has grown too old: then all have.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut state = lock(&self.0);
        let (since, connection) = state.connections.pop()?;
        if since.elapsed() < LONGEST {
            return Some(connection);
        }
        state.connections.clear();
        None
    }

    /// Keeps a connection for later.
    pub(super) fn put(self: &Arc<Self>, connection: Connection, lists: &Lists) {
        let mut state = lock(&self.0);
        state.connections.push((Instant::now(), connection));
        if !std::mem::replace(&mut state.is_listed, true) {
            drop(state);
            lock(&lists.0).push(Arc::downgrade(self));
        }
    }

    /// Closes what has grown too old at this moment. Answers whether anything is left.
    fn close_old(&self, now: Instant) -> bool {
        let mut state = lock(&self.0);
        state.connections.retain(|(since, _)| now.saturating_duration_since(*since) < LONGEST);
        state.is_listed = !state.connections.is_empty();
        state.is_listed
    }
}

impl Lists {
    /// Closes what has grown too old at this moment.
    pub(super) fn close_old(&self, now: Instant) {
        let mut listed = std::mem::take(&mut *lock(&self.0));
        listed.retain(|kept| kept.upgrade().is_some_and(|kept| kept.close_old(now)));
        lock(&self.0).append(&mut listed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
