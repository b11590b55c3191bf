//! What waits for one lane where several are read for together, and how that lane stands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::feed::FeedError;
use domain::Event;
use tokio::sync::Notify;

/// How many events may wait for a lane, and how much data, in bytes, before it is let go.
pub(crate) const MAX_EVENTS: usize = 1_024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why nothing more waits for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueEnd {
    /// It has let too much pile up.
    Behind,
    /// Reading for several has ended.
    Ended,
    /// Reading has come to a message that cannot be read.
    Unreadable,
}

/// What waits for one lane.
pub(crate) struct Queue {
    waiting: Mutex<QueueState>,
    news: Notify,
}

struct QueueState {
    /// The lane has what lies up to here.
    from: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Why nothing more will come.
    end: Option<QueueEnd>,
    /// How far the lane has come, and how many of the events that it has taken from here it has not delivered.
    position: u64,
    in_hand: u64,
}

impl Queue {
    pub(crate) fn new(from: u64, position: u64) -> Arc<Self> {
        let waiting = QueueState { from, events: VecDeque::new(), bytes: 0, end: None, position, in_hand: 0 };
        Arc::new(Self { waiting: Mutex::new(waiting), news: Notify::new() })
    }

    fn waiting(&self) -> MutexGuard<'_, QueueState> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an event. Answers whether there was room: otherwise the lane is let go.
    pub(crate) fn add(&self, event: &Arc<Event>) -> bool {
        let mut waiting = self.waiting();
        if event.sequence <= waiting.from {
            return true;
        }
        waiting.bytes += event.data.len();
        waiting.events.push_back(event.clone());
        let has_room = waiting.events.len() <= MAX_EVENTS && (waiting.bytes <= MAX_BYTES || waiting.events.len() == 1);
        drop(waiting);
        if has_room {
            self.news.notify_one();
        } else {
            self.let_go();
        }
        has_room
    }

    /// The lane reads by itself from where it is.
    pub(crate) fn let_go(&self) {
        self.waiting().events = VecDeque::new();
        self.end(QueueEnd::Behind);
    }

    /// Nothing comes behind what waits.
    pub(crate) fn end(&self, end: QueueEnd) {
        self.waiting().end.get_or_insert(end);
        self.news.notify_one();
    }

    /// The next event, and how many wait behind it.
    pub(crate) fn take(&self) -> Option<Result<(Arc<Event>, u64), FeedError>> {
        let mut waiting = self.waiting();
        let Some(event) = waiting.events.pop_front() else { return waiting.end.map(|end| Err(end.into())) };
        waiting.bytes -= event.data.len();
        waiting.in_hand += 1;
        if waiting.events.is_empty() {
            // Thousands of lanes wait; few of them for long lists.
            waiting.events = VecDeque::new();
        }
        Some(Ok((event, waiting.events.len() as u64)))
    }

    /// Waits until there is something to take.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// How many events wait; `None` where nothing comes behind them.
    pub(crate) fn len(&self) -> Option<usize> {
        let waiting = self.waiting();
        waiting.end.is_none().then_some(waiting.events.len())
    }

    /// Notes, to be shown, how far the lane has come, and how much it has taken from here and not delivered.
    pub(crate) fn note(&self, position: u64, in_hand: usize) {
        let mut waiting = self.waiting();
        (waiting.position, waiting.in_hand) = (position, in_hand as u64);
    }

    /// How far the lane has come, and how much it has before it.
    pub(crate) fn standing(&self) -> (u64, u64) {
        let waiting = self.waiting();
        (waiting.position, waiting.in_hand + waiting.events.len() as u64)
    }
}

impl From<QueueEnd> for FeedError {
    fn from(end: QueueEnd) -> Self {
        match end {
            QueueEnd::Behind => Self::Behind,
            QueueEnd::Ended => Self::Ended,
            QueueEnd::Unreadable => Self::Unreadable,
        }
    }
}
