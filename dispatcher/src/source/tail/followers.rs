//! Whose an event is, among the lanes that follow the tail of the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use broker::feed::{Delivery, FeedError};
use domain::{Event, SubscriptionId, TypePattern};

use super::Tail;
use crate::source::queue::Queue;

/// A lane that follows. It leaves when it is dropped.
pub(crate) struct Follower {
    tail: Arc<Tail>,
    number: u64,
    queue: Arc<Queue>,
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
            self.queue.news().await;
        }
    }

    /// How many events wait, and may wait.
    pub(crate) fn backlog(&self) -> u64 {
        // In this order: what is read meanwhile is in the queue.
        let unread = self.tail.unread();
        unread + self.queue.len().unwrap_or(0) as u64
    }

    /// The lane has been given everything up to here that it wants; `None` while something waits for it.
    pub(crate) fn has_all_to(&self) -> Option<u64> {
        // In this order: what is read later waits for it later.
        let read_to = self.tail.read_to();
        (self.queue.len() == Some(0)).then_some(read_to)
    }

    /// Shows how far the lane has come, and what it has taken from here and not delivered.
    pub(crate) fn note(&self, position: u64, in_hand: usize) {
        self.queue.note(position, in_hand);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tail.leave(self.number);
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
mod tests {
    use super::*;
    use crate::source::queue::MAX_EVENTS;
    use crate::source::recent::tests::event;

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
