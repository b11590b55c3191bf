//! How a lane at work waits for what comes next.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::Link;
use broker::feed::{Delivery, FeedError};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::chore::Chore;
use super::run::Run;
use crate::session::{Landed, Leave};
use crate::shared::{Shared, Spec};
use crate::source::log_bounds::KnownBounds;

/// Longer than a lane ever waits without something to do.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What may come.
pub(super) enum Came {
    Message(Result<Delivery, FeedError>),
    Landed(Landed),
    /// Something that was begun has come to its end.
    Chore(Chore),
    /// The log begins elsewhere, or is another one.
    Bounds(KnownBounds),
    /// It is time for something.
    Alarm,
    /// The spec is another one, or the connection is, or the dispatcher stops.
    Leave(Leave),
}

/// What may call a lane away from whatever it waits for.
///
/// It is listened for from beginning to end. To begin anew at each event would be to join, and to leave, several lists that
/// all lanes share; and the neighbours of this one there are in no cache.
pub(super) struct Calls {
    calls: BoxStream<'static, Came>,
    /// The same, to be asked whether there is any.
    heard: Heard,
    /// Never later than it is time for something. Where it is earlier, it is set again when it is over.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Clone)]
struct Heard {
    spec: watch::Receiver<Spec>,
    link: watch::Receiver<Link>,
    log_bounds: watch::Receiver<KnownBounds>,
    shutdown: CancellationToken,
    generation: u64,
}

impl Calls {
    pub(super) fn of(
        spec: &watch::Receiver<Spec>,
        shared: &Shared,
        shutdown: &CancellationToken,
        generation: u64,
    ) -> Self {
        let heard = Heard {
            spec: spec.clone(),
            link: shared.broker.link(),
            log_bounds: shared.log_bounds.clone(),
            shutdown: shutdown.clone(),
            generation,
        };
        let calls = stream::unfold(heard.clone(), |mut heard| async {
            let came = heard.next().await;
            Some((came, heard))
        });
        Self { calls: calls.boxed(), heard, alarm: Box::pin(sleep(LONGEST)) }
    }

    /// Whether anything calls.
    pub(super) fn is_anything(&self) -> bool {
        self.heard.is_anything()
    }

    /// Whether the log's bounds, or its holes, are others than were told.
    pub(super) fn has_other_bounds(&self) -> bool {
        self.heard.log_bounds.has_changed().unwrap_or(false)
    }

    /// Has the alarm go off at that moment, or before.
    fn set(&mut self, at: Option<Instant>) {
        let at = at.unwrap_or_else(|| Instant::now() + LONGEST);
        if at < self.alarm.deadline() || self.alarm.is_elapsed() {
            self.alarm.as_mut().reset(at);
        }
    }
}

impl Heard {
    async fn next(&mut self) -> Came {
        let Self { spec, link, log_bounds, shutdown, generation } = self;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Came::Leave(Leave::End),
            renewed = link.wait_for(|link| link.generation != *generation) => Came::Leave(left_by(renewed.is_ok())),
            changed = spec.changed() => Came::Leave(left_by(changed.is_ok())),
            Ok(()) = log_bounds.changed() => Came::Bounds(*log_bounds.borrow_and_update()),
        }
    }

    fn is_anything(&self) -> bool {
        self.shutdown.is_cancelled()
            || self.spec.has_changed().unwrap_or(true)
            || self.log_bounds.has_changed().unwrap_or(true)
            || self.link.borrow().generation != self.generation
    }
}

/// The supervisor, which says what is wanted, is there or has gone.
fn left_by(is_there: bool) -> Leave {
    if is_there { Leave::SetUp } else { Leave::End }
}

impl Run {
    /// Waits.
    pub(super) async fn what_comes(&mut self, calls: &mut Calls) -> Came {
        calls.set(self.session.deadline().map(Instant::from_std));
        if self.session.wants_message() {
            let Self { source, session, under_way, chores, showing, .. } = self;
            let is_leaving = session.is_leaving();
            let others = poll_fn(|cx| poll_others(cx, calls, is_leaving, under_way, chores, showing));
            tokio::select! {
                // Where there is always a next message, a call would otherwise be heard by chance only.
                biased;
                came = others => came,
                message = source.next() => Came::Message(message),
            }
        } else {
            poll_fn(|cx| {
                let Self { source, session, under_way, chores, showing, .. } = self;
                let came = poll_others(cx, calls, session.is_leaving(), under_way, chores, showing);
                if came.is_pending() && !session.is_leaving() {
                    // Meanwhile the next message is read, as far as that goes without waiting.
                    source.read_ahead();
                }
                came
            })
            .await
        }
    }
}

type Chores = stream::FuturesUnordered<futures_util::future::BoxFuture<'static, Chore>>;
type Showing = stream::FuturesUnordered<futures_util::future::BoxFuture<'static, ()>>;

/// All that may come but a message. Who leaves hears no further call.
fn poll_others(
    cx: &mut Context<'_>,
    calls: &mut Calls,
    is_leaving: bool,
    under_way: &mut super::under_way::UnderWay<Landed>,
    chores: &mut Chores,
    showing: &mut Showing,
) -> Poll<Came> {
    if !is_leaving && let Poll::Ready(Some(came)) = calls.calls.poll_next_unpin(cx) {
        calls.heard.log_bounds.mark_unchanged();
        return Poll::Ready(came);
    }
    if let Poll::Ready(Some(landed)) = under_way.poll_next_unpin(cx) {
        return Poll::Ready(Came::Landed(landed));
    }
    if !chores.is_empty()
        && let Poll::Ready(Some(chore)) = chores.poll_next_unpin(cx)
    {
        return Poll::Ready(Came::Chore(chore));
    }
    while !showing.is_empty() {
        if showing.poll_next_unpin(cx).is_pending() {
            break;
        }
    }
    calls.alarm.poll_unpin(cx).map(|()| Came::Alarm)
}
