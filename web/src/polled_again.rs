//! A future that wakes itself while it is polled is polled again at once.
//!
//! hyper's connections do so for a request with a body: the handler asks for the body, and hyper, in the same task, has it.
//! The runtime then lets all other tasks go first, and wakes another thread, if one sleeps, so that no task waits. With one
//! sender at a time that was a system call for each request, before any work on it began.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often it is polled in a row: one that wakes itself again and again means to let others go first.
const MOST: usize = 4;

/// Nobody polls it.
const RESTS: u8 = 0;
const IS_POLLED: u8 = 1;
/// It is polled, and was woken meanwhile.
const IS_WOKEN: u8 = 2;

/// A future that is polled again at once when it has woken itself.
pub(crate) struct PolledAgain<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// What rings it.
    waker: Waker,
}

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> PolledAgain<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(RESTS), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: bell.clone().into(), bell }
    }
}

impl<F: Future> Future for PolledAgain<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = &mut *self;
        bell.task.register(cx.waker());
        for _ in 0..MOST {
            bell.state.store(IS_POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            let rests = bell.state.compare_exchange(IS_POLLED, RESTS, Ordering::SeqCst, Ordering::SeqCst);
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.store(RESTS, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.compare_exchange(IS_POLLED, IS_WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if noted == Err(RESTS) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Wakes itself so often, each time that it is polled, and then waits for something else.
    fn waking_itself(times: usize, then: oneshot::Receiver<()>) -> impl Future<Output = usize> {
        let (mut polled, mut then) = (0, then);
        poll_fn(move |cx| {
            polled += 1;
            if polled <= times {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Pin::new(&mut then).poll(cx).map(|_| polled)
        })
    }

    #[test]
    fn a_task_that_wakes_itself_is_polled_at_once_and_wakes_nobody() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let (sender, receiver) = oneshot::channel();
        let mut future = PolledAgain::new(waking_itself(2, receiver));
        let mut poll = || Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert_eq!(poll(), Poll::Pending);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        sender.send(()).unwrap();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1, "somebody else did");
        assert_eq!(poll(), Poll::Ready(4));
    }

    #[test]
    fn a_task_that_goes_on_waking_itself_lets_others_go_first() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let (_sender, receiver) = oneshot::channel();
        let mut future = PolledAgain::new(waking_itself(usize::MAX, receiver));
        for n in 1..3 {
            assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(woken.0.load(Ordering::SeqCst), n);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_another_thread_is_lost() {
        for _ in 0..10_000 {
            let (sender, receiver) = oneshot::channel();
            let mut waiting = JoinSet::new();
            waiting.spawn(PolledAgain::new(waking_itself(1, receiver)));
            sender.send(()).unwrap();
            timeout(Duration::from_secs(30), waiting.join_all()).await.expect("it was woken");
        }
    }
}
