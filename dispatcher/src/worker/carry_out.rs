//! Carrying out what a session wants done. What takes time is a future beside the requests, so that nothing waits for it that
//! does not have to: no request holds a permit that only a waiting loop would give back.

use broker::Unavailable;
use broker::event_log::{EventLog, LogBounds, LogEnd};
use domain::log_epoch::Mark;
use domain::{DeadLetter, Event, Stamp};

use super::Worker;
use super::chore::Chore;
use super::run::Run;
use super::source::Source;
use crate::failpoints;
use crate::log_watch::LogWatch;
use crate::session::{Action, Input, Leave, Letter, ReadTo, Reads};
use crate::source::tail::Joining;
use broker::feed::Delivery;

impl Worker {
    /// Does one thing, or begins it. Answers how the session was left, where it is over.
    pub(super) async fn carry_out(
        &mut self,
        run: &mut Run,
        action: Action<Delivery>,
    ) -> Result<Option<Leave>, Unavailable> {
        match action {
            Action::Write(mut lane) => {
                self.meter.shows(&lane);
                lane.updated = Stamp::now();
                if failpoints::has_no_fencing() {
                    (self.revision, _) = self.shared.lanes.get(&self.id).await?;
                }
                let (lanes, id, revision) = (self.shared.lanes.clone(), self.id.clone(), self.revision);
                run.chores.push(Box::pin(async move { Chore::Written(lanes.put(&id, &lane, revision).await) }));
            }
            Action::Acknowledge(delivery) => {
                if let Some(delivery) = self.acknowledge(run, delivery) {
                    delivery.acknowledge().await?;
                }
            }
            Action::Send(load) => self.send(run, load),
            Action::Look { event, keys } => {
                let transactions = self.shared.transactions.clone();
                run.chores.push(Box::pin(async move {
                    Chore::Found(event.sequence, transactions.find(&event, &keys).await)
                }));
            }
            Action::LookUpBounds => {
                let (log, log_watch) = (self.shared.log.clone(), self.shared.log_watch.clone());
                run.chores.push(Box::pin(async move { Chore::Bounds(bounds_and_holes(&log, &log_watch).await) }));
            }
            Action::AskSource => self.say_what_is_given(run),
            Action::JoinTail { read_to } => self.join_tail(run, read_to),
            Action::Show => run.showing.push(self.show(run.session.lane())),
            Action::LookForEnd => {
                // First, so that whatever comes behind what was read is stored later.
                let end = self.shared.log.end().await?;
                let is_read = match &run.source {
                    Source::Consumer(own) => self.shared.feeds.is_read_to_the_end(&self.id, &own.feed).await?,
                    // It goes over to the tail first.
                    Source::Past(_) => false,
                    Source::Tail(follower) => follower.has_all_to().is_some_and(|to| to >= end.last_sequence),
                };
                let to = if is_read { Some(self.read_to(run, end).await?) } else { None };
                run.session.handle(Input::ReadToEnd(to), super::run::now());
            }
            Action::Compare(mark) => {
                let log = self.shared.log.clone();
                run.chores.push(Box::pin(async move { Chore::Compared(is_in(&log, &mark).await) }));
            }
            Action::Bury(letter) => self.bury(run, letter),
            Action::End(leave) => return Ok(Some(leave)),
        }
        Ok(None)
    }

    /// What an entry whose end is over can have wanted of a log that is read to its end: all that was stored before. Holes in
    /// there are known then.
    async fn read_to(&mut self, run: &mut Run, end: LogEnd) -> Result<ReadTo, Unavailable> {
        let (log, log_watch) = (&self.shared.log, &self.shared.log_watch);
        bounds_and_holes(log, log_watch).await?;
        let over = run.session.lane().next_over(run.session.spec());
        let moment = over.map_or(end.as_of, |over| end.as_of.min(over.plus_micros(1)));
        let behind = log.first_sequence_from(moment).await?;
        self.takes_in_holes(run);
        Ok(ReadTo { sequence: behind.map_or(end.last_sequence, |behind| behind - 1), moment })
    }

    /// Takes in what came of something that was begun.
    pub(super) fn is_done(&mut self, run: &mut Run, chore: Chore) -> Result<Option<Input<Delivery>>, Unavailable> {
        Ok(Some(match chore {
            Chore::Written(stored) => {
                self.is_stored(stored?)?;
                Input::Written
            }
            Chore::Found(sequence, found) => Input::Found { sequence, found: found? },
            Chore::Bounds(bounds) => {
                let LogBounds { first_sequence, last_sequence, .. } = bounds?;
                self.takes_in_holes(run);
                Input::Bounds { first_sequence, last_sequence }
            }
            Chore::Compared(is_in) => Input::Compared { is_in: is_in? },
            Chore::Joined(follower) => match follower? {
                Some(follower) => {
                    tracing::debug!(id = %self.id, read_to = run.session.read_to(), "lane.follows");
                    run.source = Source::Tail(follower);
                    run.tells_anew();
                    run.session.handle(Input::Joined, super::run::now());
                    run.epoch = run.session.lane().epoch.to_string();
                    return Ok(None);
                }
                None => Input::NotJoined,
            },
            Chore::Buried(letter, Ok(())) => {
                tracing::error!(
                    id = %self.id, sequence = letter.event.sequence, event_id = letter.event.id(),
                    trace_id = letter.event.trace_id(), attempts = letter.attempts, "dead_letter.written"
                );
                self.meter.buried();
                Input::Buried
            }
            Chore::Buried(letter, Err(error)) => {
                tracing::error!(
                    id = %self.id, sequence = letter.event.sequence, event_id = letter.event.id(),
                    trace_id = letter.event.trace_id(), %error, "dead_letter.not_written"
                );
                if !self.shared.lease.is_valid() {
                    return Ok(Some(Input::Leave(Leave::End)));
                }
                Input::NotBuried { jitter: rand::random() }
            }
        }))
    }

    /// Acknowledges what is settled: answers what is to be acknowledged to the consumer. A dispatcher whose lease is over
    /// does not: the consumer of that name may be its successor's by now.
    fn acknowledge(&self, run: &Run, delivery: Delivery) -> Option<Delivery> {
        if !self.shared.lease.is_valid() {
            return None;
        }
        self.note_position(run, delivery.sequence);
        (run.session.reads() == Reads::Consumer).then_some(delivery)
    }

    pub(super) fn note_position(&self, run: &Run, sequence: u64) {
        if run.session.reads() != Reads::Consumer {
            self.shared.position_log.note(&run.epoch, sequence, run.session.lane().mark.as_ref());
        }
    }

    fn join_tail(&self, run: &mut Run, read_to: u64) {
        let (tail, log, id) = (self.shared.tail.clone(), self.shared.log.clone(), self.id.clone());
        let (filters, era) = (run.session.lane().filters.clone(), run.era);
        let accounted_to = run.session.lane().accounted_to().max(read_to);
        run.chores.push(Box::pin(async move {
            let joining = Joining { id: &id, filters: &filters, position: read_to, accounted_to, era };
            Chore::Joined(tail.join(&log, &joining).await)
        }));
    }

    fn bury(&self, run: &mut Run, letter: Box<Letter>) {
        let (dead_letters, lease) = (self.shared.dead_letters.clone(), self.shared.lease.clone());
        let subscription = self.id.clone();
        run.chores.push(Box::pin(async move {
            if !lease.is_valid() {
                let error = Unavailable::new("writing a dead letter", "the lease of this dispatcher is over");
                return Chore::Buried(letter, Err(error));
            }
            let dead_letter = DeadLetter {
                subscription,
                event: Event::clone(&letter.event),
                attempts: letter.attempts,
                code: letter.code,
                error: letter.error.clone(),
                at: Stamp::now(),
            };
            let added = dead_letters.add(&dead_letter, &letter.name, letter.may_be_there).await;
            Chore::Buried(letter, added)
        }));
    }
}

/// Where the log begins and ends; and all holes that were there then are known.
async fn bounds_and_holes(log: &EventLog, log_watch: &LogWatch) -> Result<LogBounds, Unavailable> {
    let bounds = log.bounds().await?;
    log_watch.accounts_for(&bounds).await?;
    Ok(bounds)
}

/// Whether an event is where it was; also where nothing is there any more, as that proves nothing.
async fn is_in(log: &EventLog, mark: &Mark) -> Result<bool, Unavailable> {
    let bounds = log.bounds().await?;
    let is_cut = mark.sequence > bounds.last_sequence;
    Ok(!is_cut && log.mark_at(mark.sequence).await?.is_none_or(|found| found == *mark))
}
