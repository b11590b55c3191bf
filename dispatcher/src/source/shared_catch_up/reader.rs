//! Lanes that read a part of the past together.
//!
//! No task of its own reads for them: a lane that has nothing to deliver reads, for all. So the quickest sets the pace, and
//! one that does not keep up is let go: it goes on from its position by itself, or with others that are there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::feed::{Delivery, FeedError};
use broker::log_reader::{LogMessage, LogReader};
use broker::{Broker, Unavailable};
use domain::{SubscriptionId, TypePattern};
use futures_util::FutureExt;

use super::SharedCatchUp;
use crate::source::known_log::Era;
use crate::source::queue::{Queue, QueueEnd};
use crate::source::recent::{Recent, RecentLimits};
use crate::source::tail::Joining;

/// What is kept, so that others can join: less than what may wait for a lane, or they would be let go at once.
const KEPT: RecentLimits = RecentLimits { events: 512, bytes: 2 * 1024 * 1024 };
/// How far ahead of what was read a lane may be that joins, in sequences: it waits until the others are there.
const AHEAD: u64 = 256;
/// How many messages that have come are read at a time.
const AT_A_TIME: usize = 64;

/// Lanes with the same filters that are at about the same place.
pub(super) struct SharedReader {
    pub(super) filters: Vec<TypePattern>,
    /// The connection that it reads on, and the log.
    era: Era,
    state: Mutex<ReaderState>,
    /// How many messages the server has that were not read yet, when the last one was.
    unread: AtomicU64,
    /// Held by the lane that reads for all.
    past: tokio::sync::Mutex<LogReader>,
}

struct ReaderState {
    recent: Recent,
    queues: Vec<Arc<Queue>>,
    has_ended: bool,
}

/// A lane that reads with others. It leaves when it is dropped.
pub(crate) struct Member {
    shared_catch_up: Arc<SharedCatchUp>,
    id: SubscriptionId,
    reader: Arc<SharedReader>,
    queue: Arc<Queue>,
}

impl SharedReader {
    /// Begins to read from a lane's position on.
    pub(super) async fn begin(broker: &Broker, joining: &Joining<'_>) -> Result<(Arc<Self>, Arc<Queue>), Unavailable> {
        let Joining { filters, position, era, .. } = *joining;
        let past = LogReader::open_past(broker, position + 1, filters).await?;
        let queue = Queue::new(position, position);
        let state =
            ReaderState { recent: Recent::behind(position, KEPT), queues: vec![queue.clone()], has_ended: false };
        let reader = Self {
            filters: filters.to_vec(),
            era,
            state: Mutex::new(state),
            unread: AtomicU64::new(past.backlog),
            past: tokio::sync::Mutex::new(past),
        };
        Ok((Arc::new(reader), queue))
    }

    fn state(&self) -> MutexGuard<'_, ReaderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for another lane, if this is where it is.
    pub(super) fn make_room(&self, joining: &Joining<'_>) -> Option<Arc<Queue>> {
        let mut state = self.state();
        let from = joining.position;
        let is_near = state.recent.reaches_back_to(from) && from <= state.recent.read_to() + AHEAD;
        if state.has_ended || joining.era != self.era || !is_near {
            return None;
        }
        let queue = Queue::new(from, from);
        if !state.recent.since(from, &self.filters).all(|event| queue.add(event)) {
            return None;
        }
        state.queues.push(queue.clone());
        Some(queue)
    }

    /// Answers whether nobody is left.
    pub(super) fn leave(&self, queue: &Arc<Queue>) -> bool {
        let mut state = self.state();
        state.queues.retain(|known| !Arc::ptr_eq(known, queue));
        state.queues.is_empty()
    }

    /// How many messages are known to be there and were not read yet.
    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Reads for all what comes next, and what has come with it. A lane that stops waiting for it loses nothing.
    async fn read(&self) {
        let mut past = self.past.lock().await;
        let mut next = Some(past.next().await);
        for at_hand in 1..=AT_A_TIME {
            match next.take() {
                Some(Ok(read)) => self.hand_out(read),
                Some(Err(error)) => return self.end(&error),
                None => return,
            }
            if at_hand < AT_A_TIME {
                next = past.next().now_or_never();
            }
        }
    }

    fn hand_out(&self, read: LogMessage) {
        let event = read.event.map(Arc::new);
        let mut state = self.state();
        if let Some(event) = &event {
            state.queues.retain(|queue| queue.add(event));
        }
        state.recent.add(read.sequence, event);
        // After what it goes with: a lane that looks never takes what waits for less.
        self.unread.store(read.backlog, Ordering::Relaxed);
    }

    /// All go on behind what they have been handed, in another way.
    fn end(&self, error: &FeedError) {
        let mut state = self.state();
        let end = if matches!(error, FeedError::Unreadable) { QueueEnd::Unreadable } else { QueueEnd::Ended };
        if end == QueueEnd::Ended {
            tracing::warn!(%error, lanes = state.queues.len(), "replay.interrupted");
        }
        state.has_ended = true;
        state.queues.drain(..).for_each(|queue| queue.end(end));
    }
}

impl Member {
    pub(super) fn new(
        shared_catch_up: Arc<SharedCatchUp>,
        id: SubscriptionId,
        reader: Arc<SharedReader>,
        queue: Arc<Queue>,
    ) -> Self {
        Self { shared_catch_up, id, reader, queue }
    }

    /// The next event that the lane's filters let through.
    pub(crate) async fn next(&mut self) -> Result<Delivery, FeedError> {
        loop {
            // In this order: what is read meanwhile is in the queue.
            let unread = self.reader.unread();
            if let Some(next) = self.queue.take() {
                return next.map(|(event, waiting)| Delivery::of_tail(event, waiting + unread));
            }
            tokio::select! {
                biased;
                () = self.queue.news() => {}
                () = self.reader.read() => {}
            }
        }
    }

    /// Reads what has come, for all, where nothing waits for this lane.
    pub(crate) fn read_ahead(&self) {
        if self.queue.len() == Some(0) {
            self.reader.read().now_or_never();
        }
    }

    /// How many events wait, and may wait.
    pub(crate) fn backlog(&self) -> u64 {
        // In this order: what is read meanwhile is in the queue.
        let unread = self.reader.unread();
        unread + self.queue.len().unwrap_or(0) as u64
    }

    /// Shows how far the lane has come, and what it has taken from here and not delivered.
    pub(crate) fn note(&self, position: u64, in_hand: usize) {
        self.queue.note(position, in_hand);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared_catch_up.leave(&self.id, &self.reader, &self.queue);
    }
}
