//! The loop around a session: its actions are carried out, and what comes is handed in.

use std::sync::Arc;

use broker::Unavailable;
use broker::feed::{Delivery, FeedError};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::Worker;
use super::run::{Run, now, told};
use super::waiting::{Calls, Came};
use crate::failpoints;
use crate::session::{Input, Leave, Message, Unread};
use crate::source::tail::Jumps;

impl Run {
    /// A message that has come already, where nothing else calls for attention.
    fn at_hand(&mut self, calls: &Calls) -> Option<Result<Delivery, FeedError>> {
        let is_due = self.session.deadline().is_some_and(|at| at <= Instant::now().into_std());
        if calls.is_anything() || is_due || !self.session.takes_in_first() {
            return None;
        }
        self.source.next().now_or_never()
    }
}

impl Worker {
    /// Reads the source and has each event taken, until something changes.
    pub(super) async fn deliver(&mut self, run: &mut Run) -> Result<Leave, Unavailable> {
        let mut calls = Calls::of(&self.spec, &self.shared, &self.shutdown, run.era.generation);
        loop {
            while let Some(action) = run.session.next_action() {
                if let Some(leave) = self.carry_out(run, action).await? {
                    return Ok(leave);
                }
            }
            self.tell(run);
            let came = match run.at_hand(&calls) {
                Some(message) => Came::Message(message),
                None => run.what_comes(&mut calls).await,
            };
            if matches!(came, Came::Message(_)) && calls.has_other_bounds() {
                // It may be the one behind a hole that has just been found.
                self.takes_in_holes(run);
            }
            self.takes_in(run, came).await?;
        }
    }

    /// Hands what came to the session.
    async fn takes_in(&mut self, run: &mut Run, came: Came) -> Result<(), Unavailable> {
        let input = match came {
            Came::Message(message) => self.input_of(run, message).await?,
            Came::Landed(landed) => {
                self.lands(run, landed);
                return Ok(());
            }
            Came::Chore(chore) => self.is_done(run, chore)?,
            Came::Bounds(bounds) => {
                // Before the holes: what it was given before one was found, it was given.
                self.say_what_is_given(run);
                self.takes_in_holes(run);
                match bounds.log == run.era.log {
                    true => Some(Input::Cut { first_sequence: bounds.first_sequence }),
                    false => Some(Input::Forked),
                }
            }
            Came::Alarm => {
                run.session.handle_timeout(now());
                None
            }
            Came::Leave(leave) => {
                self.say_what_is_given(run);
                Some(Input::Leave(leave))
            }
        };
        if let Some(input) = input {
            run.session.handle(input, now());
        }
        Ok(())
    }

    async fn input_of(
        &mut self,
        run: &mut Run,
        message: Result<Delivery, FeedError>,
    ) -> Result<Option<Input<Delivery>>, Unavailable> {
        let mut delivery = match message {
            Ok(delivery) => delivery,
            Err(FeedError::Unavailable(error)) => return Err(error),
            Err(FeedError::Unreadable) => return Ok(Some(Input::Unread(Unread::Unreadable))),
            Err(why @ (FeedError::Gap { .. } | FeedError::Behind | FeedError::Ended)) => {
                tracing::info!(id = %self.id, %why, "lane.reads_again");
                return Ok(Some(Input::Unread(Unread::Interrupted)));
            }
        };
        let due = run.session.read_to() + 1;
        if delivery.sequence > due && run.reads_all {
            self.shared.log_watch.jumped(due.max(run.begins_with), delivery.sequence - 1).await?;
            self.takes_in_holes(run);
        }
        // Not by words that are not the last ones.
        if self.spec.has_changed().unwrap_or(true) {
            return Ok(Some(Input::Leave(Leave::SetUp)));
        }
        if failpoints::acknowledges_early() {
            delivery.acknowledge().await?;
            self.note_position(run, delivery.sequence);
        }
        let (sequence, backlog, event) = (delivery.sequence, delivery.backlog, delivery.event.take());
        Ok(Some(Input::Read(Message { sequence, event, backlog, token: delivery })))
    }

    /// Tells the session which holes there are, where it does not know.
    pub(super) fn takes_in_holes(&self, run: &mut Run) {
        let holes = self.shared.log_watch.holes();
        if !Arc::ptr_eq(&holes, run.session.holes()) {
            run.session.handle(Input::Holes(holes), now());
        }
    }

    pub(super) fn say_what_is_given(&self, run: &mut Run) {
        let bounds = *self.shared.log_bounds.borrow();
        let to = run.source.has_given_to(bounds, Instant::from_std(run.session.waiting_since()));
        let is_at_end = run.source.backlog() == 0;
        run.session.handle(Input::Given { to, is_at_end }, now());
    }

    /// Shows what waits, and how far the lane has come.
    fn tell(&self, run: &mut Run) {
        let window = run.session.window();
        let oldest = window.first().and_then(|slot| slot.load.as_ref());
        self.meter.waits(window.waiting(), oldest.and_then(told));
        let (position, in_hand, settled) = (run.session.lane().position, window.len(), run.session.settled());
        if (position, in_hand, settled) != run.told {
            self.meter.settled(u32::try_from(settled - run.told.2).unwrap_or(u32::MAX));
            run.source.note(position, in_hand);
            run.told = (position, in_hand, settled);
        }
    }
}
