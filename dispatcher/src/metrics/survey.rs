//! Asking now and then how much waits for lanes that are behind: one that stands still does not read on, and so does not
//! hear of what comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::Unavailable;
use broker::feed::Feeds;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::Metrics;
use super::meter::Figures;
use crate::source::standings::Standings;

const INTERVAL: Duration = Duration::from_secs(5);
/// How many lanes are asked about each time, those first that it is longest ago for.
const MOST: usize = 128;
/// How many at a time.
const AT_A_TIME: usize = 8;

/// Asks for ever.
pub(crate) async fn survey(metrics: Metrics, feeds: Feeds, standings: Standings) -> Infallible {
    for round in 1.. {
        sleep(INTERVAL).await;
        let mut behind = metrics.figures();
        behind.retain(|figures| figures.is_at_work() && figures.waiting() > 0);
        behind.sort_by_key(|figures| figures.surveyed.load(Ordering::Relaxed));
        behind.truncate(MOST);
        let asked = stream::iter(behind)
            .map(Ok)
            .try_for_each_concurrent(AT_A_TIME, |figures| ask(&feeds, &standings, figures, round));
        if let Err(error) = asked.await {
            tracing::debug!(%error, "metrics.lag_not_asked");
        }
    }
    std::future::pending().await
}

async fn ask(feeds: &Feeds, standings: &Standings, figures: Arc<Figures>, round: u64) -> Result<(), Unavailable> {
    figures.surveyed.store(round, Ordering::Relaxed);
    // Before it is asked: what is settled meanwhile is not in what waits any more.
    let settled = figures.settled();
    if let Some(live) = standings.of(&figures.id) {
        figures.has_behind(settled, live.lag);
    } else if let Some(standing) = feeds.standing(&figures.id).await? {
        figures.has_behind(settled, standing.undelivered);
    }
    Ok(())
}
