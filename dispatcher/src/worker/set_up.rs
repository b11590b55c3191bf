//! Bringing together the spec, what was written of a lane, and the log.

use broker::Unavailable;
use domain::lane::gap::{Beginning, Loss};
use domain::lane::{Epoch, Gap, Lane};
use domain::{Stamp, Subscription};
use tokio::time::Instant;

use super::{Begins, Worker};
use crate::failpoints;
use crate::ownership::owned::Takeover;
use crate::session::fresh_name;
use crate::source::known_log::Known;

impl Worker {
    /// Brings together the spec and the status, and writes the outcome before anything is done about it. Answers it, and with
    /// which sequence the log begins, and which log it is.
    pub(super) async fn set_up(
        &mut self,
        spec: &Subscription,
        generation: u64,
    ) -> Result<(Lane, u64, Known), Unavailable> {
        if self.lane.is_none() || self.is_stale {
            if self.is_stale {
                self.began = Instant::now();
                self.begins = Begins::Again(self.begins.takeover().clone());
            }
            self.load(generation).await?;
            self.is_stale = false;
        }
        let (bounds, known) = self.follow_log(spec, generation).await?;
        let holes = self.shared.log_watch.holes();
        if let Some(lane) = &mut self.lane {
            self.is_written &= !lane.settle_doubt(spec, &holes, bounds.first_sequence);
        }
        let before = self.lane.as_ref();
        let mut lane = Lane::reconcile(before, spec, Epoch::WithoutConsumer(fresh_name()));
        failpoints::misplace(&mut lane, before, spec);
        let (position, last_sequence) = (lane.position, bounds.last_sequence);
        if lane.follow_log_back(last_sequence, &fresh_name()) {
            tracing::error!(id = %self.id, position, last_sequence, "lane.log_was_rolled_back");
        }
        let is_resumed = |before: &Lane| before.state.gap().is_some() && before.resumption != spec.resumption;
        if before.is_some_and(is_resumed) {
            // The log may have been cut further since the gap was noticed: the subscription was resumed to go on.
            lane.go_on_at(bounds.first_sequence);
        }
        let begins = Beginning { sequence: bounds.first_sequence, stored_at: bounds.first_stored_at };
        match lane.take_in_beginning(spec, begins, Stamp::now()) {
            Loss::None => {}
            Loss::Allowed(Gap { from_sequence, to_sequence, .. }) => {
                tracing::warn!(id = %self.id, from_sequence, to_sequence, "lane.gap_allowed");
            }
            Loss::Stops(Gap { from_sequence, to_sequence, .. }) => {
                tracing::error!(id = %self.id, from_sequence, to_sequence, "lane.gap");
            }
        }
        lane.sees(&holes);
        self.remember_position(&mut lane, &known).await?;
        self.is_written &= self.lane.as_ref() == Some(&lane);
        self.meter.shows(&lane);
        self.lane = Some(lane.clone());
        if !self.is_written {
            self.write(&mut lane).await?;
        }
        Ok((lane, bounds.first_sequence, known))
    }

    /// Goes on where an earlier worker left off.
    async fn load(&mut self, generation: u64) -> Result<(), Unavailable> {
        let (revision, mut lane) = self.shared.lanes.get(&self.id).await?;
        self.is_written = lane.is_some();
        if let Some(lane) = &mut lane
            && let Some((floor, mark)) = self.floor(lane, generation).await?
        {
            self.is_written = false;
            lane.adopt_floor(floor, mark);
        }
        if let (Some(lane), Takeover::Fenced { .. }) = (&mut lane, self.begins.takeover())
            && !failpoints::has_no_fencing()
        {
            // Another consumer: what the dispatcher before may still read from the old one is nobody's.
            lane.epoch = Epoch::WithoutConsumer(fresh_name());
            self.is_written = false;
        }
        (self.revision, self.lane) = (revision, lane);
        Ok(())
    }

    /// Writes a lane that no session has.
    pub(super) async fn write(&mut self, lane: &mut Lane) -> Result<(), Unavailable> {
        self.meter.shows(lane);
        lane.updated = Stamp::now();
        if failpoints::has_no_fencing() {
            (self.revision, _) = self.shared.lanes.get(&self.id).await?;
        }
        let stored = self.shared.lanes.put(&self.id, lane, self.revision).await?;
        self.is_stored(stored)?;
        (self.is_written, self.lane) = (true, Some(lane.clone()));
        Ok(())
    }

    /// Takes in what came of a write: the new revision, or `None` where somebody else has written.
    pub(super) fn is_stored(&mut self, revision: Option<u64>) -> Result<(), Unavailable> {
        let Some(revision) = revision else {
            self.is_stale = true;
            return Err(Unavailable::new("writing a lane's state", "somebody else has written it"));
        };
        self.revision = revision;
        Ok(())
    }
}
