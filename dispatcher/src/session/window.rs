//! What a worker has read of its feed and not settled, in the log's order; and which of it may be sent now.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Event;
use domain::delivery_settings::{DeliverySettings, Mode};
use domain::lane::{Due, Failure};
use domain::required_data::Found;

use crate::push::delivery_request::Item;

/// How far a worker reads ahead of what it has settled, in messages: well below what may be out at once.
const MAX_AHEAD: usize = 512;
/// The most data that it holds, in bytes, beside the event that goes beyond.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch waits for an event that the server has said there is.
const LINGER: Duration = Duration::from_millis(20);

/// The events that are being delivered, and those behind them that have been read.
pub(crate) struct Window<D> {
    shape: Shape,
    slots: VecDeque<Slot<D>>,
    bytes: usize,
    /// How many are not settled.
    unsettled: usize,
    /// How many messages the server had behind the newest one.
    behind: u64,
    under_way: usize,
    /// When the first event that is to be delivered came in.
    opened_at: Option<Instant>,
    /// Nothing more is taken in before it is empty.
    is_closed: bool,
    /// The batch was tried as often as was asked for: its events go one by one.
    is_apart: bool,
    /// How much data the events of one request may have, in bytes.
    most_bytes: usize,
}

/// What goes in one request, and how many requests at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Ordered,
    Batched { max_events: usize, max_wait: Duration },
    Concurrent { requests: usize },
}

/// One message of the feed.
pub(crate) struct Slot<D> {
    pub(super) sequence: u64,
    /// The message itself: to be acknowledged.
    pub(super) token: D,
    /// How many messages the server had behind it.
    pub(super) backlog: u64,
    /// What is to be delivered, if anything is.
    pub(crate) load: Option<Load>,
    /// Whether an entry's end was over when it was stored.
    pub(super) reached_end: bool,
    pub(super) stage: Stage,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// What came of the last attempt, where it failed.
    pub(super) failure: Option<Failure>,
}

/// An event, and what was found out about it.
pub(crate) struct Load {
    pub(crate) event: Arc<Event>,
    pub(super) found: Found,
    /// `None`: nobody wants it.
    pub(crate) due: Option<Due>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be tried, at that moment if there is one.
    Waiting(Option<Instant>),
    UnderWay,
    /// Tried as often as was asked for.
    Exhausted,
    /// The target has it.
    Taken,
    /// It is among the dead letters.
    Buried,
    /// Nobody wants it.
    Passed,
}

impl Stage {
    pub(super) fn is_settled(self) -> bool {
        matches!(self, Self::Taken | Self::Buried | Self::Passed)
    }
}

impl<D> Window<D> {
    pub(super) fn new(settings: &DeliverySettings) -> Self {
        let shape = match settings.mode {
            Mode::Ordered => Shape::Ordered,
            Mode::Batched => {
                Shape::Batched { max_events: settings.batch_max_events(), max_wait: settings.batch_max_wait() }
            }
            Mode::Concurrent => Shape::Concurrent { requests: settings.concurrency() },
        };
        Self {
            shape,
            slots: VecDeque::new(),
            bytes: 0,
            unsettled: 0,
            behind: 0,
            under_way: 0,
            opened_at: None,
            is_closed: false,
            is_apart: false,
            most_bytes: settings.batch_max_bytes().unwrap_or(usize::MAX),
        }
    }

    /// Has requests with several events have no more data than this.
    pub(super) fn limit_bytes(&mut self, most: usize) {
        self.most_bytes = self.most_bytes.min(most);
    }

    /// How much data the events of a load have, in bytes.
    pub(super) fn bytes_of(&self, load: &[u64]) -> usize {
        load.iter().filter_map(|sequence| self.get(*sequence)).map(Slot::size).sum()
    }

    /// These were not tried: their request was too large.
    pub(super) fn was_too_large(&mut self, sequences: &[u64]) {
        self.each(sequences, |slot| slot.attempts = slot.attempts.saturating_sub(1));
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The events up to a sequence that were sent at least once, and are not settled.
    pub(super) fn sent_up_to(&self, sequence: u64) -> Vec<u64> {
        let sent = self.unsettled().filter(|slot| slot.sequence <= sequence && slot.attempts > 0);
        sent.map(|slot| slot.sequence).collect()
    }

    /// What a request has of the events of a load, each with what is delivered to the URL before it: as it is when the
    /// request is made, for what was to come before may have become a dead letter meanwhile. `last_delivered`: what was
    /// delivered before the window.
    pub(crate) fn items(&self, load: &[u64], last_delivered: u64) -> Vec<Item<'_>> {
        let (mut previous, mut items) = (last_delivered, Vec::with_capacity(load.len()));
        let wanted = self.slots.iter().filter_map(|slot| Some((slot, slot.load.as_ref()?)));
        for (slot, Load { event, due, .. }) in wanted {
            let Some(due) = due.as_ref().filter(|_| slot.stage != Stage::Buried) else { continue };
            if load.binary_search(&slot.sequence).is_ok() {
                items.push((&**event, due, previous));
                if items.len() == load.len() {
                    break;
                }
            }
            previous = slot.sequence;
        }
        items
    }

    /// How often the events of a load were tried, at most.
    pub(crate) fn attempts(&self, load: &[u64]) -> u32 {
        load.iter().filter_map(|sequence| self.get(*sequence)).map(|slot| slot.attempts).max().unwrap_or(1)
    }

    /// Whether it ever holds more than one event.
    pub(super) fn reads_ahead(&self) -> bool {
        self.shape != Shape::Ordered
    }

    /// Whether several events go in one request.
    pub(crate) fn is_batched(&self) -> bool {
        matches!(self.shape, Shape::Batched { .. })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn first(&self) -> Option<&Slot<D>> {
        self.slots.front()
    }

    /// The newest sequence in it.
    pub(super) fn newest(&self) -> Option<u64> {
        self.slots.back().map(|slot| slot.sequence)
    }

    /// There are so many messages that it has not been given.
    pub(super) fn is_behind(&mut self, messages: u64) {
        self.behind = messages;
    }

    /// How many messages wait to be settled: in it, and behind it as far as the server has said.
    pub(crate) fn waiting(&self) -> u64 {
        self.unsettled as u64 + self.behind
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Slot<D>> {
        let at = self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()?;
        self.slots.get(at)
    }

    /// The event that is to be delivered at a sequence, if one is.
    pub(crate) fn event(&self, sequence: u64) -> Option<&Event> {
        Some(&*self.get(sequence)?.load.as_ref()?.event)
    }

    /// Whether another message is to be read.
    pub(super) fn wants_more(&self) -> bool {
        !self.is_closed
            && match self.shape {
                Shape::Ordered => self.slots.is_empty(),
                Shape::Batched { max_events, .. } => !self.is_full(max_events),
                Shape::Concurrent { .. } => !self.is_full(MAX_AHEAD),
            }
    }

    fn is_full(&self, most: usize) -> bool {
        let most_bytes = if self.is_batched() { MAX_BYTES.min(self.most_bytes) } else { MAX_BYTES };
        self.slots.len() >= most.max(MAX_AHEAD) || self.bytes >= most_bytes || self.unsettled >= most
    }

    /// Takes in a message; they come in the log's order.
    pub(super) fn add(&mut self, slot: Slot<D>, now: Instant) {
        self.behind = slot.backlog;
        if !slot.stage.is_settled() {
            self.opened_at.get_or_insert(now);
            self.unsettled += 1;
            self.bytes += slot.size();
        }
        self.slots.push_back(slot);
    }

    /// Takes in nothing more before it is empty.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Has the events of a batch go one by one, each with all the attempts that it may have.
    pub(super) fn take_apart(&mut self) {
        self.is_apart = true;
        for slot in self.slots.iter_mut().filter(|slot| !slot.stage.is_settled()) {
            (slot.stage, slot.attempts) = (Stage::Waiting(None), 0);
        }
    }

    /// What may go now as one request: the sequences of its events.
    pub(super) fn next_load(&self, now: Instant) -> Option<Vec<u64>> {
        let is_ready = |slot: &Slot<D>| matches!(slot.stage, Stage::Waiting(at) if at.is_none_or(|at| at <= now));
        let first = self.unsettled().next()?;
        match self.shape {
            Shape::Ordered => is_ready(first).then(|| vec![first.sequence]),
            Shape::Batched { .. } if self.is_apart => is_ready(first).then(|| vec![first.sequence]),
            Shape::Batched { max_events, .. } => {
                let is_complete =
                    self.is_closed || self.is_full(max_events) || self.goes_at().is_some_and(|at| at <= now);
                let is_due = self.under_way == 0 && is_complete && is_ready(first);
                is_due.then(|| self.one_request())
            }
            Shape::Concurrent { requests } if self.under_way >= requests => None,
            Shape::Concurrent { .. } => {
                let mut behind_another = HashSet::new();
                for slot in self.unsettled() {
                    let transaction = slot.load.as_ref().map(|load| load.event.transaction_id.as_str());
                    if is_ready(slot) && !behind_another.contains(&transaction) {
                        return Some(vec![slot.sequence]);
                    }
                    behind_another.insert(transaction);
                }
                None
            }
        }
    }

    /// The first events that fit into one request: at least one.
    fn one_request(&self) -> Vec<u64> {
        let mut bytes = 0_usize;
        let fits = |(at, slot): &(usize, &Slot<D>)| {
            bytes = bytes.saturating_add(slot.size());
            *at == 0 || bytes <= self.most_bytes
        };
        self.unsettled().enumerate().take_while(fits).map(|(_, slot)| slot.sequence).collect()
    }

    /// When to look again whether something may go.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let tries = self.unsettled().filter_map(|slot| match slot.stage {
            Stage::Waiting(at) => at,
            _ => None,
        });
        let goes = self.goes_at().filter(|_| self.under_way == 0);
        tries.chain(goes).filter(|at| *at > now).min()
    }

    /// When a batch goes, whether it is full or not.
    fn goes_at(&self) -> Option<Instant> {
        let Shape::Batched { max_wait, .. } = self.shape else { return None };
        let is_last = self.slots.back().is_some_and(|slot| slot.backlog == 0);
        Some(self.opened_at? + if is_last { max_wait } else { max_wait.max(LINGER) })
    }

    /// Records that these are sent.
    pub(super) fn send(&mut self, sequences: &[u64]) {
        self.under_way += 1;
        self.is_closed |= self.is_batched();
        self.each(sequences, |slot| {
            slot.stage = Stage::UnderWay;
            slot.attempts = slot.attempts.saturating_add(1);
        });
    }

    /// Records what came of a request.
    pub(super) fn landed(&mut self, sequences: &[u64], stage: Stage) {
        self.under_way -= 1;
        self.each(sequences, |slot| {
            slot.stage = stage;
            if stage == Stage::Taken {
                slot.failure = None;
            }
        });
    }

    /// Records how far one has come.
    pub(super) fn set(&mut self, sequence: u64, stage: Stage) {
        self.each(&[sequence], |slot| slot.stage = stage);
    }

    /// Records what came of the last attempt at one.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.each(&[failure.sequence], |slot| slot.failure = Some(failure.clone()));
    }

    fn each(&mut self, sequences: &[u64], mut change: impl FnMut(&mut Slot<D>)) {
        for sequence in sequences {
            if let Ok(at) = self.slots.binary_search_by_key(sequence, |slot| slot.sequence) {
                let slot = &mut self.slots[at];
                let was_settled = slot.stage.is_settled();
                change(slot);
                self.unsettled -= usize::from(!was_settled && slot.stage.is_settled());
            }
        }
    }

    /// The first one that was tried as often as was asked for.
    pub(super) fn exhausted(&self) -> Option<&Slot<D>> {
        self.slots.iter().find(|slot| slot.stage == Stage::Exhausted)
    }

    /// What came of the last attempt at the first one that fails.
    pub(super) fn first_failure(&self) -> Option<&Failure> {
        self.slots.iter().find_map(|slot| slot.failure.as_ref())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        (self.bytes, self.unsettled, self.opened_at) = (0, 0, None);
        (self.is_closed, self.is_apart) = (false, false);
    }

    /// Takes out the first message, if it is settled.
    pub(super) fn pop_settled(&mut self) -> Option<Slot<D>> {
        if !self.slots.front()?.stage.is_settled() {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.bytes = self.bytes.saturating_sub(slot.size());
        if self.unsettled == 0 {
            (self.opened_at, self.is_apart) = (None, false);
        }
        if self.slots.is_empty() {
            (self.is_closed, self.bytes) = (false, 0);
        }
        Some(slot)
    }

    fn unsettled(&self) -> impl Iterator<Item = &Slot<D>> {
        self.slots.iter().filter(|slot| !slot.stage.is_settled())
    }
}

impl<D> Slot<D> {
    fn size(&self) -> usize {
        let due = self.load.as_ref().and_then(|load| load.due.as_ref());
        due.map_or(0, |due| due.data.len())
    }
}

#[cfg(test)]
mod tests;
