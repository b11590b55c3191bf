//! One look at the log: what was recorded and remembered of it is compared with what stands there.

use std::time::Duration;

use broker::Unavailable;
use broker::event_log::LogBounds;
use broker::log_records::Current;
use domain::Stamp;
use domain::log_epoch::{Epoch, Evidence, Judgement, LogEpoch, LogRecord, Mark, Verdict, judge};
use tokio::time::sleep;

use super::LogWatch;

/// How often a look begins anew because somebody else has written, or the log was not what it seemed.
const MAX_TURNS: usize = 12;
/// How long to wait, and how often, before believing that the log is another one: a replica that has just become the leader may
/// not have taken in all of it, and one that was cut off may believe for a moment that it still is the leader.
const CONFIRM_AFTER: Duration = Duration::from_millis(250);
const CONFIRMATIONS: usize = 4;
/// How many lanes' marks are compared at the first look of a process: those that are furthest.
const LANES_MARKS: usize = 16;

/// What is kept between looks.
#[derive(Default)]
pub(super) struct Looking {
    /// Whether lanes' marks were compared, once in this process.
    has_asked_lanes: bool,
    /// Where the newest checkpoint was when it was read last: a dispatcher that finds another one there lets others write them.
    newest_checkpoint: u64,
}

/// What a look has come to.
enum Outcome {
    /// The log is the one that is recorded. With a checkpoint to be added, if there is one.
    Continues(Option<Mark>),
    Forked(Fork),
}

/// The log is another one.
struct Fork {
    shared_to: u64,
    /// What was to be there, and is not.
    lacking: Mark,
    /// Whether the log ends before it.
    is_cut: bool,
}

/// What was read of the log, or noted of it, and which log that was.
struct Remembered {
    marks: Vec<Mark>,
    /// `None`: that is not known yet.
    of: Option<LogEpoch>,
}

impl Remembered {
    /// Forgets what is of another log than the recorded one: somebody else has declared that, and nothing of what is remembered
    /// need be in there. Answers whether that was so.
    fn is_compared_with(&mut self, recorded: &LogEpoch) -> bool {
        let is_of_another = self.of.as_ref().is_some_and(|of| of != recorded);
        if is_of_another {
            self.marks.clear();
        }
        self.of = Some(recorded.clone());
        is_of_another
    }
}

impl LogWatch {
    /// Looks at the log, and tells what is known then. `remembered`: what was read in the log with the number `log`, each of which
    /// is compared.
    pub(super) async fn look(&self, log: u64, remembered: &[Mark]) -> Result<(), Unavailable> {
        let mut looking = self.looking.lock().await;
        // While it waited, this process may have found that the log is another one, or come to another connection.
        let (generation, known) = (self.broker.link().borrow().generation, self.known.now());
        let is_of_known_log = known.era.log == log && known.record.is_some();
        let marks = if is_of_known_log { remembered.to_vec() } else { Vec::new() };
        let mut remembered = Remembered { marks, of: known.epoch().cloned() };
        let (mut asks_lanes, mut confirmed) = (!looking.has_asked_lanes, 0);
        for _ in 0..MAX_TURNS {
            let Some(Current { revision, record }) = self.records.get().await? else {
                if known.record.is_some() {
                    // It may only have been late to answer, as when its replicas choose a leader: what was known holds until then.
                    return Err(Unavailable::new("looking at the log", "the bucket LOG is not found any more"));
                }
                self.publish(generation, None);
                return Ok(());
            };
            let epoch = record.as_ref().and_then(LogRecord::current).map(|current| current.epoch.clone());
            let (Some(mut record), Some(epoch)) = (record, epoch) else {
                let record = LogRecord::begin(LogEpoch::of(rand::random()), Stamp::now());
                self.records.put(&record, revision).await?;
                continue;
            };
            if remembered.is_compared_with(&epoch) {
                (asks_lanes, confirmed) = (!looking.has_asked_lanes, 0);
            }
            if std::mem::take(&mut asks_lanes) {
                remembered.marks.extend(self.furthest_of_lanes(&record).await?);
                remembered.marks.extend(self.last_noted(&record).await);
            }
            // After all that it is compared with: what was there before the log is looked at is in it.
            let bounds = self.log.bounds().await?;
            match self.compare(&record, &bounds, &remembered.marks).await? {
                Outcome::Forked(_) if confirmed < CONFIRMATIONS => {
                    confirmed += 1;
                    sleep(CONFIRM_AFTER).await;
                }
                Outcome::Forked(fork) => {
                    let epoch = epoch_of(&fork, &bounds);
                    record.declare(epoch.clone());
                    if self.records.put(&record, revision).await?.is_some() {
                        let Epoch { epoch, from_sequence, reason, .. } = epoch;
                        tracing::error!(%epoch, from_sequence, reason, "log.forked");
                        looking.has_asked_lanes = true;
                        self.publish(generation, Some(record));
                        return Ok(());
                    }
                }
                Outcome::Continues(checkpoint) => {
                    looking.has_asked_lanes = true;
                    self.record(&mut looking, &mut record, revision, checkpoint).await;
                    self.publish(generation, Some(record));
                    return Ok(());
                }
            }
        }
        Err(Unavailable::new("looking at the log", "others keep writing what is recorded of it"))
    }

    /// What the lanes had last, of those that are furthest.
    async fn furthest_of_lanes(&self, record: &LogRecord) -> Result<Vec<Mark>, Unavailable> {
        let Some(current) = record.current() else { return Ok(Vec::new()) };
        let mut marks = self.lanes.marks(&current.epoch).await?;
        marks.sort_unstable_by_key(|mark| std::cmp::Reverse(mark.sequence));
        marks.truncate(LANES_MARKS);
        Ok(marks)
    }

    /// What was noted last of how far lanes had come, where that is not in the log: it is newer than what is written of them. What
    /// cannot be read is left out.
    async fn last_noted(&self, record: &LogRecord) -> Option<Mark> {
        let (newest, noted_at) = self.positions.newest().await.ok()??;
        if !record.is_surely_of_this_log(noted_at) {
            return None;
        }
        let found = self.log.mark_at(newest.sequence).await.ok()?;
        // By its time alone: its id was not noted.
        let is_in = found.is_some_and(|found| found.stored_at == newest.stored_at);
        (!is_in).then(|| Mark::new(newest.sequence, "", newest.stored_at))
    }

    async fn compare(
        &self,
        record: &LogRecord,
        bounds: &LogBounds,
        remembered: &[Mark],
    ) -> Result<Outcome, Unavailable> {
        let newest = record.checkpoints().last().map_or(0, |newest| newest.sequence);
        // Before the others are looked at: where the log becomes another one meanwhile, that is seen by them.
        let checkpoint = match bounds.last_sequence {
            last if last > newest => self.log.mark_at(last).await?,
            _ => None,
        };
        let mut evidence = bounds.evidence();
        let lacking = self.first_lacking(&mut evidence, remembered).await?;
        // What was recorded behind it may be of the present log.
        let mut recorded = record.checkpoints().to_vec();
        if let Some(lacking) = &lacking {
            recorded.retain(|mark| mark.sequence < lacking.sequence);
            recorded.push(lacking.clone());
        }
        let Verdict::Forked { shared_to } = self.judge(&recorded, &mut evidence).await? else {
            return Ok(Outcome::Continues(checkpoint));
        };
        let other = |mark: &&Mark| mark.sequence > shared_to && mark.sequence >= evidence.first_sequence;
        let Some(lacking) = recorded.iter().find(other).cloned() else { return Ok(Outcome::Continues(None)) };
        // What this process has read, and still has, says it more exactly.
        let mut finer = self.tail.marks_of(self.known.now().era.log, shared_to, lacking.sequence);
        finer.push(lacking.clone());
        let shared_to = match self.judge(&finer, &mut evidence).await? {
            Verdict::Forked { shared_to: finer } => shared_to.max(finer),
            Verdict::Continues | Verdict::Unknown => shared_to,
        };
        // What was stored after it and stands before it came after the fork, though this process may have read it since.
        let stored_since = self.log.first_sequence_from(lacking.stored_at).await?;
        let shared_to = shared_to.min(stored_since.map_or(u64::MAX, |first| first.saturating_sub(1)));
        let is_cut = lacking.sequence > evidence.last_sequence;
        Ok(Outcome::Forked(Fork { shared_to, lacking, is_cut }))
    }

    /// The first of what is remembered that is not in the log. Each is looked at: some may be of the present log.
    async fn first_lacking(&self, evidence: &mut Evidence, remembered: &[Mark]) -> Result<Option<Mark>, Unavailable> {
        let mut lacking: Option<Mark> = None;
        for mark in remembered {
            let verdict = self.judge(std::slice::from_ref(mark), evidence).await?;
            let is_first = lacking.as_ref().is_none_or(|first| mark.sequence < first.sequence);
            if matches!(verdict, Verdict::Forked { .. }) && is_first {
                lacking = Some(mark.clone());
            }
        }
        Ok(lacking)
    }

    async fn judge(&self, recorded: &[Mark], evidence: &mut Evidence) -> Result<Verdict, Unavailable> {
        loop {
            match judge(recorded, evidence) {
                Judgement::Is(verdict) => return Ok(verdict),
                Judgement::LookAt(sequence) => {
                    evidence.found.insert(sequence, self.log.mark_at(sequence).await?);
                }
            }
        }
    }

    /// Adds a checkpoint, unless another dispatcher does it just now. What comes of it does not matter: there will be others.
    async fn record(&self, looking: &mut Looking, record: &mut LogRecord, revision: u64, checkpoint: Option<Mark>) {
        let newest = record.checkpoints().last().map_or(0, |newest| newest.sequence);
        let is_mine = std::mem::replace(&mut looking.newest_checkpoint, newest) == newest;
        let Some(checkpoint) = checkpoint.filter(|_| is_mine || record.checkpoints().is_empty()) else { return };
        let sequence = checkpoint.sequence;
        let before = record.clone();
        if record.add_checkpoint(checkpoint) && matches!(self.records.put(record, revision).await, Ok(Some(_))) {
            looking.newest_checkpoint = sequence;
        } else {
            *record = before;
        }
    }
}

fn epoch_of(fork: &Fork, bounds: &LogBounds) -> Epoch {
    let Fork { shared_to, lacking, is_cut } = fork;
    let (sequence, last_sequence) = (lacking.sequence, bounds.last_sequence);
    let reason = if *is_cut {
        format!("the log ends with {last_sequence}, and there was an event {sequence}")
    } else {
        format!("event {sequence} is another one than before")
    };
    Epoch { epoch: LogEpoch::of(rand::random()), from_sequence: shared_to + 1, at: Stamp::now(), reason, is_fork: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_a_log_is_not_compared_with_one_that_somebody_else_has_declared() {
        let mark = || vec![Mark::new(9, "x", Stamp::from_micros(0))];
        let (first, second) = (LogEpoch::of(1), LogEpoch::of(2));
        for (what, of, kept) in
            [("it is this one", Some(&second), 1), ("another one", Some(&first), 0), ("the first look", None, 1)]
        {
            let mut remembered = Remembered { marks: mark(), of: of.cloned() };
            assert_eq!((remembered.is_compared_with(&second), remembered.marks.len()), (kept == 0, kept), "{what}");
        }
        // Between two turns of one look.
        let mut remembered = Remembered { marks: mark(), of: None };
        assert!(!remembered.is_compared_with(&first) && remembered.is_compared_with(&second));
        assert!(remembered.marks.is_empty() && !remembered.is_compared_with(&second));
    }
}
