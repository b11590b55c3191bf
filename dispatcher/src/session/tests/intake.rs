//! Which messages a session takes in, and when.

use domain::Attributes;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, status};

fn requiring(delivery: serde_json::Value) -> Bench {
    let required = Attributes { required_data: vec!["k".into()], ..Attributes::default() };
    Bench::of(delivery, required, Reads::Tail)
}

fn found(sequence: u64) -> Input<u64> {
    Input::Found { sequence, found: [("k".to_owned(), "1".to_owned())].into() }
}

#[test]
fn a_message_that_has_come_is_taken_in_before_anything_else_where_that_saves_time() {
    let empty = Bench::plain();
    assert!(empty.session.takes_in_first());

    let mut busy = Bench::plain();
    busy.read(1);
    assert!(!busy.session.takes_in_first(), "one at a time");

    let mut concurrent = Bench::concurrent(&[]);
    concurrent.read_alone(1, 0);
    assert!(concurrent.session.wants_message() && !concurrent.session.takes_in_first());

    let mut batched = Bench::of(json!({"mode": "batched"}), Attributes::default(), Reads::Tail);
    batched.read(1);
    assert!(batched.session.takes_in_first(), "a batch is filled first");
}

#[test]
fn what_comes_though_it_is_not_wanted_is_left_alone() {
    let mut bench = requiring(json!({}));
    assert_eq!(bench.read(1), [Did::Looked(vec!["k".into()])]);
    assert_eq!(bench.read(2), [], "keys are being looked for");
    assert_eq!(bench.tell(found(2)), [], "of another event");
    assert_eq!(bench.tell(found(1)), [Did::Sent(vec![1])]);

    let mut bench = Bench::concurrent(&[]);
    bench.read_alone(1, 0);
    assert_eq!(bench.read_alone(1, 0), [], "it is in hand");
    bench.tell(Input::Leave(Leave::SetUp));
    bench.read_alone(2, 0);
    assert_eq!(bench.session.window().len(), 1, "the session is being left");
}

#[test]
fn keys_that_are_found_for_a_session_that_is_being_left_bring_nothing_in() {
    let mut bench = requiring(json!({"mode": "concurrent"}));
    bench.read(1);
    bench.tell(found(1));
    bench.read(2);
    bench.tell(Input::Leave(Leave::SetUp));
    bench.tell(found(2));
    assert_eq!(bench.session.window().len(), 1);
}

#[test]
fn an_event_whose_keys_are_being_looked_for_goes_before_what_cannot_be_read() {
    let mut bench = requiring(json!({}));
    bench.read(1);
    assert_eq!(bench.tell(Input::Unread(Unread::Unreadable)), []);
    assert_eq!(bench.tell(found(1)), [Did::Sent(vec![1])]);
    bench.land(&[1], status(204));
    assert!(bench.session.wants_message());
}

#[test]
fn a_source_that_is_interrupted_ends_the_session() {
    let mut bench = Bench::concurrent(&[]);
    bench.read_alone(1, 0);
    bench.tell(Input::Unread(Unread::Interrupted));
    assert_eq!(bench.land(&[1], status(204)), [Did::Acknowledged(1), Did::Ended(Leave::SetUp)]);
}

#[test]
fn nothing_is_read_behind_the_last_event_that_an_entry_wants() {
    for (count, goes_on) in [(Some(1), false), (Some(2), true), (None, true)] {
        let delivery = json!({"mode": "concurrent", "concurrency": 3});
        let mut bench = Bench::of(delivery, Attributes { count, ..Attributes::default() }, Reads::Tail);
        bench.read_alone(1, 0);
        assert_eq!(bench.session.wants_message(), goes_on, "{count:?}");
    }
}

#[test]
fn what_is_in_hand_has_no_more_than_four_mebibytes_beside_the_last_event() {
    let mut bench = Bench::concurrent(&[]);
    for sequence in 1..=4 {
        assert!(bench.session.wants_message(), "{sequence}");
        bench.read_alone(sequence, 1024 * 1024);
    }
    assert!(!bench.session.wants_message());
    bench.land(&[1], status(204));
    assert!(bench.session.wants_message());
}

#[test]
fn what_is_passed_over_is_in_hand_too() {
    let mut bench = Bench::of(json!({"mode": "batched"}), Attributes::default(), Reads::Tail);
    bench.read(1);
    for sequence in 2..=512 {
        assert!(bench.session.wants_message(), "{sequence}");
        bench.read_of("b", sequence, 5);
    }
    assert!(!bench.session.wants_message());
}

#[test]
fn nothing_joins_a_batch_that_has_gone() {
    let settings = json!({"mode": "batched", "batch_max_events": 3, "batch_max_wait_ms": 500});
    let mut bench = Bench::of(settings, Attributes::default(), Reads::Tail);
    bench.read_of("a", 1, 0);
    assert!(bench.session.wants_message());
    assert_eq!(bench.wait(500), [Did::Sent(vec![1])]);
    assert!(!bench.session.wants_message());
    bench.land(&[1], status(204));
    bench.tell(Input::Written);
    bench.wait(5_000);
    bench.tell(Input::Written);
    assert_eq!(bench.read_of("a", 2, 0), [], "the next one waits as long as the first");
    assert_eq!(bench.wait(499), []);
    assert_eq!(bench.wait(1), [Did::Sent(vec![2])]);
}

#[test]
fn how_much_waits_is_known() {
    let mut bench = Bench::plain();
    assert_eq!((bench.session.window().waiting(), bench.session.window().len()), (9, 0));
    bench.read_of("a", 1, 4);
    assert_eq!((bench.session.window().waiting(), bench.session.window().len()), (5, 1));
    bench.land(&[1], status(204));
    assert_eq!((bench.session.window().waiting(), bench.session.window().len()), (4, 0));
}
