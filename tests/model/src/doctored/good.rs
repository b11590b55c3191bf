//! Histories in which nothing is wrong: what the contract permits.

use super::script::{Script, retro, words};
use crate::facts::LATE;
use crate::history::{Ask, Delivery, OnExhausted, Said, Status, What, Words};

/// Its name, and what happens after /u0 was registered for `a.x` and took 1 and 2.
pub(crate) type Row = (&'static str, fn(&mut Script));

pub(crate) const GOOD: &[Row] = &[
    ("all is taken", |s| s.rest(2, 2)),
    ("a refused event comes again", |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(503));
        s.say(0, 3, 2, Said::Nothing);
        s.say(0, 3, 2, Said::Status(302));
        s.take(0, 3, 2);
        s.rest(3, 3);
    }),
    ("what was taken just before a kill comes again", |s| {
        s.trouble();
        s.take(0, 2, 1);
        s.post("a.x");
        s.take(0, 3, 2);
        s.rest(3, 3);
    }),
    ("what was under way at a stopped owner comes again", |s| {
        s.post("a.x");
        s.add(What::Disturbed);
        s.take(0, 3, 2);
        s.wait(4_500);
        s.add(What::Recovered);
        s.take(0, 3, 2);
        s.rest(3, 3);
    }),
    ("a target that hangs is tried again", |s| {
        s.ask(0, Ask::PatchDelivery(Delivery { timeout_ms: Some(1_500), ..Delivery::default() }));
        s.post("a.x");
        let items = vec![s.item(3, 2)];
        s.add(What::Came { request: 90, url: 0, is_batch: false, items });
        s.wait(1_500);
        s.take(0, 3, 2);
        s.add(What::Answered { request: 90, said: Said::Nothing });
        s.rest(3, 3);
    }),
    ("an end is over, and the entry is complete", |s| {
        s.register(0, "a.x", Words { end: Some(25), ..words() });
        s.event_at("b.x", 25 + 7_000_000);
        let status = Status { state: "completed".into(), ..s.status(2, 2) };
        s.rest_as(Some(status));
    }),
    ("the target has asked for it again", |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::At(1));
        s.take(0, 2, 1);
        s.take(0, 3, 2);
        s.rest(3, 3);
    }),
    ("the target has had more than it was sent", |s| {
        s.post("a.x");
        s.post("a.x");
        s.post("a.x");
        s.say(0, 3, 2, Said::At(4));
        s.take(0, 5, 4);
        s.rest(5, 3);
    }),
    ("a redelivery was asked for", |s| {
        s.ask(0, Ask::Replay(10, None));
        s.take_past(0, 1, 2);
        s.take_past(0, 2, 1);
        s.rest(2, 2);
    }),
    ("the pair is registered again for its past", |s| {
        s.register(0, "a.x", retro(20));
        s.take_past(0, 2, 2);
        s.post("a.x");
        s.take(0, 3, 2);
        s.rest(3, 2);
    }),
    ("a pause is heard of a moment later, and what waits comes afterwards", |s| {
        s.ask(0, Ask::Pause);
        s.post("a.x");
        s.take(0, 3, 2);
        s.post("a.x");
        s.wait(2 * LATE);
        s.ask(0, Ask::Resume);
        s.take(0, 4, 3);
        s.rest(4, 4);
    }),
    ("the same words again change nothing", |s| {
        s.ask(0, Ask::Put(vec![("a.x".into(), words())], Delivery::default()));
        s.post("a.x");
        s.take(0, 3, 2);
        s.rest(3, 3);
    }),
    ("what was owed comes in the new words", |s| {
        s.ask(0, Ask::Pause);
        s.post("a.x");
        s.event("a.x", "other", true);
        s.register(0, "a.x", Words { transaction: Some("other".into()), start: Some(35), ..words() });
        s.ask(0, Ask::Resume);
        s.take(0, 4, 2);
        s.rest(4, 1);
    }),
    ("a count is had, and no more comes", |s| {
        s.register(0, "a.y", Words { count: Some(1), ..words() });
        s.post("a.y");
        s.take(0, 3, 2);
        s.post("a.y");
        s.rest(3, 2);
    }),
    ("an event without the key is left out", |s| {
        s.register(0, "a.y", Words { requires: true, ..words() });
        s.event("a.y", "other", false);
        s.rest(2, 2);
    }),
    ("a gone target is registered again", |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(410));
        s.register(0, "a.x", words());
        s.take(0, 3, 2);
        s.rest(3, 1);
    }),
    ("an event is given up after as many attempts as were asked for", |s| {
        let delivery = Delivery { max_attempts: Some(1), on_exhausted: OnExhausted::DeadLetter, ..Delivery::default() };
        s.ask(0, Ask::PatchDelivery(delivery));
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(500));
        s.add(What::Letters { url: 0, events: vec![3] });
        s.post("a.x");
        s.take(0, 4, 2);
        s.rest(4, 3);
    }),
    ("a limit has removed one, and the gap is told", |s| {
        s.post("a.x");
        s.post("a.x");
        s.log(4);
        s.add(What::Gap { url: 0, from: 3, to: 3 });
        s.ask(0, Ask::Resume);
        s.take(0, 4, 2);
        s.rest(4, 3);
    }),
    ("a URL that was taken off is told nothing of what it had", |s| {
        s.ask(0, Ask::Delete);
        s.post("a.x");
        s.rest_as(None);
        s.register(0, "a.x", words());
        s.post("a.x");
        s.take(0, 4, 0);
    }),
];
