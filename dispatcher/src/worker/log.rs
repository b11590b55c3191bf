//! Whether what a lane has had is in the log as it is; and how far it has come beyond what is written of it.

use broker::Unavailable;
use broker::event_log::LogBounds;
use broker::positions::Noted;
use domain::lane::Lane;
use domain::lane::fork::{FoundLog, Standing};
use domain::log_epoch::Mark;
use domain::{Stamp, Subscription};

use super::{Begins, Worker};
use crate::ownership::owned::Takeover;
use crate::session::{TargetState, fresh_name};
use crate::source::known_log::Known;

/// How often a lane is compared with the log again, as that was found to be another one meanwhile.
const MAX_TURNS: usize = 4;

impl Worker {
    /// Compares what the lane has had with the log as it is, and takes it back to what both share where the log has become another
    /// one. Answers where the log begins and ends, and what is known of it.
    pub(super) async fn follow_log(
        &mut self,
        spec: &Subscription,
        generation: u64,
    ) -> Result<(LogBounds, Known), Unavailable> {
        for _ in 0..MAX_TURNS {
            let known = self.shared.known_log.on(generation).await;
            let bounds = self.shared.log.bounds().await?;
            // Before it is looked how far there is nothing that the lane wants.
            self.shared.log_watch.accounts_for(&bounds).await?;
            let Some(lane) = &self.lane else { return Ok((bounds, known)) };
            let marks: Vec<&Mark> = lane.mark.iter().filter(|_| known.record.is_some()).collect();
            let evidence = self.shared.log.look_at(&bounds, &marks).await?;
            match lane.stands(known.record.as_deref(), &evidence) {
                Standing::IsNews(mark) => self.shared.log_watch.lacks(mark, known.era.log).await?,
                Standing::SharesTo(shared_to) => {
                    self.goes_back_to(spec, shared_to, &known);
                    return Ok((bounds, known));
                }
            }
        }
        Err(Unavailable::new("comparing a lane with the log", "the log keeps changing"))
    }

    fn goes_back_to(&mut self, spec: &Subscription, shared_to: u64, known: &Known) {
        let Some(lane) = &mut self.lane else { return };
        let had = lane.clone();
        let found = FoundLog { epoch: known.epoch(), shared_to, at: Stamp::now() };
        if let Some(was_at) = lane.follow_log(spec, found, &fresh_name()) {
            let (position, epoch) = (lane.position, known.epoch().map(ToString::to_string));
            let waits = lane.state.fork().is_some();
            // Where the target has said that it is, it said of the log of before: it is heard again.
            self.target = TargetState::default();
            tracing::error!(id = %self.id, was_at, position, shared_to, log_epoch = epoch, waits, "lane.log_was_rolled_back");
        }
        self.is_written &= had == *lane;
    }

    /// Has a lane that does not know what stands at its position remember it, to tell whether the log is the same.
    pub(super) async fn remember_position(&self, lane: &mut Lane, known: &Known) -> Result<(), Unavailable> {
        lane.is_of_log(known.epoch());
        let marked_to = lane.mark.as_ref().map_or(0, |mark| mark.sequence);
        if known.record.is_some() && marked_to < lane.position {
            lane.is_marked_by(self.shared.log.mark_at(lane.position).await?);
        }
        Ok(())
    }

    /// What a lane has delivered beyond what is written of it, as far as is known; and what stands there. What was noted in a log
    /// that is another one by now says nothing.
    pub(super) async fn floor(&self, lane: &Lane, generation: u64) -> Result<Option<(u64, Option<Mark>)>, Unavailable> {
        let epoch = lane.epoch.to_string();
        if lane.epoch.has_consumer() {
            return self.floor_of_consumer(lane, &epoch).await;
        }
        let Some(noted) = self.logged(&epoch).await.filter(|noted| noted.position > lane.position) else {
            return Ok(None);
        };
        // Before the log is looked at: what it lacks is news of this log, or of none.
        let (known, log) = (self.shared.known_log.on(generation).await, &self.shared.log);
        if let Some(newest) = noted.newest
            && !self.shared.position_log.is_in(newest, log, self.began).await?
        {
            let position = noted.position;
            tracing::warn!(id = %self.id, position, newest = newest.sequence, "positions.of_another_log");
            if known.record.as_ref().is_some_and(|record| record.is_surely_of_this_log(noted.at)) {
                let mark = Mark::new(newest.sequence, "", newest.stored_at);
                self.shared.log_watch.lacks(mark, known.era.log).await?;
            }
            return Ok(None);
        }
        Ok(Some((noted.position, log.mark_at(noted.position).await?)))
    }

    /// How far the lane of an epoch had come by the position log, where that may say more than what is written of the lane.
    async fn logged(&self, epoch: &str) -> Option<Noted> {
        let (log, mut noted) = (&self.shared.position_log, Vec::new());
        if let Begins::Again(_) = self.begins {
            noted.extend(log.position(epoch, Some(log.name()), self.began).await);
        }
        if let Takeover::Fenced { from } = self.begins.takeover() {
            noted.extend(log.position(epoch, from.as_deref(), self.began).await);
        }
        noted.into_iter().max_by_key(|noted| noted.position)
    }

    async fn floor_of_consumer(&self, lane: &Lane, epoch: &str) -> Result<Option<(u64, Option<Mark>)>, Unavailable> {
        let standing = self.shared.feeds.standing(&self.id).await?.filter(|standing| standing.epoch == epoch);
        let Some(standing) = standing.filter(|standing| standing.floor > lane.position) else { return Ok(None) };
        let Some(event) = self.shared.log.get(standing.floor).await? else { return Ok(None) };
        // Stored after the last acknowledgement: it took the place of the one that was acknowledged.
        if standing.acknowledged_at.is_some_and(|at| event.stored_at > at) {
            tracing::warn!(id = %self.id, floor = standing.floor, "consumer.of_another_log");
            return Ok(None);
        }
        Ok(Some((standing.floor, Some(Mark::of(&event)))))
    }
}
