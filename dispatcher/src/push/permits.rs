//! Who goes first when deliveries wait: so many may begin at a time, and among those that wait the lowest number goes
//! first, less what it has waited.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// By how much a second of waiting makes a delivery more urgent. Whatever its priority, it overtakes in the end those
/// that came later: one of priority 200 goes before one of priority 100 that came more than ten seconds after it.
const URGENCY_PER_SECOND: f64 = 10.0;
/// How long a delivery may keep its permit. A target that takes longer goes on without: however many targets hang,
/// nobody waits for them.
const LONGEST_HOLD: Duration = Duration::from_millis(250);

/// Hands out permits to begin a delivery.
#[derive(Clone)]
pub(crate) struct Permits(Arc<Mutex<PermitState>>);

struct PermitState {
    free: usize,
    waiting: BinaryHeap<WaitingDelivery>,
    began: Instant,
    arrivals: u64,
}

struct WaitingDelivery {
    /// Lower goes first. WaitingDelivery makes everybody more urgent at the same rate, so the order among those that wait never
    /// changes: what counts is the priority and when they came.
    rank: f64,
    arrival: u64,
    turn: oneshot::Sender<Permit>,
}

/// A permit; given back when it is dropped.
pub(crate) struct Permit(Permits);

impl Permits {
    /// So many deliveries may begin at a time.
    pub(crate) fn new(count: usize) -> Self {
        let state = PermitState { free: count, waiting: BinaryHeap::new(), began: Instant::now(), arrivals: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a permit.
    pub(crate) async fn get(&self, priority: f64) -> Permit {
        let turn = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                None
            } else {
                Some(state.queue(priority))
            }
        };
        match turn {
            // The sender is dropped only with the permits themselves.
            Some(turn) => turn.await.unwrap_or_else(|_| Permit(self.clone())),
            None => Permit(self.clone()),
        }
    }

    /// Hands a permit that has been given back to who waits for it, or keeps it.
    fn give_back(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.waiting.pop() {
            Some(next) => {
                drop(state);
                // A delivery that has given up waiting gives it back by dropping it.
                drop(next.turn.send(Permit(self.clone())));
            }
            None => state.free += 1,
        }
    }
}

impl PermitState {
    fn queue(&mut self, priority: f64) -> oneshot::Receiver<Permit> {
        let (turn, receiver) = oneshot::channel();
        let rank = priority + self.began.elapsed().as_secs_f64() * URGENCY_PER_SECOND;
        self.arrivals += 1;
        self.waiting.push(WaitingDelivery { rank, arrival: self.arrivals, turn });
        receiver
    }
}

impl Permit {
    /// Runs a delivery: holding the permit for a while, and without it if it takes longer. It stays where it is: its caller
    /// would have room for it twice.
    pub(crate) async fn run<T>(self, mut delivery: Pin<&mut impl Future<Output = T>>) -> T {
        match tokio::time::timeout(LONGEST_HOLD, delivery.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                drop(self);
                delivery.await
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Ord for WaitingDelivery {
    /// The greatest goes first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.total_cmp(&self.rank).then(other.arrival.cmp(&self.arrival))
    }
}

impl PartialOrd for WaitingDelivery {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WaitingDelivery {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WaitingDelivery {}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// Queues deliveries behind one that holds the only permit, each so long after the one before it, and answers with
    /// the order in which they went.
    async fn order_of(arrivals: &[(f64, Duration)]) -> Vec<usize> {
        let permits = Permits::new(1);
        let first = permits.get(0.0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JoinSet::new();
        for (i, (priority, after)) in arrivals.iter().copied().enumerate() {
            tokio::time::advance(after).await;
            let (permits, order) = (permits.clone(), order.clone());
            waiting.spawn(async move {
                let _permit = permits.get(priority).await;
                order.lock().unwrap().push(i);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        waiting.join_all().await;
        let order = order.lock().unwrap();
        order.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_goes_first_and_equals_in_the_order_they_came() {
        let at_once = Duration::ZERO;
        assert_eq!(
            order_of(&[(100.0, at_once), (50.0, at_once), (100.0, at_once), (-1.5, at_once)]).await,
            [3, 1, 0, 2]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_waited_long_goes_before_a_more_urgent_newcomer() {
        assert_eq!(order_of(&[(200.0, Duration::ZERO), (100.0, Duration::from_secs(9))]).await, [1, 0]);
        assert_eq!(order_of(&[(200.0, Duration::ZERO), (100.0, Duration::from_secs(11))]).await, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_hangs_does_not_keep_its_permit() {
        let permits = Permits::new(1);
        let mut hanging = JoinSet::new();
        let permit = permits.get(0.0).await;
        hanging.spawn(async { permit.run(std::pin::pin!(std::future::pending::<()>())).await });
        tokio::time::timeout(LONGEST_HOLD * 2, permits.get(0.0)).await.expect("a permit, though the other hangs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_gives_up_waiting_does_not_take_a_turn() {
        let permits = Permits::new(1);
        let first = permits.get(0.0).await;
        assert!(tokio::time::timeout(Duration::from_millis(1), permits.get(0.0)).await.is_err());
        drop(first);
        tokio::time::timeout(Duration::from_millis(1), permits.get(0.0)).await.expect("the permit is free again");
    }
}
