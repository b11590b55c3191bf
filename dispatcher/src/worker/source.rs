//! Where a lane reads: the tail of the log where it has caught up; where it has not, its own consumer, or the past together
//! with others that want the same of it.

use broker::Unavailable;
use broker::feed::{Delivery, Feed, FeedError, Want};
use domain::lane::Epoch;
use domain::{Lane, SubscriptionId};
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Run, Worker};
use crate::source::shared_catch_up::{Alone, Member, Way};
use crate::source::tail::{Follower, Joining};

pub(super) enum Source {
    Consumer(Box<Own>),
    Past(Member),
    Tail(Follower),
}

/// The lane's own consumer.
pub(super) struct Own {
    pub(super) feed: Feed,
    /// Says to others that want the same that there is somebody who does.
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

    /// Whether it gives everything in time, or says that it does not.
    pub(super) fn is_tail(&self) -> bool {
        matches!(self, Self::Tail(_))
    }

    /// Whether it is the lane's consumer, which is acknowledged to.
    pub(super) fn is_consumer(&self) -> bool {
        matches!(self, Self::Consumer(_))
    }
}

impl Worker {
    /// Opens what a lane reads from its position on, in a log that begins with `first_sequence`: what was removed is
    /// nobody's any more, though it may still be in memory.
    pub(super) async fn open(
        &mut self,
        lane: &mut Lane,
        first_sequence: u64,
        generation: u64,
    ) -> Result<Source, Unavailable> {
        let read_to = lane.position.max(first_sequence.saturating_sub(1));
        let joining = Joining { id: &self.id, filters: &lane.filters, position: read_to, generation };
        if let Some(follower) = self.shared.tail.join(&self.shared.log, &joining).await? {
            self.has_consumer(lane, false).await?;
            return Ok(Source::Tail(follower));
        }
        match self.shared.shared_catch_up.join(&joining).await? {
            Way::Together(member) => {
                self.has_consumer(lane, false).await?;
                Ok(Source::Past(member))
            }
            Way::Alone(alone) => {
                self.has_consumer(lane, true).await?;
                let feed = self.shared.feeds.open(&want(&self.id, lane)).await?;
                Ok(Source::Consumer(Box::new(Own { feed, _alone: alone })))
            }
        }
    }

    /// Writes whether a consumer belongs to a lane's position, before it is read.
    async fn has_consumer(&mut self, lane: &mut Lane, has_one: bool) -> Result<(), Unavailable> {
        if has_one != lane.epoch.has_consumer() {
            let kind = if has_one { Epoch::Consumer } else { Epoch::WithoutConsumer };
            lane.epoch = kind(fresh_epoch());
            self.write(lane).await?;
            self.lane = Some(lane.clone());
        }
        Ok(())
    }

    /// Goes over to the tail of the log, if it reaches back to where this lane has read.
    pub(super) async fn go_over_to_tail(&mut self, run: &mut Run) -> Result<(), Unavailable> {
        let read_to = run.read_to();
        let joining =
            Joining { id: &self.id, filters: &run.lane.filters, position: read_to, generation: run.generation };
        let Some(follower) = self.shared.tail.join(&self.shared.log, &joining).await? else { return Ok(()) };
        self.acknowledge(run).await?;
        // What the consumer has acknowledged says nothing of this lane from now on.
        run.lane.epoch = Epoch::WithoutConsumer(fresh_epoch());
        if let Some(ahead) = &mut run.ahead {
            ahead.epoch.clone_from(&run.lane.epoch);
        }
        self.write(&mut run.lane).await?;
        tracing::debug!(id = %self.id, read_to, "lane.follows");
        run.source = Source::Tail(follower);
        run.note_standing();
        Ok(())
    }

    /// Has the lane's consumer show where the lane is, as it is written, while nobody reads it. For whoever looks: what
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

/// A name for an epoch.
pub(super) fn fresh_epoch() -> String {
    Uuid::now_v7().to_string()
}

impl Run {
    /// Tells whoever asks how far this lane has come.
    pub(super) fn note_standing(&self) {
        match &self.source {
            Source::Consumer(_) => {}
            Source::Past(member) => member.note(self.lane.position, self.window.len()),
            Source::Tail(follower) => follower.note(self.lane.position, self.window.len()),
        }
    }

    /// Has the consumer show where the lane is, at that moment at the latest.
    pub(super) fn show_by(&mut self, at: Instant) {
        if !self.source.is_consumer() {
            self.show_at.get_or_insert(at);
        }
    }
}

fn want<'a>(id: &'a SubscriptionId, lane: &'a Lane) -> Want<'a> {
    Want { id, target: &lane.url, epoch: &lane.epoch, filters: &lane.filters, position: lane.position }
}
