//! What the bucket `SUBSCRIPTIONS` says: each change, and now and then all of it, however long that takes.

use std::time::Duration;

use broker::lanes::Lanes;
use broker::subscriptions::{Change, Changes, Snapshot, Subscriptions};
use broker::{Broker, Reminder, Unavailable};
use domain::SubscriptionId;
use futures_util::future::{BoxFuture, OptionFuture};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval_at, sleep, timeout};

use crate::ownership::listing::Listing;

/// How often everything is listed, whatever the watch has told: so that a change that it missed is found.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the listing may take.
const LISTING_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait before the bucket is watched again after a failure.
const WATCH_RETRY: Duration = Duration::from_millis(250);

/// Reads the bucket. The supervisor, which must hear of other things meanwhile, is told what stands there.
pub(super) struct Registry {
    pub(super) broker: Broker,
    pub(super) subscriptions: Subscriptions,
    pub(super) lanes: Lanes,
    /// Takes note of listings that fail. Of one that succeeds the supervisor does, when it has acted on it.
    pub(super) listing: Listing,
}

/// What stands in the bucket.
pub(super) enum News {
    /// It may be another bucket than before: what was known is to be compared by value, not by revision.
    Anew,
    Change(Box<Change>),
    Listed(Listed),
}

/// Everything, at one time.
pub(super) struct Listed {
    /// When the listing began.
    pub(super) began: Instant,
    pub(super) snapshot: Snapshot,
    /// Whose lanes have a state in `LANES`.
    pub(super) with_state: Vec<SubscriptionId>,
}

impl Registry {
    /// Tells what stands there for as long as anybody listens; everything at once when `asked`.
    pub(super) async fn tell(&self, news: mpsc::Sender<News>, asked: &Notify) {
        let reminder = Reminder::default();
        while !news.is_closed() {
            if let Err(error) = self.follow(&news, asked, &reminder).await {
                if reminder.fails(&error) {
                    tracing::warn!(%error, "supervisor.watch_ended");
                }
                sleep(WATCH_RETRY).await;
            }
        }
    }

    /// Follows the bucket over one connection to NATS. Returns when that is lost.
    async fn follow(&self, news: &mpsc::Sender<News>, asked: &Notify, reminder: &Reminder) -> Result<(), Unavailable> {
        self.broker.until_ready().await;
        let mut link = self.broker.link();
        let generation = link.borrow_and_update().generation;
        let began = Instant::now();
        let mut changes = self.subscriptions.changes().await.inspect_err(|_| self.listing.failed(began))?;
        let mut told = news.send(News::Anew).await;
        let mut due = interval_at(Instant::now(), LISTING_INTERVAL);
        let mut listing: Option<BoxFuture<'_, Result<Listed, Unavailable>>> = None;
        while told.is_ok() {
            let is_listing = listing.is_some();
            told = tokio::select! {
                changed = link.changed() => {
                    if changed.is_err() || link.borrow().generation != generation {
                        return Ok(());
                    }
                    continue;
                }
                change = next(&mut changes) => news.send(News::Change(Box::new(change?))).await,
                Some(listed) = OptionFuture::from(listing.as_mut()) => {
                    listing = None;
                    let listed = listed?;
                    if reminder.works() {
                        tracing::info!("supervisor.watches_again");
                    }
                    news.send(News::Listed(listed)).await
                }
                () = asked.notified(), if !is_listing => {
                    due.reset_immediately();
                    continue;
                }
                _ = due.tick(), if !is_listing => {
                    listing = Some(Box::pin(self.list()));
                    continue;
                }
            };
        }
        Ok(())
    }

    /// Lists the subscriptions, and takes note where that fails.
    async fn list(&self) -> Result<Listed, Unavailable> {
        let began = Instant::now();
        let listing = async {
            let snapshot = self.subscriptions.snapshot().await?;
            Ok(Listed { began, snapshot, with_state: self.lanes.ids().await? })
        };
        let too_long = |_| Err(Unavailable::new("listing the subscriptions", "it took too long"));
        let listed = timeout(LISTING_DEADLINE, listing).await.unwrap_or_else(too_long);
        listed.inspect_err(|_| self.listing.failed(began))
    }
}

async fn next(changes: &mut Changes) -> Result<Change, Unavailable> {
    match changes.next().await {
        Some(change) => change,
        None => Err(Unavailable::new("watching the subscriptions", "the watch ended")),
    }
}
