//! The end of the log, read once and handed to all lanes that have caught up.
//!
//! One consumer reads everything that is stored from now on; `recent` keeps the latest of it, so that a lane can join
//! behind any sequence which that reaches back to, and misses nothing; `followers` says whose an event is. A lane that
//! does not keep up is let go, and reads the past (see `shared_catch_up`) until it has caught up. Without followers nothing is read.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::event_log::{EventLog, LogBounds};
use broker::feed::FeedError;
use broker::{Broker, Link, Unavailable};
use domain::log_epoch::Mark;
use domain::{SubscriptionId, TypePattern};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

mod followers;

use crate::source::known_log::{Era, KnownLog};
use crate::source::log_bounds::KnownBounds;
use crate::source::queue::Queue;
use crate::source::recent::{Recent, RecentLimits};
pub(crate) use followers::Follower;
use followers::Followers;

/// What is kept, so that a lane which has nearly caught up finds what it has not had.
const KEPT: RecentLimits = RecentLimits { events: 4_096, bytes: 16 * 1024 * 1024 };
/// From how far back the log is read at first, in messages: so that lanes which were at its end when a dispatcher stopped
/// find what has come since.
const LOOK_BACK: u64 = 1_000;
/// How long a lane waits for the log to be read, before it reads its own consumer.
const JOIN_DEADLINE: Duration = Duration::from_secs(2);
/// How long the log is read on without a follower.
const LINGER: Duration = Duration::from_secs(2);
/// How often it is looked whether reading has stopped, or is of use to nobody.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing may come though there is something.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// How long to wait before reading again after a failure.
const RETRY: Duration = Duration::from_millis(250);

/// The end of the log, for all lanes.
pub(crate) struct Tail {
    state: Mutex<TailState>,
    /// The connection that the log is read on, and which log that is, while it is read.
    reading: watch::Sender<Option<Era>>,
    /// Whether a lane wants it to be read.
    is_wanted: AtomicBool,
    /// How many messages the server has that were not read yet, when the last one was.
    unread: AtomicU64,
    wanted: tokio::sync::Notify,
}

struct TailState {
    /// The number of the log that was read; `None`: it is another one than that, and nobody has said so yet.
    log: Option<u64>,
    number: u64,
    recent: Recent,
    followers: Followers,
}

/// Who looks what became of sequences that a reader of all events was not given.
pub(crate) trait Jumps: Sync {
    /// Looks. What is found is known to all when it returns.
    fn jumped(&self, from: u64, to: u64) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// A lane that wants to follow.
pub(crate) struct Joining<'a> {
    pub(crate) id: &'a SubscriptionId,
    pub(crate) filters: &'a [TypePattern],
    /// It has read everything up to here.
    pub(crate) position: u64,
    /// What was removed up to here is none of its concern: it wants nothing of it, or knows of it.
    pub(crate) accounted_to: u64,
    /// The connection and the log that it was set up on.
    pub(crate) era: Era,
}

impl Tail {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(TailState {
                log: Some(0),
                number: 0,
                recent: Recent::nothing(KEPT),
                followers: Followers::default(),
            }),
            reading: watch::Sender::new(None),
            is_wanted: AtomicBool::new(false),
            unread: AtomicU64::new(0),
            wanted: tokio::sync::Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, TailState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a lane follow from its position on, or from behind it where nothing that it wants lies in between; `None` where
    /// there is too much before it, or something may have been removed that it was not given.
    pub(crate) async fn join(
        self: &Arc<Self>,
        log: &EventLog,
        joining: &Joining<'_>,
    ) -> Result<Option<Follower>, Unavailable> {
        self.is_wanted.store(true, Ordering::Relaxed);
        self.wanted.notify_one();
        let mut reading = self.reading.subscribe();
        let is_read = reading.wait_for(|era| *era == Some(joining.era));
        if timeout(JOIN_DEADLINE, is_read).await.is_err() {
            return Ok(None);
        }
        let mut from = joining.position;
        let (reaches_back, read_to) = self.reach(from);
        if !reaches_back {
            let read_to = read_to.min(log.last_sequence().await?);
            let wanted = log.first_of(from + 1, joining.filters).await?;
            from = from.max(wanted.map_or(read_to, |wanted| read_to.min(wanted - 1)));
            // By a look-up that begins now: what was removed before is not among what was found.
            if log.bounds().await?.first_sequence > joining.accounted_to + 1 {
                return Ok(None);
            }
        }
        // What was looked up is true of this connection and this log only.
        let mut state = self.state();
        if *self.reading.borrow() != Some(joining.era) || !state.recent.reaches_back_to(from) {
            return Ok(None);
        }
        let queue = Queue::new(from, joining.position);
        if !state.recent.since(from, joining.filters).all(|event| queue.add(event)) {
            return Ok(None);
        }
        let number = state.followers.add(joining.id, joining.filters, &queue);
        Ok(Some(Follower::new(self.clone(), number, queue)))
    }

    fn leave(&self, number: u64) {
        self.state().followers.remove(number);
    }

    /// Whether what is kept reaches back to a sequence, and to where everything has been read.
    fn reach(&self, sequence: u64) -> (bool, u64) {
        let state = self.state();
        (state.recent.reaches_back_to(sequence), state.recent.read_to())
    }

    /// Everything up to here has been handed to those who want it.
    fn read_to(&self) -> u64 {
        self.state().recent.read_to()
    }

    /// How many messages of the log are known to be there and were not read yet: they may be anyone's.
    fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// What identifies the newest event that was read, if that was in this log.
    pub(crate) fn newest_of(&self, log: u64) -> Option<Mark> {
        let state = self.state();
        if state.log == Some(log) { state.recent.newest() } else { None }
    }

    /// What identifies the events of a part of this log that are kept, in order.
    pub(crate) fn marks_of(&self, log: u64, from: u64, to: u64) -> Vec<Mark> {
        let state = self.state();
        if state.log == Some(log) { state.recent.marks_between(from, to) } else { Vec::new() }
    }

    /// How a lane that follows stands: its position, and how much it has before it.
    pub(crate) fn standing(&self, id: &SubscriptionId) -> Option<(u64, u64)> {
        self.state().followers.of(id).map(|queue| queue.standing())
    }

    /// Reads the log while somebody follows, for ever.
    pub(crate) async fn keep_reading(
        &self,
        broker: &Broker,
        log: &EventLog,
        known_log: &KnownLog,
        log_bounds: watch::Receiver<KnownBounds>,
        jumps: &impl Jumps,
    ) -> Infallible {
        let mut link = broker.link();
        loop {
            let up = link.wait_for(|link| link.is_up).await.map(|link| link.generation);
            let Ok(generation) = up else { return std::future::pending().await };
            if !self.is_wanted.load(Ordering::Relaxed) {
                tokio::select! {
                    () = self.wanted.notified() => {}
                    changed = link.changed() => if changed.is_err() { return std::future::pending().await },
                }
                continue;
            }
            let era = known_log.on(generation).await.era;
            let read = self.read((broker, log), &mut link, era, (&log_bounds, jumps)).await;
            self.reading.send_replace(None);
            match read {
                // It is opened again right before what it cannot read, and so passes over that.
                Ok(()) | Err(FeedError::Unreadable) => {}
                Err(error) => {
                    tracing::warn!(%error, "tail.interrupted");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Reads the log over one connection, until it ends or nobody follows any more.
    async fn read(
        &self,
        (broker, log): (&Broker, &EventLog),
        link: &mut watch::Receiver<Link>,
        era: Era,
        (log_bounds, jumps): (&watch::Receiver<KnownBounds>, &impl Jumps),
    ) -> Result<(), FeedError> {
        let from = self.begin(log, era).await?;
        let mut tail = broker::log_reader::LogReader::open(broker, from).await?;
        self.unread.store(tail.backlog, Ordering::Relaxed);
        let mut other_log = log_bounds.clone();
        self.reading.send_replace(Some(era));
        tracing::debug!(from, "tail.reading");
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut wanted_at, mut came_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                read = tail.next() => {
                    let read = read?;
                    came_at = Instant::now();
                    let due = self.read_to() + 1;
                    if read.sequence > due {
                        let first_sequence = log.bounds().await?.first_sequence;
                        if first_sequence > due {
                            self.state().is_cut_to(first_sequence);
                        }
                        // Before anybody is given what is behind it.
                        jumps.jumped(due.max(first_sequence), read.sequence - 1).await?;
                    }
                    let unread = read.backlog;
                    self.state().take_in(read);
                    self.unread.store(unread, Ordering::Relaxed);
                }
                () = async { drop(link.wait_for(|link| link.generation != era.generation).await) } => return Ok(()),
                // What is kept, and what comes, may be of the log before.
                () = async { drop(other_log.wait_for(|known| known.log != era.log).await) } => return Ok(()),
                _ = look.tick() => {
                    if log_bounds.borrow().settled_to <= self.read_to() {
                        came_at = Instant::now();
                    } else if came_at.elapsed() > LONGEST_SILENCE {
                        return Err(Unavailable::new("reading the tail", "nothing comes, though there is something").into());
                    }
                    if self.is_wanted.swap(false, Ordering::Relaxed) || !self.state().followers.is_empty() {
                        wanted_at = Instant::now();
                    } else if wanted_at.elapsed() > LINGER {
                        self.reading.send_replace(None);
                        tail.close().await?;
                        return Ok(());
                    }
                    if !self.state().followers.is_empty() {
                        self.is_wanted.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Where to read on: behind what was read last, if the log still goes on there, and not far from its end unless
    /// somebody follows.
    async fn begin(&self, log: &EventLog, era: Era) -> Result<u64, Unavailable> {
        let (bounds, newest) = (log.bounds().await?, self.state().recent.newest());
        let found = match &newest {
            Some(newest) if bounds.evidence().holds(newest.sequence) => log.mark_at(newest.sequence).await?,
            _ => None,
        };
        let is_same = newest.is_some() && found == newest;
        // A hole proves nothing.
        let is_cut = newest.as_ref().is_some_and(|newest| newest.sequence > bounds.last_sequence);
        let is_lacking = is_cut || (found.is_some() && !is_same);
        let mut state = self.state();
        // What is read from now on may be of a log that nobody has named yet.
        let is_other = state.number == era.log && (is_lacking || state.log.is_none());
        let is_same = is_same && state.number == era.log;
        (state.log, state.number) = ((!is_other).then_some(era.log), era.log);
        Ok(state.begin_in(&bounds, is_same))
    }
}

impl TailState {
    /// Where to read on, and forgets what was read where it is not in the log (`is_same`), or is far from its end.
    fn begin_in(&mut self, bounds: &LogBounds, is_same: bool) -> u64 {
        let state = self;
        let read_to = state.recent.read_to();
        let is_far = state.followers.is_empty() && read_to + LOOK_BACK < bounds.last_sequence;
        if state.recent.is_empty()
            || !is_same
            || is_far
            || read_to > bounds.last_sequence
            || read_to + 1 < bounds.first_sequence
        {
            state.let_all_go();
            let from = bounds.first_sequence.max((bounds.last_sequence + 1).saturating_sub(LOOK_BACK)).max(1);
            state.recent = Recent::behind(from - 1, KEPT);
        }
        state.recent.read_to() + 1
    }

    fn take_in(&mut self, read: broker::log_reader::LogMessage) {
        let event = read.event.map(Arc::new);
        if let Some(event) = &event {
            self.followers.hand_out(event);
        }
        self.recent.add(read.sequence, event);
    }

    /// What was not read and lies before a sequence was removed. It may have been somebody's: each lane finds out for itself,
    /// those too that come later.
    fn is_cut_to(&mut self, first_sequence: u64) {
        self.let_all_go();
        self.recent = Recent::behind(first_sequence - 1, KEPT);
    }

    fn let_all_go(&mut self) {
        self.followers.let_all_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::recent::tests::event;

    #[test]
    fn what_was_removed_before_it_was_read_is_not_taken_for_read() {
        let tail = Tail::new();
        let mut state = tail.state();
        state.recent = Recent::behind(0, KEPT);
        assert!(state.recent.reaches_back_to(0), "a lane that begins at 1 may join");
        state.is_cut_to(3);
        for sequence in [3, 4] {
            state.take_in(broker::log_reader::LogMessage {
                sequence,
                backlog: 0,
                event: Some((*event(sequence, "a")).clone()),
            });
        }
        assert!(!state.recent.reaches_back_to(0) && !state.recent.reaches_back_to(1));
        assert!(state.recent.reaches_back_to(2), "1 and 2 were removed: a lane that knows it may join");
    }
}
