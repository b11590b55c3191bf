//! The past, read once for all lanes that want the same of it at the same time, as the replicas of a service do.
//!
//! Such lanes share a `reader`. A lane that is the only one to want what it wants reads its own consumer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Broker, Unavailable};
use domain::{SubscriptionId, TypePattern};

mod reader;

use crate::source::queue::Queue;
use crate::source::tail::Joining;
pub(crate) use reader::Member;
use reader::SharedReader;

/// Which lanes read the past, and together with whom.
pub(crate) struct SharedCatchUp {
    broker: Broker,
    state: Mutex<CatchUpState>,
    /// Held while a reader begins, so that lanes which come meanwhile find it.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct CatchUpState {
    /// By the filters that they have in common.
    readers: BTreeMap<Vec<TypePattern>, ReadersOfFilters>,
    members: HashMap<SubscriptionId, Membership>,
}

#[derive(Default)]
struct ReadersOfFilters {
    alone: usize,
    shared: Vec<Arc<SharedReader>>,
}

struct Membership {
    queue: Arc<Queue>,
    reader: Arc<SharedReader>,
}

/// How a lane reads the past.
pub(crate) enum Way {
    /// By its own consumer.
    Alone(Alone),
    Together(Member),
}

/// A lane that reads alone, so far: the next lane that wants the same begins a shared reader.
pub(crate) struct Alone {
    shared_catch_up: Arc<SharedCatchUp>,
    filters: Vec<TypePattern>,
}

impl SharedCatchUp {
    pub(crate) fn new(broker: Broker) -> Arc<Self> {
        Arc::new(Self { broker, state: Mutex::default(), beginning: tokio::sync::Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, CatchUpState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a lane read from its position on, with others if there are any.
    pub(crate) async fn join(self: &Arc<Self>, joining: &Joining<'_>) -> Result<Way, Unavailable> {
        let _beginning = self.beginning.lock().await;
        if let Some(way) = self.find(joining) {
            return Ok(way);
        }
        let (reader, queue) = SharedReader::begin(&self.broker, joining).await?;
        let mut state = self.state();
        state.readers.entry(joining.filters.to_vec()).or_default().shared.push(reader.clone());
        Ok(Way::Together(self.member(&mut state, joining, reader, queue)))
    }

    /// A way that is there; `None` where a reader is to be begun.
    fn find(self: &Arc<Self>, joining: &Joining<'_>) -> Option<Way> {
        let mut state = self.state();
        let readers = state.readers.entry(joining.filters.to_vec()).or_default();
        if readers.is_empty() {
            readers.alone = 1;
            return Some(Way::Alone(Alone { shared_catch_up: self.clone(), filters: joining.filters.to_vec() }));
        }
        let found = readers.shared.iter().find_map(|reader| Some((reader.clone(), reader.make_room(joining)?)));
        let (reader, queue) = found?;
        Some(Way::Together(self.member(&mut state, joining, reader, queue)))
    }

    fn member(
        self: &Arc<Self>,
        state: &mut CatchUpState,
        joining: &Joining<'_>,
        reader: Arc<SharedReader>,
        queue: Arc<Queue>,
    ) -> Member {
        let id = joining.id.clone();
        state.members.insert(id.clone(), Membership { queue: queue.clone(), reader: reader.clone() });
        Member::new(self.clone(), id, reader, queue)
    }

    /// How a lane that reads with others stands: its position, and how much it has before it.
    pub(crate) fn standing(&self, id: &SubscriptionId) -> Option<(u64, u64)> {
        let state = self.state();
        let Membership { queue, reader } = state.members.get(id)?;
        // In this order: what is read meanwhile is in the queue.
        let unread = reader.unread();
        queue.len()?;
        let (position, waiting) = queue.standing();
        Some((position, waiting + unread))
    }

    fn leave(&self, id: &SubscriptionId, reader: &Arc<SharedReader>, queue: &Arc<Queue>) {
        let mut state = self.state();
        if state.members.get(id).is_some_and(|known| Arc::ptr_eq(&known.queue, queue)) {
            state.members.remove(id);
        }
        if reader.leave(queue) {
            state.change(&reader.filters, |readers| readers.shared.retain(|known| !Arc::ptr_eq(known, reader)));
        }
    }
}

impl CatchUpState {
    fn change(&mut self, filters: &[TypePattern], change: impl FnOnce(&mut ReadersOfFilters)) {
        let Some(readers) = self.readers.get_mut(filters) else { return };
        change(readers);
        if readers.is_empty() {
            self.readers.remove(filters);
        }
    }
}

impl ReadersOfFilters {
    fn is_empty(&self) -> bool {
        self.alone == 0 && self.shared.is_empty()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.shared_catch_up.state().change(&self.filters, |readers| readers.alone -= 1);
    }
}
