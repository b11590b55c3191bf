//! Histories with a fault each.

use super::script::{Script, TAKEN, retro, words};
use crate::facts::{LATE, LATE_AFTER_TROUBLE};
use crate::fault::Kind;
use crate::history::{Ask, Delivery, OnExhausted, Said, Status, What, Words};

/// Its name, what must be found, and what happens after /u0 was registered for `a.x` and took 1 and 2.
pub(crate) type Row = (&'static str, Kind, fn(&mut Script));

pub(crate) const BAD: &[Row] = &[
    ("the last event is lost", Kind::Lost, |s| {
        s.post("a.x");
        s.rest(3, 2);
    }),
    ("an event in the middle is lost", Kind::Overtook, |s| {
        s.post("a.x");
        s.post("a.x");
        s.take(0, 4, 2);
    }),
    ("two events are swapped", Kind::Overtook, |s| {
        s.post("a.x");
        s.post("a.x");
        s.take(0, 4, 2);
        s.take(0, 3, 4);
    }),
    ("one comes that nobody posted", Kind::Phantom, |s| {
        let mut item = s.item(2, 2);
        item.event.sequence = 9;
        s.request(0, vec![item], TAKEN);
    }),
    ("one comes twice, and nothing was killed", Kind::Twice, |s| s.take(0, 2, 2)),
    ("one comes twice that was taken long before a kill", Kind::Twice, |s| {
        (3..=40).for_each(|sequence| {
            s.post("a.x");
            s.take(0, sequence, sequence - 1);
        });
        s.wait(10_000);
        s.trouble();
        s.take(0, 1, 40);
    }),
    ("one comes again long after a redelivery was asked for", Kind::Twice, |s| {
        s.ask(0, Ask::Replay(10, None));
        s.wait(2 * LATE);
        s.take(0, 1, 2);
        s.take(0, 2, 1);
        s.take(0, 1, 2);
    }),
    ("it names another one than came before it", Kind::WrongPrevious, |s| {
        s.post("a.x");
        s.take(0, 3, 1);
    }),
    ("it names none, though some came before it", Kind::WrongPrevious, |s| {
        s.post("a.x");
        s.take(0, 3, 0);
    }),
    ("it comes to a URL of which nobody has said anything", Kind::NotWanted, |s| s.take(1, 1, 0)),
    ("it is of a type that the URL has not asked for", Kind::NotWanted, |s| {
        s.post("b.x");
        s.take(0, 3, 2);
    }),
    ("it comes long after the URL was taken off", Kind::NotWanted, |s| {
        s.ask(0, Ask::Unregister(vec!["a.x".into()]));
        s.post("a.x");
        s.wait(2 * LATE);
        s.take(0, 3, 2);
    }),
    ("it comes long after the subscription was removed", Kind::NotWanted, |s| {
        s.ask(0, Ask::Delete);
        s.post("a.x");
        s.wait(2 * LATE);
        s.take(0, 3, 2);
    }),
    ("it comes after the type was left out of a PUT", Kind::NotWanted, |s| {
        s.ask(0, Ask::Put(vec![("b.x".into(), words())], Delivery::default()));
        s.post("a.x");
        s.wait(2 * LATE);
        s.take(0, 3, 2);
    }),
    ("it is of another transaction", Kind::NotWanted, |s| {
        s.register(1, "a.x", Words { transaction: Some("t".into()), is_retro: true, ..words() });
        s.event("a.x", "other", true);
        s.take(1, 3, 0);
    }),
    ("it is from before the start", Kind::NotWanted, |s| {
        s.register(1, "a.x", retro(20));
        s.take_past(1, 1, 0);
    }),
    ("it is from before a start that is to come", Kind::NotWanted, |s| {
        s.register(1, "a.x", Words { start: Some(1_000), ..words() });
        s.post("a.x");
        s.take(1, 3, 0);
    }),
    ("it is from after the end", Kind::NotWanted, |s| {
        s.register(1, "a.x", Words { end: Some(25), ..words() });
        s.post("a.x");
        s.take(1, 3, 0);
    }),
    ("it was posted before the registration, which asks for no past", Kind::BeforeStart, |s| {
        s.register(1, "a.x", words());
        s.take(1, 2, 0);
    }),
    ("it lacks the key that is required", Kind::LacksKey, |s| {
        s.register(1, "a.y", Words { requires: true, ..words() });
        s.event("a.x", "t2", true);
        s.event("a.y", "t2", false);
        s.take(1, 4, 0);
    }),
    ("one is left out that gets the key from an earlier one", Kind::Lost, |s| {
        s.register(0, "a.y", Words { requires: true, ..words() });
        s.event("a.y", "t", false);
        s.rest(3, 2);
    }),
    ("it comes while deliveries are paused", Kind::WhilePaused, |s| {
        s.ask(0, Ask::Pause);
        s.post("a.x");
        s.wait(2 * LATE);
        s.take(0, 3, 2);
    }),
    ("it comes after the target has said that it is gone", Kind::AfterGone, |s| {
        s.wait(2 * LATE);
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(410));
        s.say(0, 3, 2, TAKEN);
    }),
    ("a refused event is passed over", Kind::Overtook, |s| {
        s.post("a.x");
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(503));
        s.take(0, 4, 2);
    }),
    ("a redirect counts as taken", Kind::Lost, |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(302));
        s.rest(3, 3);
    }),
    ("a connection that ended counts as taken", Kind::Lost, |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::Nothing);
        s.rest(3, 3);
    }),
    ("what the target has asked for again does not come", Kind::Overtook, |s| {
        s.post("a.x");
        s.say(0, 3, 2, Said::At(0));
        s.take(0, 3, 0);
    }),
    ("a position beyond the log's end skips what there is", Kind::Overtook, |s| {
        s.post("a.x");
        s.post("a.x");
        s.say(0, 3, 2, Said::At(99));
        s.take(0, 4, 2);
    }),
    ("a redelivery that was asked for does not come", Kind::Lost, |s| {
        s.ask(0, Ask::Replay(10, None));
        s.wait(2 * LATE);
        s.take(0, 2, 2);
        s.rest(2, 2);
    }),
    ("the past that a registration asks for does not come", Kind::Lost, |s| {
        s.register(0, "a.x", retro(0));
        s.take_past(0, 2, 2);
        s.rest(2, 1);
    }),
    ("the past comes in another order", Kind::Overtook, |s| {
        s.register(0, "a.x", retro(0));
        s.wait(2 * LATE);
        s.take_past(0, 2, 2);
    }),
    ("more come than the count", Kind::CountOver, |s| {
        s.register(1, "a.x", Words { count: Some(1), ..words() });
        s.post("a.x");
        s.post("a.x");
        s.take(1, 3, 0);
        s.take(1, 4, 3);
    }),
    ("fewer come than the count", Kind::CountUnder, |s| {
        s.register(0, "a.y", Words { count: Some(2), ..words() });
        s.post("a.y");
        s.post("a.y");
        s.take(0, 3, 2);
        s.rest(3, 2);
    }),
    ("it is from after an end that was set later", Kind::NotWanted, |s| {
        s.register(0, "a.x", Words { end: Some(25), ..words() });
        s.wait(2 * LATE);
        s.post("a.x");
        s.take(0, 3, 2);
    }),
    ("it is told as active, and the end is long over", Kind::WrongState, |s| {
        s.register(0, "a.x", Words { end: Some(25), ..words() });
        s.event_at("b.x", 25 + 7_000_000);
        s.rest(2, 2);
    }),
    ("an older owner goes on beside the new one", Kind::AtOnce, |s| {
        s.post("a.x");
        s.frozen_beyond_its_lease();
        s.wait(2 * LATE);
        let items = vec![s.item(3, 2)];
        s.add(What::Came { request: 90, url: 0, is_batch: false, items: items.clone() });
        s.request(0, items, TAKEN);
    }),
    ("an older owner delivers again what the new one has", Kind::Twice, |s| {
        for _ in 3..=12 {
            s.post("a.x");
        }
        s.add(What::Disturbed);
        (3..=12).for_each(|sequence| s.take(0, sequence, sequence - 1));
        s.wait(4_500);
        s.add(What::Recovered);
        (3..=12).for_each(|sequence| s.take(0, sequence, sequence - 1));
    }),
    ("an older owner's write lands late, and the next owner begins there", Kind::Twice, |s| {
        s.frozen_beyond_its_lease();
        s.wait(2 * LATE);
        (3..=40).for_each(|sequence| {
            s.post("a.x");
            s.take(0, sequence, sequence - 1);
        });
        s.wait(10_000);
        s.trouble();
        s.take(0, 3, 2);
    }),
    ("an older owner's write lands late, and the status shows it", Kind::WrongPosition, |s| {
        s.post("a.x");
        s.take(0, 3, 2);
        s.frozen_beyond_its_lease();
        s.wait(2 * LATE);
        s.rest(2, 3);
    }),
    ("two requests go at a time in order", Kind::AtOnce, |s| {
        s.post("a.x");
        let items = vec![s.item(3, 2)];
        s.add(What::Came { request: 90, url: 0, is_batch: false, items: items.clone() });
        s.request(0, items, TAKEN);
    }),
    ("it is told as past, and is not", Kind::WrongReplay, |s| {
        s.post("a.x");
        s.take_past(0, 3, 2);
    }),
    ("it is told as present, and is past", Kind::WrongReplay, |s| {
        s.register(1, "a.x", retro(0));
        s.take(1, 1, 0);
    }),
    ("its type is another one than was posted", Kind::Altered, |s| {
        s.post("a.x");
        let mut item = s.item(3, 2);
        item.event.kind = "a.y".into();
        s.request(0, vec![item], TAKEN);
    }),
    ("its data has lost a key", Kind::Altered, |s| {
        s.post("a.x");
        let mut item = s.item(3, 2);
        item.event.has_key = false;
        s.request(0, vec![item], TAKEN);
    }),
    ("an acknowledged event is not in the log", Kind::NotInLog, |s| {
        let events = vec![s.events[0].clone()];
        s.add(What::Log { first: 1, events });
    }),
    ("a limit has removed one that was not delivered, and no gap is told", Kind::SilentGap, |s| {
        s.post("a.x");
        s.post("a.x");
        s.log(4);
        s.take(0, 4, 2);
        s.rest(4, 3);
    }),
    ("it lags, and is told not to", Kind::WrongLag, |s| {
        let status = Status { lag: Some(1), ..s.status(2, 2) };
        s.rest_as(Some(status));
    }),
    ("the position is behind what was taken", Kind::WrongPosition, |s| s.rest(1, 2)),
    ("the position is beyond the log's end", Kind::WrongPosition, |s| s.rest(9, 2)),
    ("the status counts too few", Kind::WrongDelivered, |s| s.rest(2, 1)),
    ("it is told as catching up, and has caught up", Kind::WrongPhase, |s| {
        let status = Status { phase: Some("replaying".into()), ..s.status(2, 2) };
        s.rest_as(Some(status));
    }),
    ("it is told as paused, and nobody has paused it", Kind::WrongState, |s| {
        let status = Status { state: "paused".into(), ..s.status(2, 2) };
        s.rest_as(Some(status));
    }),
    ("it is told as active after a pause", Kind::WrongState, |s| {
        s.ask(0, Ask::Pause);
        s.rest(2, 2);
    }),
    ("the subscription is gone by itself", Kind::WrongState, |s| s.rest_as(None)),
    ("a removed subscription is still there", Kind::WrongState, |s| {
        s.ask(0, Ask::Delete);
        s.rest(2, 2);
    }),
    ("an event is given up too early", Kind::EarlyLetter, |s| {
        let delivery = Delivery { max_attempts: Some(2), on_exhausted: OnExhausted::DeadLetter, ..Delivery::default() };
        s.ask(0, Ask::PatchDelivery(delivery));
        s.post("a.x");
        s.say(0, 3, 2, Said::Status(500));
        s.add(What::Letters { url: 0, events: vec![3] });
    }),
    ("more requests begin than the rate allows", Kind::TooFast, |s| {
        s.ask(0, Ask::PatchDelivery(Delivery { rate_per_second: Some(2), ..Delivery::default() }));
        s.wait(2 * LATE);
        (3..=9).for_each(|sequence| {
            s.post("a.x");
            s.take(0, sequence, sequence - 1);
        });
    }),
    ("more requests begin than the rate allows, beside a second dispatcher", Kind::TooFast, |s| {
        s.ask(0, Ask::PatchDelivery(Delivery { rate_per_second: Some(2), ..Delivery::default() }));
        s.trouble();
        s.wait(2 * LATE_AFTER_TROUBLE);
        (3..=9).for_each(|sequence| {
            s.post("a.x");
            s.take(0, sequence, sequence - 1);
        });
    }),
    ("several come in one request, and nobody has asked for that", Kind::WrongBatch, |s| {
        s.post("a.x");
        s.post("a.x");
        let items = vec![s.item(3, 2), s.item(4, 3)];
        s.request(0, items, TAKEN);
    }),
];
