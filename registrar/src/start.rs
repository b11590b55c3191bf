//! To which sequence a start is resolved: the first that may be wanted, pinned when a registration is accepted.

use std::collections::HashMap;

use broker::Unavailable;
use broker::event_log::EventLog;
use domain::subscription::CLOCK_SKEW_MARGIN_MICROS;
use domain::{Attributes, Entry, Event, Stamp};
use uuid::Uuid;

/// Resolves the starts of one request: each moment is looked up once.
pub struct Starts<'a> {
    log: &'a EventLog,
    now: Stamp,
    /// The sequence that the next event will have, or less: everything acknowledged from now on is at or above it.
    pub live_from: u64,
    /// The oldest event's sequence; of an emptied log the next event's.
    first_sequence: u64,
    begins: Begins,
    known: HashMap<Stamp, u64>,
}

/// How the log begins.
#[derive(Debug, Clone, Copy)]
enum Begins {
    /// With the first event that was ever stored.
    Whole,
    /// With an event of this time: older ones have been removed.
    CutTo(Stamp),
    /// With nothing: all that there was has been removed.
    Emptied,
}

/// Why a registration cannot begin where its attributes say.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of them it is about.
    pub about: About,
    /// What is wrong with it, and what to do.
    pub detail: String,
}

/// Which attribute says where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A time.
    Time,
    /// A place in the log.
    Position,
}

const OR_ALLOW: &str = ", or set `allow_gap` to true to begin with what is left";

/// Where to look for the first event that may be wanted.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    /// With the next event.
    Live,
    /// With the log's first event.
    Oldest,
    /// With the first event of the transaction that is asked for.
    OfTransaction,
    /// With the first event stored at or after a moment.
    StoredFrom(Stamp),
    /// With the first event behind a sequence.
    Behind(u64),
}

impl<'a> Starts<'a> {
    /// Pins "now" to a sequence.
    pub async fn pin(log: &'a EventLog, now: Stamp) -> Result<Self, Unavailable> {
        let span = log.bounds().await?;
        let begins = match span.first_sequence {
            0 | 1 => Begins::Whole,
            cut => match (log.get(cut).await?, span.first_stored_at) {
                (Some(oldest), _) => Begins::CutTo(first_moment_of(&oldest)),
                (None, Some(stored_at)) => Begins::CutTo(stored_at),
                (None, None) => Begins::Emptied,
            },
        };
        let (live_from, first_sequence) = (span.last_sequence + 1, span.first_sequence.max(1));
        Ok(Self { log, now, live_from, first_sequence, begins, known: HashMap::new() })
    }

    /// What is wrong with beginning where these attributes say: there is no such place in the log; or something may have been
    /// removed that lay there, and `allow_gap` does not say that it does not matter.
    pub fn refused(&self, attributes: &Attributes) -> Option<Refused> {
        let (about, detail) = match (attributes.stated_position(), attributes.datetime_start) {
            (Some(position), _) => (About::Position, self.gap_behind(position, attributes.allow_gap)),
            (None, Some(_)) if attributes.allow_gap => (About::Time, None),
            (None, Some(start)) => (About::Time, self.gap_from(start).map(|gap| format!("{gap}{OR_ALLOW}"))),
            (None, None) => return None,
        };
        detail.map(|detail| Refused { about, detail })
    }

    /// What is wrong with delivering again from a moment on.
    pub fn cannot_redeliver_from(&self, start: Stamp) -> Option<String> {
        self.gap_from(start)
    }

    fn gap_behind(&self, position: u64, allow_gap: bool) -> Option<String> {
        if position >= self.live_from {
            return Some(format!("the log ends with sequence {}: nobody has had more of it", self.live_from - 1));
        }
        (position + 1 < self.first_sequence && !allow_gap).then(|| {
            format!(
                "the log has been cut: the oldest event there is has sequence {}. Set `allow_gap` to true to begin with it",
                self.first_sequence
            )
        })
    }

    fn gap_from(&self, start: Stamp) -> Option<String> {
        match self.begins {
            Begins::CutTo(oldest) if start < oldest && reaches_back(start, self.now) => {
                Some(format!("the log has been cut: the oldest event there is is from {oldest}. Start there"))
            }
            Begins::Emptied if start <= self.now => {
                Some("the log has been emptied: nothing is left of that time. Start later".to_owned())
            }
            Begins::Whole | Begins::CutTo(_) | Begins::Emptied => None,
        }
    }

    /// Up to where something may have been removed of a transaction that is asked for as a whole: what its id tells of its
    /// beginning is all that is known of it.
    fn lacks_to(&self, attributes: &Attributes) -> Option<u64> {
        let id = attributes.transaction_id.as_deref().filter(|_| !attributes.names_start() && !attributes.allow_gap)?;
        let may_lack = match self.begins {
            Begins::Whole => false,
            Begins::CutTo(oldest) => Stamp::of_transaction(id).is_none_or(|began| began < oldest),
            Begins::Emptied => true,
        };
        may_lack.then(|| self.first_sequence - 1)
    }

    /// An entry with these attributes, its start pinned.
    pub async fn entry(&mut self, attributes: &Attributes) -> Result<Entry, Unavailable> {
        Ok(Entry {
            registration: Uuid::now_v7().to_string(),
            registered_at: self.now,
            from_sequence: self.resolve(attributes).await?,
            live_from: self.live_from,
            continues: None,
            after_redelivery: None,
            lacks_to: self.lacks_to(attributes),
            attributes: attributes.clone(),
        })
    }

    /// The first sequence that a registration with these attributes may want.
    pub async fn resolve(&mut self, attributes: &Attributes) -> Result<u64, Unavailable> {
        let moment = match begin(attributes, self.now) {
            Begin::Live => return Ok(self.live_from),
            Begin::Oldest => return Ok(self.first_sequence.min(self.live_from)),
            Begin::OfTransaction => {
                let id = attributes.transaction_id.as_deref().unwrap_or_default();
                let beginning = self.log.beginning_of(id).await?;
                return Ok(beginning.max(self.first_sequence).min(self.live_from));
            }
            Begin::Behind(sequence) => return Ok((sequence + 1).max(self.first_sequence).min(self.live_from)),
            Begin::StoredFrom(moment) => moment,
        };
        if let Some(sequence) = self.known.get(&moment) {
            return Ok(*sequence);
        }
        let found = self.log.first_sequence_from(moment).await?;
        let sequence = found.map_or(self.live_from, |sequence| sequence.min(self.live_from));
        self.known.insert(moment, sequence);
        Ok(sequence)
    }
}

/// When the oldest event happened: what it says itself, unless that is no time of a receiver's clock, as for one that was
/// imported.
fn first_moment_of(oldest: &Event) -> Stamp {
    let early = oldest.stored_at.plus_micros(-CLOCK_SKEW_MARGIN_MICROS);
    if oldest.time >= early { oldest.time.min(oldest.stored_at) } else { oldest.stored_at }
}

/// A transaction without a start is looked for from its own beginning where its id may be a receiver's stamp, and otherwise
/// in the whole log.
fn begin(attributes: &Attributes, now: Stamp) -> Begin {
    if let Some(position) = attributes.stated_position() {
        return Begin::Behind(position);
    }
    let Attributes { datetime_start, transaction_id, .. } = attributes;
    match (datetime_start, transaction_id) {
        (Some(start), _) if reaches_back(*start, now) => {
            Begin::StoredFrom(start.plus_micros(-CLOCK_SKEW_MARGIN_MICROS))
        }
        (Some(_), _) | (None, None) => Begin::Live,
        (None, Some(id)) if Stamp::of_transaction(id).is_some() => Begin::OfTransaction,
        (None, Some(_)) => Begin::Oldest,
    }
}

/// Whether an event of that moment may be in the log already. Its time is of a receiver's clock, which may be ahead of this one.
fn reaches_back(start: Stamp, now: Stamp) -> bool {
    start <= now.plus_micros(CLOCK_SKEW_MARGIN_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::attributes::StartAt;

    const NOW: Stamp = Stamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_start_is_looked_for_a_margin_early_also_where_it_is_up_to_the_margin_ahead() {
        let past = NOW.plus_micros(-1);
        let with_start = |start| Attributes { datetime_start: Some(start), ..Attributes::default() };
        let of = |id: &str| Attributes { transaction_id: Some(id.to_owned()), ..Attributes::default() };
        assert_eq!(begin(&Attributes::default(), NOW), Begin::Live);
        assert_eq!(
            begin(&with_start(NOW.plus_micros(CLOCK_SKEW_MARGIN_MICROS)), NOW),
            Begin::StoredFrom(NOW),
            "a receiver whose clock is ahead may have stored it already"
        );
        assert_eq!(begin(&with_start(NOW.plus_micros(CLOCK_SKEW_MARGIN_MICROS + 1)), NOW), Begin::Live);
        assert_eq!(begin(&with_start(past), NOW), Begin::StoredFrom(past.plus_micros(-CLOCK_SKEW_MARGIN_MICROS)));
        let stated = Attributes { start: Some(StartAt::After(7)), ..of("my order") };
        assert_eq!(begin(&stated, NOW), Begin::Behind(7));
        assert_eq!(begin(&of("my order"), NOW), Begin::Oldest);
        assert_eq!(begin(&of("20260131093000"), NOW), Begin::Oldest);
        assert_eq!(begin(&of(&past.to_string()), NOW), Begin::OfTransaction);
    }
}
