//! A session on the bench: told one thing at a time, and asked what it wants done.

use std::sync::Arc;

use bytes::Bytes;
use domain::lane::{Epoch, Lane, Word};
use domain::subscription::Entry;
use domain::{Attributes, Event, Stamp, Subscription, TargetUrl, TypePattern};
use serde_json::{Value, json};

use super::super::*;
use crate::push::verdict::{Answer, PushOutcome};

/// A session whose actions are kept until a test looks at them.
pub(super) struct Bench {
    pub(super) session: Session<u64>,
    pub(super) now: Now,
}

/// What an action is, without what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Did {
    Wrote(u64, Word),
    Acknowledged(u64),
    Sent(Vec<u64>),
    Looked(Vec<String>),
    LookedUpBounds,
    Compared(u64),
    AskedSource,
    Joined(u64),
    Showed,
    LookedForEnd,
    Buried(u64, bool),
    Ended(Leave),
}

pub(super) fn spec(delivery: Value, attributes: Attributes) -> Subscription {
    let mut spec = Subscription::new(TargetUrl::parse("http://host/").unwrap());
    let entry = Entry {
        registration: "1".into(),
        registered_at: Stamp::from_micros(0),
        from_sequence: 1,
        live_from: 1,
        continues: None,
        after_redelivery: None,
        lacks_to: None,
        attributes,
    };
    spec.entries.insert(TypePattern::parse("a").unwrap(), entry);
    spec.delivery = serde_json::from_value(delivery).unwrap();
    spec
}

pub(super) fn status(status: u16) -> PushOutcome {
    PushOutcome::Answered(Answer { status, ..Answer::default() })
}

pub(super) fn resume_after(sequence: u64) -> PushOutcome {
    PushOutcome::Answered(Answer { status: 409, resume_after: Some(sequence.to_string()), ..Answer::default() })
}

impl Bench {
    pub(super) fn of(delivery: Value, attributes: Attributes, reads: Reads) -> Self {
        let spec = spec(delivery, attributes);
        let lane = Lane::reconcile(None, &spec, Epoch::Consumer("e".into()));
        Self::with(spec, lane, reads, TargetState::default())
    }

    pub(super) fn with(spec: Subscription, lane: Lane, reads: Reads, target: TargetState) -> Self {
        Self::beginning(spec, lane, reads, target, (9, Arc::default()))
    }

    /// With how many messages lie before it, and the holes that are known.
    pub(super) fn beginning(
        spec: Subscription,
        lane: Lane,
        reads: Reads,
        target: TargetState,
        (backlog, holes): (u64, Arc<LogHoles>),
    ) -> Self {
        let now = Now { at: Instant::now(), utc: Stamp::from_micros(1_000_000_000_000) };
        let begin = Begin {
            id: TargetUrl::parse("http://target/").unwrap().subscription_id(),
            spec: Arc::new(spec),
            lane,
            reads,
            holes,
            backlog,
            target,
            backoff: Backoff::default(),
            first_note: NOTE_INTERVAL,
        };
        let mut bench = Self { session: Session::new(begin, now), now };
        // What is done at the beginning: its consumer shows where the lane is.
        if !bench.is_over_at_once() {
            bench.wait(0);
            bench.tell(Input::Written);
        }
        bench
    }

    pub(super) fn is_over_at_once(&self) -> bool {
        self.session.spec().entries.values().any(|entry| entry.attributes.datetime_end.is_some())
    }

    pub(super) fn plain() -> Self {
        Self::of(json!({}), Attributes::default(), Reads::Tail)
    }

    pub(super) fn did(&mut self) -> Vec<Did> {
        let did = |action| match action {
            Action::Write(lane) => Did::Wrote(lane.position, lane.state.word()),
            Action::Acknowledge(token) => Did::Acknowledged(token),
            Action::Send(load) => Did::Sent(load),
            Action::Look { keys, .. } => Did::Looked(keys.into_iter().collect()),
            Action::LookUpBounds => Did::LookedUpBounds,
            Action::Compare(mark) => Did::Compared(mark.sequence),
            Action::AskSource => Did::AskedSource,
            Action::JoinTail { read_to } => Did::Joined(read_to),
            Action::Show => Did::Showed,
            Action::LookForEnd => Did::LookedForEnd,
            Action::Bury(letter) => Did::Buried(letter.event.sequence, letter.may_be_there),
            Action::End(leave) => Did::Ended(leave),
        };
        std::iter::from_fn(|| self.session.next_action()).map(did).collect()
    }

    pub(super) fn tell(&mut self, input: Input<u64>) -> Vec<Did> {
        self.session.handle(input, self.now);
        self.did()
    }

    pub(super) fn read_of(&mut self, of: &str, sequence: u64, backlog: u64) -> Vec<Did> {
        let at = Stamp::from_micros(i64::try_from(sequence).unwrap() * 1_000_000);
        let subject = format!("events.{of}");
        let event = Event::from_message("EVENTS", &subject, sequence, at, [], Bytes::from("{}")).unwrap();
        self.tell(Input::Read(Message { sequence, event: Some(Arc::new(event)), backlog, token: sequence }))
    }

    pub(super) fn read(&mut self, sequence: u64) -> Vec<Did> {
        self.read_of("a", sequence, 5)
    }

    pub(super) fn land(&mut self, load: &[u64], outcome: PushOutcome) -> Vec<Did> {
        let attempt = self.session.window().attempts(load);
        let (at, duration) = (self.now.utc, Duration::from_millis(1));
        let load = load.to_vec();
        self.tell(Input::Landed(Landed { load, attempt, outcome: Some(outcome), at, duration, jitter: 1.0 }))
    }

    pub(super) fn wait(&mut self, millis: u64) -> Vec<Did> {
        self.now.at += Duration::from_millis(millis);
        self.session.handle_timeout(self.now);
        // What comes by the way is no rule of delivery.
        self.did().into_iter().filter(|did| !matches!(did, Did::AskedSource | Did::Showed)).collect()
    }

    pub(super) fn deliver(&mut self, sequence: u64) {
        assert!(self.read(sequence).contains(&Did::Sent(vec![sequence])));
        self.land(&[sequence], status(204));
    }

    /// As [`Bench::wait`], with what comes by the way.
    pub(super) fn pass(&mut self, millis: u64) -> Vec<Did> {
        self.now.at += Duration::from_millis(millis);
        self.session.handle_timeout(self.now);
        self.did()
    }

    /// Reads an event that is alone in its transaction, with so many bytes of data.
    pub(super) fn read_alone(&mut self, sequence: u64, bytes: usize) -> Vec<Did> {
        let (at, id) = (Stamp::from_micros(0), format!("t{sequence}"));
        let (headers, data) = ([("ce-transactionid", id.as_str())], Bytes::from(format!("\"{}\"", "x".repeat(bytes))));
        let event = Event::from_message("EVENTS", "events.a", sequence, at, headers, data).unwrap();
        self.tell(Input::Read(Message { sequence, event: Some(Arc::new(event)), backlog: 9, token: sequence }))
    }

    pub(super) fn concurrent(settings: &[(&str, Value)]) -> Self {
        let mut delivery = json!({"mode": "concurrent", "concurrency": 3});
        for (name, value) in settings {
            delivery[*name] = value.clone();
        }
        Self::of(delivery, Attributes::default(), Reads::Tail)
    }

    /// All has been read up to a sequence, by now.
    pub(super) fn read_to_end(&self, sequence: u64) -> Input<u64> {
        Input::ReadToEnd(Some(ReadTo { sequence, moment: self.now.utc }))
    }

    pub(super) fn bounds(&mut self) -> Vec<Did> {
        self.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 })
    }
}
