//! One look at the log: what was recorded and remembered of it is compared with what stands there.

use std::time::Duration;

use broker::Unavailable;
use broker::event_log::LogBounds;
use broker::log_records::Current;
use domain::Stamp;
use domain::log_epoch::{Epoch, Evidence, Judgement, LogEpoch, LogRecord, Mark, Verdict, judge};
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use tokio::time::sleep;

use super::LogWatch;

/// How often a look begins anew because somebody else has written, or the log was not what it seemed.
const MAX_TURNS: usize = 8;
/// How long to wait before believing that the end of the log is lost: a replica that has just become the leader may not have
/// taken in all of it.
const CONFIRM_AFTER: Duration = Duration::from_millis(250);
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

impl LogWatch {
    /// Looks at the log, and tells what is known then. `remembered`: what was read in the log with the number `log`, each of which
    /// is compared.
    pub(super) async fn look(&self, generation: u64, log: u64, remembered: &[Mark]) -> Result<(), Unavailable> {
        let mut looking = self.looking.lock().await;
        // While it waited, this process may have found that the log is another one.
        let remembered = if self.known.now().era.log == log { remembered } else { &[] };
        let (mut remembered, mut asks_lanes, mut is_confirmed) = (remembered.to_vec(), !looking.has_asked_lanes, false);
        for _ in 0..MAX_TURNS {
            let Some(Current { revision, record }) = self.records.get().await? else {
                self.publish(generation, None);
                return Ok(());
            };
            let Some(mut record) = record.filter(|record| record.current().is_some()) else {
                let record = LogRecord::begin(LogEpoch::of(rand::random()), Stamp::now());
                self.records.put(&record, revision).await?;
                continue;
            };
            if self.known.now().epoch().is_some_and(|known| Some(known) != record.current().map(|now| &now.epoch)) {
                // Somebody else has declared it: what was read is of the log of before.
                remembered.clear();
            }
            if std::mem::take(&mut asks_lanes) {
                remembered.extend(self.furthest_of_lanes(&record).await?);
                remembered.extend(self.last_noted(&record).await);
            }
            // After all that it is compared with: what was there before the log is looked at is in it.
            let bounds = self.log.bounds().await?;
            match self.compare(&record, &bounds, &remembered).await? {
                Outcome::Forked(fork) if fork.is_cut && !is_confirmed => {
                    is_confirmed = true;
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
        // It may have been noted in the log of before.
        let declared = record.current().filter(|_| record.epochs().len() > 1);
        if declared.is_some_and(|epoch| noted_at <= epoch.at.plus_micros(CLOCK_SKEW_MARGIN_MICROS)) {
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
