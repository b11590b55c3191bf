//! Looking for holes in the log, and telling of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::Unavailable;
use broker::event_log::LogBounds;
use broker::log_records::CurrentHoles;
use domain::Stamp;
use domain::log_holes::{Findings, LogHoles, Missing, Range, is_within};
use tokio::time::{Instant, timeout};

use super::LogWatch;
use crate::source::log_bounds::KnownBounds;
use crate::source::tail::Jumps;

/// How often they are looked for, where nothing tells that there are new ones.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often a look begins anew because somebody else has written.
const MAX_TURNS: usize = 8;
/// How long recording them may take: where that is not permitted, nobody answers.
const RECORD_DEADLINE: Duration = Duration::from_secs(1);

/// What is known of the log's holes.
#[derive(Default)]
pub(super) struct Holes {
    known: Mutex<Arc<LogHoles>>,
    /// How many sequences held no event at the last look, less one than what stands here; 0: nobody has looked.
    counted: AtomicU64,
    /// Which, as far as nats-server has named them.
    named: Mutex<Arc<[Range]>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<Looking>,
}

/// What is kept between looks.
#[derive(Default)]
struct Looking {
    looked_at: Option<Instant>,
    /// The connection and the log of the last look.
    looked_in: (u64, u64),
    not_recorded: Option<NotRecorded>,
}

/// Somebody else has written the record meanwhile.
struct Overtaken;

/// What was found and could not be recorded.
#[derive(Clone)]
struct NotRecorded {
    holes: LogHoles,
    /// On which connection.
    generation: u64,
    /// Which revision of the record it was to replace; `None`: nobody answers, and it is not tried again on this connection.
    revision: Option<u64>,
}

impl NotRecorded {
    fn is_hopeless_on(&self, generation: u64) -> bool {
        self.revision.is_none() && self.generation == generation
    }
}

impl Holes {
    /// Whether so many missing sequences are accounted for.
    fn are_counted(&self, missing: u64) -> bool {
        self.counted.load(Ordering::Relaxed) == missing.saturating_add(1)
    }

    fn named(&self) -> Arc<[Range]> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Arc<LogHoles>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jumps for LogWatch {
    async fn jumped(&self, from: u64, to: u64) -> Result<(), Unavailable> {
        self.look_at(&[(from, to)]).await
    }
}

impl LogWatch {
    /// The holes that are known.
    pub(crate) fn holes(&self) -> Arc<LogHoles> {
        self.holes.known().clone()
    }

    /// Looks for holes if it is time to: what cannot be looked at now is looked at later.
    pub(super) async fn keep_holes_known(&self, generation: u64) {
        let is_due = {
            let looking = self.holes.looking.lock().await;
            let is_new = looking.looked_in != (generation, self.known.now().era.log);
            is_new || looking.looked_at.is_none_or(|at| at.elapsed() >= INTERVAL) || self.has_news()
        };
        if is_due && let Err(error) = self.look_for_holes(&[]).await {
            tracing::debug!(%error, "log.holes_not_looked_for");
        }
    }

    /// Whether more or less is missing than at the last look.
    fn has_news(&self) -> bool {
        let missing = self.log_bounds.borrow().missing;
        missing.is_some_and(|missing| !self.holes.are_counted(missing)) && !self.holes().is_limited()
    }

    /// Looks for holes where the log lacks other sequences than at the last look. Afterwards all that were there when the bounds
    /// were looked up are known.
    pub(crate) async fn accounts_for(&self, bounds: &LogBounds) -> Result<(), Unavailable> {
        if self.holes.are_counted(bounds.missing()) || self.holes().is_limited() {
            return Ok(());
        }
        self.look_for_holes(&[]).await
    }

    /// Looks what became of sequences that a reader was not given, where that is not known.
    pub(super) async fn look_at(&self, jumps: &[Range]) -> Result<(), Unavailable> {
        let (holes, named) = (self.holes(), self.holes.named());
        let is_news = |(from, to): &Range| {
            from <= to && !holes.is_limited() && !holes.cover((*from, *to)) && !is_within((*from, *to), &named)
        };
        let suspects: Vec<Range> = jumps.iter().copied().filter(is_news).collect();
        if suspects.is_empty() { Ok(()) } else { self.look_for_holes(&suspects).await }
    }

    async fn look_for_holes(&self, suspects: &[Range]) -> Result<(), Unavailable> {
        let mut looking = self.holes.looking.lock().await;
        for _ in 0..MAX_TURNS {
            let (generation, known_log) = (self.broker.link().borrow().generation, self.known.now());
            let (recorded, known) = match looking.not_recorded.clone() {
                Some(not_recorded) if not_recorded.is_hopeless_on(generation) => (None, Some(not_recorded.holes)),
                not_recorded => match self.records.holes().await? {
                    Some(recorded) => {
                        // Unless somebody else has written since.
                        let found = not_recorded.filter(|found| found.revision == Some(recorded.revision));
                        let known = found.map(|found| found.holes).or_else(|| recorded.holes.clone());
                        (Some(recorded), known)
                    }
                    None => (None, (looking.looked_at.is_some()).then(|| LogHoles::clone(&self.holes()))),
                },
            };
            // What a reader has not found may be there again.
            let read = known.iter().flat_map(LogHoles::read);
            let suspects: Vec<Range> = suspects.iter().copied().chain(read).collect();
            let observed = self.log.observe_holes(&suspects).await?;
            let counted = match &observed.missing {
                Missing::Ranges(ranges) => ranges.iter().map(|(from, to)| to + 1 - from).sum(),
                Missing::TooMany(missing) => *missing,
            };
            let findings = LogHoles::after(known.as_ref(), &observed, known_log.epoch(), Stamp::now());
            match recorded {
                Some(CurrentHoles { revision, holes }) if holes.as_ref() != Some(&findings.holes) => {
                    match self.record_holes(&findings.holes, revision, generation).await {
                        Ok(not_recorded) => looking.not_recorded = not_recorded,
                        Err(Overtaken) => continue,
                    }
                }
                Some(_) => looking.not_recorded = None,
                None => {
                    if let Some(not_recorded) = &mut looking.not_recorded {
                        not_recorded.holes = findings.holes.clone();
                    }
                }
            }
            let is_first = looking.looked_at.replace(Instant::now()).is_none();
            looking.looked_in = (generation, known_log.era.log);
            if let Missing::Ranges(ranges) = observed.missing {
                *self.holes.named.lock().unwrap_or_else(PoisonError::into_inner) = ranges.into();
            }
            self.holes.counted.store(counted.saturating_add(1), Ordering::Relaxed);
            self.tell_of_holes(findings, is_first);
            return Ok(());
        }
        Err(Unavailable::new("looking for holes in the log", "others keep writing what is recorded of them"))
    }

    /// Writes what is known in place of a revision of the record, and answers what could not be written: it is told and acted upon
    /// all the same.
    async fn record_holes(
        &self,
        holes: &LogHoles,
        revision: u64,
        generation: u64,
    ) -> Result<Option<NotRecorded>, Overtaken> {
        let key = "$KV.LOG.holes";
        let retries = match timeout(RECORD_DEADLINE, self.records.put_holes(holes, revision)).await {
            Ok(Ok(Some(_))) => return Ok(None),
            Ok(Ok(None)) => return Err(Overtaken),
            Ok(Err(error)) => {
                tracing::warn!(key, %error, "log.holes_not_recorded");
                true
            }
            Err(_) => {
                tracing::warn!(key, error = "nobody answers", "log.holes_not_recorded");
                false
            }
        };
        Ok(Some(NotRecorded { holes: holes.clone(), generation, revision: retries.then_some(revision) }))
    }

    /// Says what is new, and has lanes look at it.
    fn tell_of_holes(&self, findings: Findings, is_first: bool) {
        let Findings { holes, new, closed } = findings;
        for hole in &new {
            let (from_sequence, to_sequence, missing) = (hole.from_sequence, hole.to_sequence, hole.missing);
            if hole.is_lost() {
                tracing::error!(from_sequence, to_sequence, missing, "log.hole");
                self.metrics.hole_found();
            } else {
                tracing::warn!(from_sequence, to_sequence, missing, reason = ?hole.reason, "log.hole_reported");
            }
        }
        for hole in &closed {
            let (from_sequence, to_sequence) = (hole.from_sequence, hole.to_sequence);
            tracing::warn!(from_sequence, to_sequence, "log.hole_closed");
        }
        let (lost, reported) = holes.missing();
        if is_first && lost + reported > 0 && new.is_empty() {
            tracing::warn!(lost, reported, "log.holes_known");
        }
        self.metrics.holes_are(lost, reported);
        let is_news = {
            let mut known = self.holes.known();
            let is_news = **known != holes;
            *known = Arc::new(holes);
            is_news
        };
        if is_news {
            KnownBounds::has_other_holes(&self.log_bounds);
        }
    }
}
