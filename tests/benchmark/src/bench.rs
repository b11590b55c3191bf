//! What every row has: the target, how long to measure and how often, and somebody to tell how far it is.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::house::House;
use crate::target::Target;

/// How often each figure is measured.
const ROUNDS: usize = 3;

pub(crate) struct Bench {
    /// Where all posts and deliveries of a run go.
    pub(crate) target: Target,
    /// The binary of mer.
    pub(crate) mer: String,
    /// Whether to be done in three minutes.
    pub(crate) is_quick: bool,
    /// What a terminal shows meanwhile.
    pub(crate) progress: ProgressBar,
}

impl Bench {
    /// How long to measure what is measured by time.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_millis(self.pick(500, 3000))
    }

    /// This, or that in a full run.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.is_quick { quick } else { full }
    }

    /// Each round, told to whoever waits.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = usize> {
        (1..=ROUNDS).inspect(|round| self.say(format!("round {round} of {ROUNDS}")))
    }

    /// Says what is done.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.progress.set_message(what.into());
    }

    /// A nats-server and a mer, syncing at this interval.
    pub(crate) async fn house(&self, sync_interval: &str) -> anyhow::Result<House> {
        self.say("starting nats-server and mer");
        House::start(&self.mer, sync_interval).await
    }
}
