//! What was asked for, per URL: the value of a key in the bucket `SUBSCRIPTIONS`. Only the registrar writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::delivery_settings::DeliverySettings;
use crate::event::Event;
use crate::signing_secret::SigningSecret;
use crate::stamp::Stamp;
use crate::target_url::TargetUrl;
use crate::type_pattern::TypePattern;

/// How far the clocks of two machines of one installation may differ, in microseconds.
///
/// A replay starts reading this much before the start that was asked for, and an end is over only this much after it:
/// an event's own time comes from the receiver's clock, its place in the log from the NATS server's.
pub const CLOCK_SKEW_MARGIN_MICROS: i64 = 5_000_000;

/// All that is registered for one URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Where events go.
    pub url: TargetUrl,
    /// What is wanted, by type or pattern.
    pub entries: BTreeMap<TypePattern, Entry>,
    /// A label to find it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether deliveries wait until they are resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// How events are delivered.
    #[serde(default)]
    pub delivery: DeliverySettings,
    /// A name for the last act of registering anything: it ends what a target or too many attempts have stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<String>,
    /// The part of the log that is to be delivered again, by the last request for it.
    #[serde(default, rename = "replay", skip_serializing_if = "Option::is_none")]
    pub redelivery: Option<Redelivery>,
    /// A name for the last act of resuming: a lane that waits because of a gap goes on when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumption: Option<String>,
    /// The test of the target that was last asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// What deliveries are signed with; with none they are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SigningSecret>,
}

/// A request that is to be made to the target for the sake of its answer. It is no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// A name for this act of asking.
    pub id: String,
    /// When it was asked for.
    pub asked_at: Stamp,
}

/// A request for a redelivery: a part of the log is delivered again, to the entries that want its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// A name for this act of asking.
    pub id: String,
    /// When it was asked for.
    pub asked_at: Stamp,
    /// Where it begins.
    pub from_sequence: u64,
    /// Where it ends, inclusive.
    pub to_sequence: u64,
    /// Events of an earlier time are left out.
    pub from: Stamp,
    /// Events of a later time are left out.
    pub to: Option<Stamp>,
    /// These events alone, whatever their times; the part then lies between the first and the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<u64>>,
}

/// The most events that [`Redelivery::only`] may name.
pub const MAX_ONLY: usize = 1000;

impl Redelivery {
    /// These events alone; `None` where there are none.
    pub fn of_only(id: String, asked_at: Stamp, only: BTreeSet<u64>) -> Option<Self> {
        let (from_sequence, to_sequence) = (*only.first()?, *only.last()?);
        Some(Self { id, asked_at, from_sequence, to_sequence, from: asked_at, to: None, only: Some(only) })
    }

    /// Whether an event of that sequence may be in the part, by what is known without its time.
    pub fn may_hold(&self, sequence: u64) -> bool {
        match &self.only {
            Some(only) => only.contains(&sequence),
            None => (self.from_sequence..=self.to_sequence).contains(&sequence),
        }
    }

    /// Whether an event is in the part.
    pub fn holds(&self, event: &Event) -> bool {
        let is_in_time = event.time >= self.from && self.to.is_none_or(|to| event.time <= to);
        self.may_hold(event.sequence) && (self.only.is_some() || is_in_time)
    }
}

/// One registered (event, URL) pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// A name for this act of registering: registering the pair again gives it another one, and it starts again.
    pub registration: String,
    /// When it was accepted.
    pub registered_at: Stamp,
    /// The first sequence that may be wanted: where the start was resolved to at acceptance.
    pub from_sequence: u64,
    /// The first sequence that came after acceptance; what lies before is replayed.
    pub live_from: u64,
    /// The registration that this one replaced without asking for the past: what that one was promised and has not
    /// had is still owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continued>,
    /// The redelivery request that stood when the pair was first registered: it was made for the entries of that time, and
    /// not for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_redelivery: Option<String>,
    /// Everything up to here had been removed from the log when it was accepted, and some of it may have been of the transaction
    /// that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks_to: Option<u64>,
    /// What else it says.
    #[serde(default)]
    pub attributes: Attributes,
}

/// The first of an unbroken line of registrations of one pair, each of which replaced the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Continued {
    /// Its name.
    pub registration: String,
    /// Where its start was resolved to.
    pub from_sequence: u64,
    /// The first sequence that came after its acceptance.
    pub live_from: u64,
    /// What was said before the words last changed, and when it was accepted: below [`Continued::until`] only what
    /// that asked for too is owed.
    pub attributes: Attributes,
    /// When that was accepted.
    pub registered_at: Stamp,
    /// The first sequence for which the present words stand alone.
    pub until: u64,
    /// The same of the last changes of the words, in order: `until` is the last of them. Empty where an earlier build wrote this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<u64>,
    /// How often the words have changed; 0 where they never did, or an earlier build wrote this.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How many changes of the words an entry names one by one.
const CHANGES: usize = 8;

impl Subscription {
    /// Nothing registered yet.
    pub fn new(url: TargetUrl) -> Self {
        Self {
            url,
            entries: BTreeMap::new(),
            group: None,
            paused: false,
            delivery: DeliverySettings::default(),
            registered: None,
            redelivery: None,
            resumption: None,
            test: None,
            secrets: Vec::new(),
        }
    }

    /// A newly accepted entry as it is to stand here: in the place of an earlier one of the pair, or as a new one.
    pub fn admits(&self, pattern: &TypePattern, entry: &Entry) -> Entry {
        match self.entries.get(pattern) {
            Some(earlier) => entry.clone().replacing(earlier),
            None => Entry {
                after_redelivery: self.redelivery.as_ref().map(|redelivery| redelivery.id.clone()),
                ..entry.clone()
            },
        }
    }
}

impl Entry {
    /// The same entry as the replacement of an earlier one: where it does not say itself where it begins, it goes on
    /// with what the earlier one is owed.
    pub fn replacing(mut self, earlier: &Self) -> Self {
        // A replica registers at each start: a redelivery that was requested for the pair goes on.
        self.after_redelivery.clone_from(&earlier.after_redelivery);
        if self.from_sequence < self.live_from || self.attributes.stated_position().is_some() {
            return self;
        }
        let mut continued = earlier.continues.clone().unwrap_or_else(|| Continued {
            registration: earlier.registration.clone(),
            from_sequence: earlier.from_sequence,
            live_from: earlier.live_from,
            attributes: earlier.attributes.clone(),
            registered_at: earlier.registered_at,
            until: 0,
            changes: Vec::new(),
            changed: 0,
        });
        if earlier.attributes != self.attributes {
            continued.attributes = earlier.attributes.clone();
            continued.registered_at = earlier.registered_at;
            continued.has_changed_at(self.live_from);
        }
        self.continues = Some(continued);
        self
    }

    /// What is kept where the same is said again as this was registered with: the same, and a later end where that is said by
    /// an `expire_after`. One whose end is over, or nearly, begins anew with what comes now, and what it is still owed.
    pub fn said_again(&self, now: &Self) -> Self {
        let has_moved = self.attributes.datetime_end != now.attributes.datetime_end;
        let nearly_over = |end: &Stamp| *end <= now.registered_at.plus_micros(CLOCK_SKEW_MARGIN_MICROS);
        if has_moved && self.attributes.datetime_end.as_ref().is_some_and(nearly_over) {
            return Self { from_sequence: now.live_from, ..now.clone() }.replacing(self);
        }
        let expire_after = now.attributes.expire_after.or(self.attributes.expire_after);
        Self { attributes: Attributes { expire_after, ..now.attributes.clone() }, ..self.clone() }
    }

    /// The name by which progress is known: it stays when a registration is replaced without asking for the past.
    pub fn line(&self) -> &str {
        self.continues.as_ref().map_or(&self.registration, |continued| &continued.registration)
    }

    /// The first sequence that it may have wanted since the pair was first registered: where it begins.
    pub fn begins_with(&self) -> u64 {
        self.continues.as_ref().map_or(self.from_sequence, |continued| continued.from_sequence)
    }

    /// The first sequence that was accepted after the pair was first registered.
    pub fn first_live(&self) -> u64 {
        self.continues.as_ref().map_or(self.live_from, |continued| continued.live_from)
    }

    /// What the words before the last change said, where an event came before the present words stood alone.
    pub fn earlier_words(&self, sequence: u64) -> Option<&Continued> {
        self.continues.as_ref().filter(|earlier| sequence < earlier.until)
    }

    /// Whether a sequence was accepted after the pair was first registered; what lies before is replayed.
    pub fn is_live_at(&self, sequence: u64) -> bool {
        sequence >= self.first_live()
    }

    /// Whether an event is within what this entry asks for, by its present words: its start, its end and its transaction. The
    /// type, the sequence it begins with and how many have been delivered are the lane's to look at.
    pub fn lets_through(&self, event: &Event, start: Start) -> bool {
        let_through(&self.attributes, self.registered_at, self.live_from, event, start)
    }

    /// The same, and where the words have changed since the event, by the words of that time too.
    pub fn asks_for(&self, event: &Event, start: Start) -> bool {
        self.lets_through(event, start)
            && self.earlier_words(event.sequence).is_none_or(|earlier| earlier.let_through(event, start))
    }

    /// The keys that an event must have.
    pub fn required_data(&self, sequence: u64, words: Words) -> impl Iterator<Item = &String> {
        let earlier = self.earlier_words(sequence).filter(|_| words == Words::OfItsTime);
        let earlier = earlier.map(|earlier| &earlier.attributes.required_data);
        self.attributes.required_data.iter().chain(earlier.into_iter().flatten())
    }

    /// Whether the present words name a start, or those before the last change did.
    pub fn names_start(&self) -> bool {
        let earlier = self.continues.as_ref().is_some_and(|earlier| earlier.attributes.names_start());
        self.attributes.names_start() || earlier
    }

    /// The moment from which on nothing that is stored can be wanted any more, where there is one.
    pub fn over_after(&self) -> Option<Stamp> {
        self.attributes.datetime_end.map(|end| end.plus_micros(CLOCK_SKEW_MARGIN_MICROS))
    }
}

/// Whether the start that an entry names is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is.
    Counts,
    /// The target has said itself where it is: what comes after that is wanted, whatever the start.
    IsWaived,
}

/// Which words say what an event must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// The present ones, and those of its time.
    OfItsTime,
    /// The present ones alone: it comes because the target says that it lacks it, or again on request.
    Present,
}

impl Continued {
    /// Records that the words change once more, behind what lies before a sequence.
    fn has_changed_at(&mut self, sequence: u64) {
        if self.until > 0 && self.changed == 0 {
            (self.changes, self.changed) = (vec![self.until], 1);
        }
        self.changes.push(sequence);
        self.changes.drain(..self.changes.len().saturating_sub(CHANGES));
        (self.until, self.changed) = (sequence, self.changed + 1);
    }

    /// The same without what goes along with deliveries: it may be large.
    pub fn words_alone(&self) -> Box<Self> {
        let attributes = Attributes { listener_data: None, ..self.attributes.clone() };
        Box::new(Self { attributes, ..self.clone() })
    }

    /// Whether these words asked for an event.
    pub fn asked_for(&self, event: &Event) -> bool {
        self.let_through(event, Start::Counts)
    }

    fn let_through(&self, event: &Event, start: Start) -> bool {
        let_through(&self.attributes, self.registered_at, self.live_from, event, start)
    }
}

/// Whether an event is within start, end and transaction of what was said at some time.
fn let_through(attributes: &Attributes, registered_at: Stamp, live_from: u64, event: &Event, start: Start) -> bool {
    let Attributes { datetime_start, datetime_end, transaction_id, .. } = attributes;
    // Everything accepted after a registration that reaches into the past is wanted, even from a receiver whose
    // clock is behind the one that the registrar read.
    let is_after_start =
        |start: &Stamp| event.time >= *start || (*start <= registered_at && event.sequence >= live_from);
    (start == Start::IsWaived || datetime_start.as_ref().is_none_or(is_after_start))
        && datetime_end.is_none_or(|end| event.time <= end)
        && transaction_id.as_ref().is_none_or(|id| *id == event.transaction_id)
}

#[cfg(test)]
mod tests;
