//! Where a lane reads: the tail of the log where it has caught up, and its own consumer where it has not.

use broker::Unavailable;
use broker::feed::{Delivery, Feed, FeedError, Want};
use domain::{Lane, SubscriptionId};
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Run, Worker};
use crate::tail::{Follower, Joining};

/// How the epoch of a lane begins that follows the tail.
const WITHOUT_CONSUMER: &str = "tail-";

pub(super) enum Source {
    Consumer(Box<Feed>),
    Tail(Follower),
}

impl Source {
    /// The next message that the lane's filters let through.
    pub(super) async fn next(&mut self) -> Result<Delivery, FeedError> {
        match self {
            Self::Consumer(feed) => feed.next().await,
            Self::Tail(follower) => follower.next().await,
        }
    }

    /// Takes the next message in hand, where that is work and it has come: while the target is at work on the last one.
    pub(super) fn read_ahead(&mut self) {
        if let Self::Consumer(feed) = self {
            feed.read_ahead();
        }
    }

    /// How many messages lay before it when it was opened.
    pub(super) fn backlog(&self) -> u64 {
        match self {
            Self::Consumer(feed) => feed.backlog,
            Self::Tail(follower) => follower.backlog(),
        }
    }

    /// Whether it gives everything in time, or says that it does not.
    pub(super) fn is_tail(&self) -> bool {
        matches!(self, Self::Tail(_))
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
        let follower = self.follow(lane, read_to, generation).await?;
        if follower.is_some() != is_without_consumer(&lane.epoch) {
            lane.epoch = if follower.is_some() { fresh_epoch() } else { Uuid::now_v7().to_string() };
            self.write(lane).await?;
            self.lane = Some(lane.clone());
        }
        match follower {
            Some(follower) => Ok(Source::Tail(follower)),
            None => Ok(Source::Consumer(Box::new(self.shared.feeds.open(&want(&self.id, lane)).await?))),
        }
    }

    /// Goes over to the tail of the log, if it reaches back to where this lane has read.
    pub(super) async fn go_over_to_tail(&mut self, run: &mut Run) -> Result<(), Unavailable> {
        let read_to = run.read_to();
        let Some(follower) = self.follow(&run.lane, read_to, run.generation).await? else { return Ok(()) };
        self.acknowledge(run).await?;
        // What the consumer has acknowledged says nothing of this lane from now on.
        run.lane.epoch = fresh_epoch();
        if let Some(ahead) = &mut run.ahead {
            ahead.epoch.clone_from(&run.lane.epoch);
        }
        self.write(&mut run.lane).await?;
        tracing::debug!(id = %self.id, read_to, "lane.follows");
        run.source = Source::Tail(follower);
        run.note_standing();
        Ok(())
    }

    async fn follow(&self, lane: &Lane, read_to: u64, generation: u64) -> Result<Option<Follower>, Unavailable> {
        let joining = Joining { id: &self.id, filters: &lane.filters, position: read_to, generation };
        self.shared.tail.join(&self.shared.log, &joining).await
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

/// A name for a position that no consumer belongs to: where a lane reads its consumer, it gets another one.
pub(super) fn fresh_epoch() -> String {
    format!("{WITHOUT_CONSUMER}{}", Uuid::now_v7())
}

/// Whether no consumer belongs to the position of a lane.
pub(super) fn is_without_consumer(epoch: &str) -> bool {
    epoch.starts_with(WITHOUT_CONSUMER)
}

impl Run {
    /// Tells whoever asks how far this lane has come.
    pub(super) fn note_standing(&self) {
        if let Source::Tail(follower) = &self.source {
            follower.note(self.lane.position, self.window.len());
        }
    }

    /// Has the consumer show where the lane is, at that moment at the latest.
    pub(super) fn show_by(&mut self, at: Instant) {
        if self.source.is_tail() {
            self.show_at.get_or_insert(at);
        }
    }
}

fn want<'a>(id: &'a SubscriptionId, lane: &'a Lane) -> Want<'a> {
    Want { id, target: &lane.url, epoch: &lane.epoch, filters: &lane.filters, position: lane.position }
}
