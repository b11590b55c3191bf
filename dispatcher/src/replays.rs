//! The past, read once for all lanes that want the same of it at the same time, as the replicas of a service do.
//!
//! Such lanes are a [`group`]. A lane that is the only one to want what it wants reads its own consumer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Broker, Unavailable};
use domain::{SubscriptionId, TypePattern};

mod group;

use crate::queue::Queue;
use crate::tail::Joining;
use group::Group;
pub(crate) use group::Member;

/// Which lanes read the past, and together with whom.
pub(crate) struct Replays {
    broker: Broker,
    state: Mutex<State>,
    /// Held while a group begins, so that whoever comes meanwhile finds it.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// By the filters that they have in common.
    readers: BTreeMap<Vec<TypePattern>, Readers>,
    members: HashMap<SubscriptionId, Known>,
}

#[derive(Default)]
struct Readers {
    alone: usize,
    groups: Vec<Arc<Group>>,
}

struct Known {
    queue: Arc<Queue>,
    group: Arc<Group>,
}

/// How a lane reads the past.
pub(crate) enum Way {
    /// By its own consumer.
    Alone(Alone),
    Together(Member),
}

/// A lane that reads alone, so far: whoever wants the same after it begins a group.
pub(crate) struct Alone {
    replays: Arc<Replays>,
    filters: Vec<TypePattern>,
}

impl Replays {
    pub(crate) fn new(broker: Broker) -> Arc<Self> {
        Arc::new(Self { broker, state: Mutex::default(), beginning: tokio::sync::Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a lane read from its position on, with others if there are any.
    pub(crate) async fn join(self: &Arc<Self>, joining: &Joining<'_>) -> Result<Way, Unavailable> {
        let _beginning = self.beginning.lock().await;
        if let Some(way) = self.find(joining) {
            return Ok(way);
        }
        let (group, queue) = Group::begin(&self.broker, joining).await?;
        let mut state = self.state();
        state.readers.entry(joining.filters.to_vec()).or_default().groups.push(group.clone());
        Ok(Way::Together(self.member(&mut state, joining, group, queue)))
    }

    /// A way that is there; `None` where a group is to be begun.
    fn find(self: &Arc<Self>, joining: &Joining<'_>) -> Option<Way> {
        let mut state = self.state();
        let readers = state.readers.entry(joining.filters.to_vec()).or_default();
        if readers.is_empty() {
            readers.alone = 1;
            return Some(Way::Alone(Alone { replays: self.clone(), filters: joining.filters.to_vec() }));
        }
        let found = readers.groups.iter().find_map(|group| Some((group.clone(), group.make_room(joining)?)));
        let (group, queue) = found?;
        Some(Way::Together(self.member(&mut state, joining, group, queue)))
    }

    fn member(
        self: &Arc<Self>,
        state: &mut State,
        joining: &Joining<'_>,
        group: Arc<Group>,
        queue: Arc<Queue>,
    ) -> Member {
        let id = joining.id.clone();
        state.members.insert(id.clone(), Known { queue: queue.clone(), group: group.clone() });
        Member::new(self.clone(), id, group, queue)
    }

    /// How a lane that reads with others stands: its position, and how much it has before it.
    pub(crate) fn standing(&self, id: &SubscriptionId) -> Option<(u64, u64)> {
        let state = self.state();
        let Known { queue, group } = state.members.get(id)?;
        // In this order: what is read meanwhile is in the queue.
        let unread = group.unread();
        queue.len()?;
        let (position, waiting) = queue.standing();
        Some((position, waiting + unread))
    }

    fn leave(&self, id: &SubscriptionId, group: &Arc<Group>, queue: &Arc<Queue>) {
        let mut state = self.state();
        if state.members.get(id).is_some_and(|known| Arc::ptr_eq(&known.queue, queue)) {
            state.members.remove(id);
        }
        if group.leave(queue) {
            state.change(&group.filters, |readers| readers.groups.retain(|known| !Arc::ptr_eq(known, group)));
        }
    }
}

impl State {
    fn change(&mut self, filters: &[TypePattern], change: impl FnOnce(&mut Readers)) {
        let Some(readers) = self.readers.get_mut(filters) else { return };
        change(readers);
        if readers.is_empty() {
            self.readers.remove(filters);
        }
    }
}

impl Readers {
    fn is_empty(&self) -> bool {
        self.alone == 0 && self.groups.is_empty()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.replays.state().change(&self.filters, |readers| readers.alone -= 1);
    }
}
