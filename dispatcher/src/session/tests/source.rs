//! What the source of a session says, beside messages.

use domain::lane::Word;
use domain::{Attributes, Stamp};
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, status};

fn over() -> Attributes {
    Attributes { datetime_end: Some(Stamp::from_micros(1_000_000)), ..Attributes::default() }
}

#[test]
fn that_nothing_was_missed_counts_where_nothing_is_in_hand() {
    let given = || Input::Given { to: Some(9), is_at_end: false };
    let mut bench = Bench::plain();
    bench.read(1);
    bench.tell(given());
    assert_eq!(bench.session.lane().accounted_to(), 0, "a request is under way");
    bench.land(&[1], status(204));
    bench.tell(given());
    assert_eq!(bench.session.lane().accounted_to(), 9);

    let required = Attributes { required_data: vec!["k".into()], ..Attributes::default() };
    let mut bench = Bench::of(json!({}), required, Reads::Tail);
    bench.read(1);
    bench.tell(given());
    assert_eq!(bench.session.lane().accounted_to(), 0, "keys are being looked for");
}

#[test]
fn a_cut_has_the_lane_written_where_what_is_written_does_not_reach_it() {
    let mut bench = Bench::plain();
    bench.deliver(1);
    bench.tell(Input::Given { to: Some(20), is_at_end: false });
    let cut = |first_sequence| Input::Cut { first_sequence };
    assert_eq!(bench.tell(cut(1)), [], "nothing was cut");
    assert_eq!(bench.tell(cut(2)), [Did::Wrote(1, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(1)]);
    bench.deliver(21);
    assert_eq!(bench.tell(cut(21)), [], "up to 20 it is written");
    assert_eq!(bench.tell(cut(22)), [Did::Wrote(21, Word::Active)]);
}

#[test]
fn an_end_is_looked_for_where_nothing_is_in_hand_and_once_at_a_time() {
    let mut bench = Bench::of(json!({}), over(), Reads::Consumer);
    assert!(bench.pass(0).contains(&Did::LookedForEnd));
    assert!(!bench.pass(1_000).contains(&Did::LookedForEnd), "it has not been answered");
    bench.tell(Input::ReadToEnd(None));
    bench.read(1);
    assert!(!bench.pass(1_000).contains(&Did::LookedForEnd), "an event is in hand");
    bench.land(&[1], status(204));
    assert!(bench.pass(1_000).contains(&Did::LookedForEnd));

    let mut bench = Bench::of(json!({}), over(), Reads::Past);
    assert!(!bench.pass(0).contains(&Did::LookedForEnd), "it goes over to the tail first");
}

#[test]
fn an_end_is_looked_for_again_where_a_message_came_meanwhile() {
    let mut bench = Bench::of(json!({}), over(), Reads::Tail);
    assert!(bench.pass(0).contains(&Did::LookedForEnd));
    bench.read_of("b", 1, 5);
    assert_eq!(bench.tell(bench.read_to_end(1)), []);
    assert_eq!(bench.session.lane().active_entries(), 1);
    assert!(bench.pass(1_000).contains(&Did::LookedForEnd));
}

#[test]
fn an_event_from_behind_the_end_completes_the_entry_and_ends_the_session() {
    let mut bench = Bench::of(json!({}), over(), Reads::Tail);
    let did = bench.read_of("a", 9, 5);
    assert_eq!(did.last(), Some(&Did::Ended(Leave::SetUp)), "{did:?}");
    assert_eq!((bench.session.lane().position, bench.session.lane().active_entries()), (9, 0));
}

#[test]
fn every_name_is_another_one() {
    assert_ne!(fresh_name(), fresh_name());
}
