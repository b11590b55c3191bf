//! The requests of a lane that are under way.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};

/// Futures that are polled by the task that waits for their results.
///
/// One is polled directly. `FuturesUnordered` wakes its own task whenever each of its futures has been polled and waits:
/// with one request at a time that is at each request, and wakes another thread of the runtime for nothing.
pub(super) struct UnderWay<T> {
    one: Option<BoxFuture<'static, T>>,
    others: FuturesUnordered<BoxFuture<'static, T>>,
}

impl<T> UnderWay<T> {
    pub(super) fn new() -> Self {
        Self { one: None, others: FuturesUnordered::new() }
    }

    pub(super) fn push(&mut self, request: BoxFuture<'static, T>) {
        match self.one {
            None => self.one = Some(request),
            Some(_) => self.others.push(request),
        }
    }
}

impl<T> Stream for UnderWay<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(one) = &mut self.one
            && let Poll::Ready(landed) = one.poll_unpin(cx)
        {
            self.one = None;
            return Poll::Ready(Some(landed));
        }
        match self.others.poll_next_unpin(cx) {
            Poll::Ready(None) if self.one.is_some() => Poll::Pending,
            polled => polled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use tokio::sync::oneshot;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_comes_first_comes_first_whichever_it_is() {
        let mut under_way = UnderWay::new();
        assert_eq!(under_way.next().await, None);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| oneshot::channel()).unzip();
        for receiver in receivers {
            under_way.push(Box::pin(async move { receiver.await.unwrap() }));
        }
        assert_eq!(under_way.next().now_or_never(), None);
        let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
        for i in [3, 0, 1, 4, 2] {
            senders[i].take().unwrap().send(i).unwrap();
            assert_eq!(under_way.next().await, Some(i));
        }
        assert_eq!(under_way.next().await, None);
    }

    #[test]
    fn a_request_that_waits_alone_wakes_nobody() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut under_way = UnderWay::<()>::new();
        under_way.push(Box::pin(pending()));
        for _ in 0..3 {
            assert!(under_way.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    }
}
