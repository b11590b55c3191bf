//! Whose an event is, among the lanes that follow the tail of the log.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::feed::{Delivery, FeedError};
use domain::{Event, SubscriptionId, TypePattern};
use tokio::sync::Notify;

use super::Tail;

/// How many events may wait for a lane, and how much data, in bytes, before it is let go.
const MAX_EVENTS: usize = 1_024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A lane that follows. It leaves when it is dropped.
pub(crate) struct Follower {
    tail: Arc<Tail>,
    number: u64,
    queue: Arc<Queue>,
}

/// What waits for one lane.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

struct Waiting {
    /// The lane has what lies up to here.
    from: u64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    is_let_go: bool,
    /// How far the lane has come, and how many of the events that it has taken from here it has not delivered.
    position: u64,
    in_hand: u64,
}

/// All lanes that follow.
#[derive(Default)]
pub(super) struct Followers {
    last_number: u64,
    lanes: HashMap<u64, Lane>,
    by_id: HashMap<SubscriptionId, u64>,
    /// By the types, and patterns of types, that they want. Those of one lane never overlap.
    by_type: HashMap<String, BTreeMap<u64, Arc<Queue>>>,
    by_pattern: BTreeMap<TypePattern, BTreeMap<u64, Arc<Queue>>>,
}

struct Lane {
    id: SubscriptionId,
    filters: Vec<TypePattern>,
    queue: Arc<Queue>,
}

impl Follower {
    pub(super) fn new(tail: Arc<Tail>, number: u64, queue: Arc<Queue>) -> Self {
        Self { tail, number, queue }
    }

    /// The next event that the lane's filters let through.
    pub(crate) async fn next(&mut self) -> Result<Delivery, FeedError> {
        loop {
            // In this order: what is read meanwhile is in the queue.
            let unread = self.tail.unread();
            if let Some(next) = self.queue.take() {
                return next.map(|(event, waiting)| Delivery::of_tail(event, waiting + unread));
            }
            self.queue.news.notified().await;
        }
    }

    /// How many events wait, and may wait.
    pub(crate) fn backlog(&self) -> u64 {
        // In this order: what is read meanwhile is in the queue.
        let unread = self.tail.unread();
        unread + self.queue.waiting().events.len() as u64
    }

    /// The lane has been given everything up to here that it wants; `None` while something waits for it.
    pub(crate) fn has_all_to(&self) -> Option<u64> {
        // In this order: what is read later waits for it later.
        let read_to = self.tail.read_to();
        let waiting = self.queue.waiting();
        (waiting.events.is_empty() && !waiting.is_let_go).then_some(read_to)
    }

    /// Tells whoever asks how far the lane has come, and what it has taken from here and not delivered.
    pub(crate) fn note(&self, position: u64, in_hand: usize) {
        let mut waiting = self.queue.waiting();
        (waiting.position, waiting.in_hand) = (position, in_hand as u64);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tail.leave(self.number);
    }
}

impl Queue {
    pub(super) fn new(from: u64, position: u64) -> Arc<Self> {
        let waiting = Waiting { from, events: VecDeque::new(), bytes: 0, is_let_go: false, position, in_hand: 0 };
        Arc::new(Self { waiting: Mutex::new(waiting), news: Notify::new() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an event. Answers whether there was room: otherwise the lane is let go.
    pub(super) fn add(&self, event: &Arc<Event>) -> bool {
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

    /// The lane reads its own consumer from where it is.
    fn let_go(&self) {
        let mut waiting = self.waiting();
        waiting.events = VecDeque::new();
        waiting.is_let_go = true;
        drop(waiting);
        self.news.notify_one();
    }

    /// The next event, and how many wait behind it.
    fn take(&self) -> Option<Result<(Arc<Event>, u64), FeedError>> {
        let mut waiting = self.waiting();
        if waiting.is_let_go {
            return Some(Err(FeedError::Behind));
        }
        let event = waiting.events.pop_front()?;
        waiting.bytes -= event.data.len();
        waiting.in_hand += 1;
        if waiting.events.is_empty() {
            // Thousands of lanes wait; few of them for long lists.
            waiting.events = VecDeque::new();
        }
        Some(Ok((event, waiting.events.len() as u64)))
    }

    /// How far the lane has come, and how much it has before it.
    pub(super) fn standing(&self) -> (u64, u64) {
        let waiting = self.waiting();
        (waiting.position, waiting.in_hand + waiting.events.len() as u64)
    }
}

impl Followers {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn of(&self, id: &SubscriptionId) -> Option<&Arc<Queue>> {
        Some(&self.lanes.get(self.by_id.get(id)?)?.queue)
    }

    /// Adds a lane; answers a number for it.
    pub(super) fn add(&mut self, id: &SubscriptionId, filters: &[TypePattern], queue: &Arc<Queue>) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        for filter in filters {
            let of_filter = if filter.is_one_type() {
                self.by_type.entry(filter.as_str().to_owned()).or_default()
            } else {
                self.by_pattern.entry(filter.clone()).or_default()
            };
            of_filter.insert(number, queue.clone());
        }
        self.by_id.insert(id.clone(), number);
        self.lanes.insert(number, Lane { id: id.clone(), filters: filters.to_vec(), queue: queue.clone() });
        number
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(lane) = self.lanes.remove(&number) else { return };
        if self.by_id.get(&lane.id) == Some(&number) {
            self.by_id.remove(&lane.id);
        }
        for filter in &lane.filters {
            if let Some(of_type) = self.by_type.get_mut(filter.as_str()).filter(|_| filter.is_one_type()) {
                of_type.remove(&number);
                if of_type.is_empty() {
                    self.by_type.remove(filter.as_str());
                }
            } else if let Some(of_pattern) = self.by_pattern.get_mut(filter) {
                of_pattern.remove(&number);
                if of_pattern.is_empty() {
                    self.by_pattern.remove(filter);
                }
            }
        }
    }

    /// Hands an event to everyone who wants it. Who has no room for it follows no more.
    pub(super) fn hand_out(&mut self, event: &Arc<Event>) {
        let of_type = self.by_type.get(event.event_type.as_str());
        let of_patterns = self.by_pattern.iter().filter(|(pattern, _)| pattern.matches(&event.event_type));
        let queues = of_type.into_iter().chain(of_patterns.map(|(_, queues)| queues)).flatten();
        let full: Vec<u64> = queues.filter(|(_, queue)| !queue.add(event)).map(|(number, _)| *number).collect();
        full.into_iter().for_each(|number| self.remove(number));
    }

    /// Nobody follows any more.
    pub(super) fn let_all_go(&mut self) {
        self.lanes.values().for_each(|lane| lane.queue.let_go());
        (self.lanes, self.by_id) = Default::default();
        (self.by_type, self.by_pattern) = Default::default();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use domain::Stamp;

    pub(in crate::tail) fn event(sequence: u64, event_type: &str) -> Arc<Event> {
        let (subject, at) = (format!("events.{event_type}"), Stamp::from_micros(0));
        Arc::new(Event::from_message("EVENTS", &subject, sequence, at, [], Bytes::from("{}")).unwrap())
    }

    fn id(name: &str) -> SubscriptionId {
        domain::TargetUrl::parse(&format!("http://{name}/")).unwrap().subscription_id()
    }

    fn patterns(texts: &[&str]) -> Vec<TypePattern> {
        texts.iter().map(|text| TypePattern::parse(text).unwrap()).collect()
    }

    fn taken(queue: &Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.take()).map_while(Result::ok).map(|(event, _)| event.sequence).collect()
    }

    #[test]
    fn each_lane_gets_what_it_wants_once_and_in_order() {
        let mut followers = Followers::default();
        let [one, all, none] = [0, 2, 0].map(|from| Queue::new(from, 0));
        let number = followers.add(&id("one"), &patterns(&["a", "b.*"]), &one);
        followers.add(&id("all"), &patterns(&[">"]), &all);
        followers.add(&id("none"), &patterns(&["c.d"]), &none);
        for (sequence, event_type) in [(1, "a"), (2, "b"), (3, "b.c"), (4, "a")] {
            followers.hand_out(&event(sequence, event_type));
        }
        assert_eq!(followers.of(&id("one")).unwrap().standing(), (0, 3));
        assert_eq!((taken(&one), taken(&all), taken(&none)), (vec![1, 3, 4], vec![3, 4], vec![]));
        followers.remove(number);
        followers.hand_out(&event(5, "a"));
        assert_eq!((taken(&one), taken(&all)), (vec![], vec![5]));
    }

    #[test]
    fn a_lane_that_does_not_keep_up_is_let_go_and_harms_no_other() {
        let mut followers = Followers::default();
        let [slow, quick] = [0, 0].map(|from| Queue::new(from, 0));
        followers.add(&id("slow"), &patterns(&["a"]), &slow);
        followers.add(&id("quick"), &patterns(&["a"]), &quick);
        for sequence in 1..=MAX_EVENTS as u64 + 1 {
            followers.hand_out(&event(sequence, "a"));
            assert_eq!(taken(&quick), [sequence]);
        }
        assert!(matches!(slow.take(), Some(Err(FeedError::Behind))));
        assert!(followers.of(&id("slow")).is_none() && followers.of(&id("quick")).is_some());
    }
}
