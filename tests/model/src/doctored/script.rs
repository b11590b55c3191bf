//! Writes a history by hand, a call or a delivery at a time.

use crate::history::{Ask, Delivery, Event, Item, Line, Mode, Said, Status, Url, What, Words};

/// A history that is being written. Each event is its sequence, its type, and of the transaction `t`.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) lines: Vec<Line>,
    pub(crate) events: Vec<Event>,
    at: u64,
    calls: u32,
    requests: u32,
    /// The first event that is left, where that is not 1.
    first: u64,
}

pub(crate) const TAKEN: Said = Said::Status(204);

pub(crate) fn words() -> Words {
    Words::default()
}

pub(crate) fn delivery(mode: Mode) -> Delivery {
    Delivery { mode, ..Delivery::default() }
}

pub(crate) fn retro(start: i64) -> Words {
    Words { start: Some(start), is_retro: true, ..words() }
}

impl Script {
    pub(crate) fn add(&mut self, what: What) {
        self.at += 1;
        self.lines.push(Line { at: self.at, what });
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.at += ms;
    }

    pub(crate) fn ask(&mut self, url: Url, ask: Ask) {
        self.calls += 1;
        let call = self.calls;
        self.add(What::Called { call, url, ask });
        self.add(What::Returned { call, is_taken: true, tries: 1 });
    }

    pub(crate) fn register(&mut self, url: Url, pattern: &str, words: Words) {
        self.ask(url, Ask::Register(vec![(pattern.to_owned(), words)]));
    }

    pub(crate) fn event(&mut self, kind: &str, transaction: &str, has_key: bool) -> u64 {
        let sequence = self.events.len() as u64 + 1;
        self.event_of(kind, transaction, has_key, sequence.cast_signed() * 10)
    }

    /// An event of another time than its place in the log says.
    pub(crate) fn event_at(&mut self, kind: &str, time: i64) -> u64 {
        self.event_of(kind, "t", true, time)
    }

    fn event_of(&mut self, kind: &str, transaction: &str, has_key: bool, time: i64) -> u64 {
        let sequence = self.events.len() as u64 + 1;
        let event = Event { sequence, kind: kind.to_owned(), transaction: transaction.to_owned(), has_key, time };
        let began = self.lines.len();
        self.events.push(event.clone());
        self.add(What::Posted { began, event });
        sequence
    }

    pub(crate) fn post(&mut self, kind: &str) -> u64 {
        self.event(kind, "t", true)
    }

    pub(crate) fn item(&self, sequence: u64, previous: u64) -> Item {
        let event = self.events[usize::try_from(sequence).unwrap() - 1].clone();
        Item { event, previous, is_replay: false }
    }

    pub(crate) fn request(&mut self, url: Url, items: Vec<Item>, said: Said) {
        self.requests += 1;
        let request = self.requests;
        self.add(What::Came { request, url, is_batch: items.len() > 1, items });
        self.add(What::Answered { request, said });
    }

    pub(crate) fn say(&mut self, url: Url, sequence: u64, previous: u64, said: Said) {
        let item = self.item(sequence, previous);
        self.request(url, vec![item], said);
    }

    pub(crate) fn take(&mut self, url: Url, sequence: u64, previous: u64) {
        self.say(url, sequence, previous, TAKEN);
    }

    /// The same event as from before the registration.
    pub(crate) fn take_past(&mut self, url: Url, sequence: u64, previous: u64) {
        let item = Item { is_replay: true, ..self.item(sequence, previous) };
        self.request(url, vec![item], TAKEN);
    }

    pub(crate) fn trouble(&mut self) {
        self.add(What::Disturbed);
        self.add(What::Recovered);
    }

    /// An owner is stopped, until another one has taken over; then it goes on.
    pub(crate) fn frozen_beyond_its_lease(&mut self) {
        self.add(What::Disturbed);
        self.wait(4_500);
        self.add(What::Recovered);
    }

    pub(crate) fn status(&self, position: u64, delivered: u64) -> Status {
        Status {
            state: "active".into(),
            phase: Some("live".into()),
            position,
            lag: Some(0),
            delivered: [("a.x".to_owned(), delivered)].into(),
            gap: None,
        }
    }

    pub(crate) fn log(&mut self, first: u64) {
        self.first = first;
        let events = self.events.iter().filter(|event| event.sequence >= first).cloned().collect();
        self.add(What::Log { first, events });
    }

    pub(crate) fn rest(&mut self, position: u64, delivered: u64) {
        let status = self.status(position, delivered);
        self.rest_as(Some(status));
    }

    pub(crate) fn rest_as(&mut self, status: Option<Status>) {
        self.log(self.first.max(1));
        self.add(What::Rest { statuses: vec![status] });
    }
}

/// /u0 is registered for `a.x`; 1 and 2 are posted and taken.
pub(crate) fn begun() -> Script {
    let mut script = Script::default();
    script.register(0, "a.x", words());
    for sequence in 1..=2 {
        script.post("a.x");
        script.take(0, sequence, sequence - 1);
    }
    script
}

/// The same in another mode.
pub(crate) fn begun_as(delivery: Delivery) -> Script {
    let mut script = Script::default();
    script.ask(0, Ask::Put(vec![("a.x".into(), words())], delivery));
    for _ in 1..=4 {
        script.post("a.x");
    }
    script
}
