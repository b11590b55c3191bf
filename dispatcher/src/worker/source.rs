//! Where a lane reads: the tail of the log where it has caught up; where it has not, its own consumer, or the past together
//! with others that want the same of it.

use broker::Unavailable;
use broker::feed::{ACK_WAIT, Delivery, Feed, FeedError, Want};
use domain::lane::Epoch;
use domain::{Lane, SubscriptionId};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;

use super::Worker;
use crate::session::{Reads, fresh_name};
use crate::source::known_log::Era;
use crate::source::log_bounds::KnownBounds;
use crate::source::shared_catch_up::{Alone, Member, Way};
use crate::source::tail::{Follower, Joining};

/// What the server has for a lane that waits comes sooner than this, or is missed sooner (see `broker::pull`): a request may
/// get lost, what is lost on the way comes again after [`ACK_WAIT`], and on a cluster the consumer may be without a leader for
/// a while, or its leader behind the stream's.
const LONG_ENOUGH: Duration = Duration::from_secs(ACK_WAIT.as_secs() + 15);

pub(super) enum Source {
    Consumer(Box<Own>),
    Past(Member),
    Tail(Follower),
}

/// The lane's own consumer.
pub(super) struct Own {
    pub(super) feed: Feed,
    /// Says to others that want the same that there is one that does.
    _alone: Alone,
}

impl Source {
    /// The next message that the lane's filters let through.
    pub(super) async fn next(&mut self) -> Result<Delivery, FeedError> {
        match self {
            Self::Consumer(own) => own.feed.next().await,
            Self::Past(member) => member.next().await,
            Self::Tail(follower) => follower.next().await,
        }
    }

    /// Takes the next message in hand, where that is work and it has come: while the target is at work on the last one.
    pub(super) fn read_ahead(&mut self) {
        match self {
            Self::Consumer(own) => own.feed.read_ahead(),
            Self::Past(member) => member.read_ahead(),
            Self::Tail(_) => {}
        }
    }

    /// How many messages lay before it when it was opened.
    pub(super) fn backlog(&self) -> u64 {
        match self {
            Self::Consumer(own) => own.feed.backlog,
            Self::Past(member) => member.backlog(),
            Self::Tail(follower) => follower.backlog(),
        }
    }

    /// What the session knows of it.
    pub(super) fn reads(&self) -> Reads {
        match self {
            Self::Consumer(_) => Reads::Consumer,
            Self::Past(_) => Reads::Past,
            Self::Tail(_) => Reads::Tail,
        }
    }

    /// Up to where there is nothing in the log that a lane wants and was not given, by one that has waited for it since then.
    pub(super) fn has_given_to(&self, bounds: KnownBounds, waiting_since: Instant) -> Option<u64> {
        match self {
            Self::Tail(follower) => follower.has_all_to(),
            // What the server has for a lane comes at once: where it has been waiting long enough, there was nothing.
            Self::Consumer(_) | Self::Past(_) => {
                let is_long_ago = bounds.settled_at.is_some_and(|at| at >= waiting_since + LONG_ENOUGH);
                is_long_ago.then_some(bounds.settled_to)
            }
        }
    }

    /// Shows how far the lane has come.
    pub(super) fn note(&self, position: u64, in_hand: usize) {
        match self {
            Self::Consumer(_) => {}
            Self::Past(member) => member.note(position, in_hand),
            Self::Tail(follower) => follower.note(position, in_hand),
        }
    }
}

impl Worker {
    /// Opens what a lane reads from its position on, in a log that begins with `first_sequence`: what was removed is
    /// nobody's any more, though it may still be in memory.
    pub(super) async fn open(
        &mut self,
        lane: Lane,
        first_sequence: u64,
        era: Era,
    ) -> Result<(Lane, Source), Unavailable> {
        let read_to = lane.position.max(first_sequence.saturating_sub(1));
        let accounted_to = lane.accounted_to().max(read_to);
        let joining = Joining { id: &self.id, filters: &lane.filters, position: read_to, accounted_to, era };
        if let Some(follower) = self.shared.tail.join(&self.shared.log, &joining).await? {
            return Ok((self.has_consumer(lane, false).await?, Source::Tail(follower)));
        }
        match self.shared.shared_catch_up.join(&joining).await? {
            Way::Together(member) => Ok((self.has_consumer(lane, false).await?, Source::Past(member))),
            Way::Alone(alone) => {
                let lane = self.has_consumer(lane, true).await?;
                let feed = self.shared.feeds.open(&want(&self.id, &lane)).await?;
                Ok((lane, Source::Consumer(Box::new(Own { feed, _alone: alone }))))
            }
        }
    }

    /// Writes whether a consumer belongs to a lane's position, before it is read.
    async fn has_consumer(&mut self, mut lane: Lane, has_one: bool) -> Result<Lane, Unavailable> {
        if has_one != lane.epoch.has_consumer() {
            let kind = if has_one { Epoch::Consumer } else { Epoch::WithoutConsumer };
            lane.epoch = kind(fresh_name());
            self.write(&mut lane).await?;
        }
        Ok(lane)
    }

    /// Has the lane's consumer show where the lane is, as it is written, while nobody reads it. For an operator who looks: what
    /// fails is made good by the next time.
    pub(super) fn show(&self, lane: &Lane) -> BoxFuture<'static, ()> {
        let (id, lane, shared) = (self.id.clone(), lane.clone(), self.shared.clone());
        Box::pin(async move {
            let _permit = shared.setting_up.acquire().await;
            if shared.lease.is_valid()
                && let Err(error) = shared.feeds.show(&want(&id, &lane)).await
            {
                tracing::debug!(%id, %error, "lane.not_shown");
            }
        })
    }
}

fn want<'a>(id: &'a SubscriptionId, lane: &'a Lane) -> Want<'a> {
    Want { id, target: &lane.url, epoch: &lane.epoch, filters: &lane.filters, position: lane.position }
}
