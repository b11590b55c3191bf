//! How a lane at work waits for what comes next.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use broker::Link;
use broker::feed::{Delivery, FeedError};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::trying::Landed;
use super::{Next, Run, Worker, interruption};
use crate::shared::Spec;
use crate::source::log_bounds::KnownBounds;

/// Longer than a lane ever waits without something to do.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What may come.
pub(super) enum Came {
    Message(Result<Delivery, FeedError>),
    Landed(Landed),
    /// The log begins elsewhere.
    KnownBounds(KnownBounds),
    /// It is time for something.
    Alarm,
    /// Something else is asked for, or the connection is another one.
    Change(Next),
}

/// What may call a lane away from whatever it waits for.
///
/// It is listened for from beginning to end. To begin anew at each event would be to join, and to leave, several lists that
/// all lanes share; and whoever stands next to this one there is in no cache.
pub(super) struct Calls {
    calls: BoxStream<'static, Came>,
    /// The same, to be asked whether there is any.
    heard: Heard,
    /// Never later than it is time for something. Where it is earlier, it is set again when it is over.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Clone)]
struct Heard {
    asked: watch::Receiver<Spec>,
    link: watch::Receiver<Link>,
    log_bounds: watch::Receiver<KnownBounds>,
    shutdown: CancellationToken,
    generation: u64,
}

impl Calls {
    pub(super) fn of(worker: &Worker, generation: u64) -> Self {
        let heard = Heard {
            asked: worker.asked.clone(),
            link: worker.shared.broker.link(),
            log_bounds: worker.shared.log_bounds.clone(),
            shutdown: worker.shutdown.clone(),
            generation,
        };
        let calls = stream::unfold(heard.clone(), |mut heard| async {
            let came = heard.next().await;
            Some((came, heard))
        });
        Self { calls: calls.boxed(), heard, alarm: Box::pin(sleep(LONGEST)) }
    }

    /// Has the alarm go off at that moment, or before.
    fn set(&mut self, at: Instant) {
        if at < self.alarm.deadline() || self.alarm.is_elapsed() {
            self.alarm.as_mut().reset(at);
        }
    }
}

impl Heard {
    async fn next(&mut self) -> Came {
        tokio::select! {
            next = interruption(&mut self.asked, &mut self.link, self.generation, &self.shutdown) => Came::Change(next),
            Ok(()) = self.log_bounds.changed() => Came::KnownBounds(*self.log_bounds.borrow_and_update()),
        }
    }

    fn is_anything(&self) -> bool {
        self.shutdown.is_cancelled()
            || self.asked.has_changed().unwrap_or(true)
            || self.log_bounds.has_changed().unwrap_or(true)
            || self.link.borrow().generation != self.generation
    }
}

impl Run {
    /// A message that has come already, where nothing else calls for attention.
    pub(super) fn at_hand(&mut self, calls: &Calls) -> Option<Result<Delivery, FeedError>> {
        if calls.heard.is_anything() || !self.takes_in_first() || self.next_alarm() <= Instant::now() {
            return None;
        }
        self.source.next().now_or_never()
    }

    /// Waits.
    pub(super) async fn what_comes(&mut self, calls: &mut Calls) -> Came {
        let wants_more = self.window.wants_more();
        // What shows where the lane is must be worked on: it may hold a permit that others wait for.
        if !wants_more
            && self.showing.is_empty()
            && let Some(landed) = self.lands().await
        {
            return Came::Landed(landed);
        }
        calls.set(self.next_alarm());
        tokio::select! {
            // Where there is always a next message, whoever calls would otherwise be heard by chance only.
            biased;
            Some(came) = calls.calls.next() => {
                calls.heard.log_bounds.mark_unchanged();
                came
            }
            Some(landed) = self.under_way.next() => Came::Landed(landed),
            Some(()) = self.showing.next() => Came::Alarm,
            () = calls.alarm.as_mut() => Came::Alarm,
            message = self.source.next(), if wants_more => Came::Message(message),
        }
    }

    /// What comes of a request that is under way; meanwhile the next message is read, as far as that goes without waiting.
    async fn lands(&mut self) -> Option<Landed> {
        poll_fn(|cx| {
            let landed = self.under_way.poll_next_unpin(cx);
            if landed.is_pending() {
                self.source.read_ahead();
            }
            landed
        })
        .await
    }

    /// Whether a message that has come already is to be taken in before anything is sent.
    fn takes_in_first(&self) -> bool {
        self.window.wants_more() && (self.window.is_empty() || self.window.is_batched())
    }

    /// When something is to be done, whatever comes or does not.
    fn next_alarm(&self) -> Instant {
        let looks = self.window.next_look(Instant::now());
        let alarms = [self.turn_at, self.checkpoint_at, self.end_check_at, self.look_at, self.show_at, looks];
        alarms.into_iter().flatten().fold(self.note_at, Instant::min)
    }
}
