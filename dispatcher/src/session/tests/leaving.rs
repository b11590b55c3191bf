//! How a session is left.

use domain::Attributes;
use domain::lane::Word;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, resume_after, status};

#[test]
fn who_leaves_for_good_leaves_for_good() {
    let mut bench = Bench::plain();
    bench.read(1);
    assert!(!bench.session.is_leaving());
    bench.tell(Input::Leave(Leave::End));
    assert!(bench.session.is_leaving());
    bench.tell(Input::Leave(Leave::SetUp));
    assert!(bench.land(&[1], status(204)).contains(&Did::Wrote(1, Word::Active)));
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::End)]);
    assert_eq!(bench.tell(Input::Leave(Leave::End)), [], "it is over once");
}

#[test]
fn a_session_that_is_set_up_again_hands_on_what_is_not_written() {
    let mut bench = Bench::plain();
    bench.read(1);
    bench.tell(Input::Leave(Leave::SetUp));
    assert!(bench.session.is_written());
    assert_eq!(bench.land(&[1], status(204)), [Did::Acknowledged(1), Did::Ended(Leave::SetUp)]);
    assert!(!bench.session.is_written());
    assert_eq!(bench.tell(Input::Leave(Leave::SetUp)), []);
}

#[test]
fn a_session_with_nothing_in_hand_is_left_at_once() {
    let mut bench = Bench::plain();
    assert_eq!(bench.tell(Input::Leave(Leave::End)), [Did::Ended(Leave::End)]);
}

#[test]
fn leaving_waits_until_it_is_known_whether_something_was_cut() {
    let mut bench = Bench::of(json!({}), Attributes::default(), Reads::Consumer);
    bench.deliver(1);
    assert!(bench.read(5).contains(&Did::LookedUpBounds));
    bench.tell(Input::Leave(Leave::SetUp));
    assert_eq!(bench.land(&[5], status(204)), []);
    assert_eq!(bench.bounds(), [Did::Acknowledged(5), Did::Ended(Leave::SetUp)]);
}

#[test]
fn leaving_waits_for_a_target_that_has_said_where_it_is() {
    let mut bench = Bench::plain();
    (1..=2).for_each(|sequence| bench.deliver(sequence));
    bench.read(3);
    assert_eq!(bench.land(&[3], resume_after(1)), [Did::LookedUpBounds]);
    assert_eq!(bench.tell(Input::Leave(Leave::End)), []);
    assert_eq!(bench.bounds(), [Did::Wrote(1, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::End)]);
}

#[test]
fn a_lane_goes_where_its_target_is_when_nothing_is_under_way() {
    let mut bench = Bench::concurrent(&[]);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    assert_eq!(bench.land(&[2], resume_after(0)), [Did::LookedUpBounds]);
    assert_eq!(bench.bounds(), [], "1 is under way");
    assert_eq!(bench.land(&[1], status(204)).last(), Some(&Did::Wrote(0, Word::Active)));
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::SetUp)]);
}

#[test]
fn a_letter_that_is_written_meanwhile_does_not_move_a_lane_that_has_gone_elsewhere() {
    let mut bench = Bench::concurrent(&[("max_attempts", json!(1)), ("on_exhausted", json!("dead_letter"))]);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    bench.land(&[1], status(500));
    bench.tell(Input::Written);
    assert_eq!(bench.tell(Input::Written), [Did::Buried(1, false)]);
    bench.land(&[2], resume_after(0));
    assert_eq!(bench.bounds(), [Did::Wrote(0, Word::Active)]);
    assert_eq!(bench.tell(Input::Buried), []);
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::SetUp)]);
    assert_eq!(bench.session.lane().position, 0);
}

#[test]
fn what_was_not_sent_does_not_count_though_the_target_says_to_have_it() {
    let settings = json!({"mode": "concurrent", "concurrency": 1});
    let mut bench = Bench::of(settings, Attributes { count: Some(9), ..Attributes::default() }, Reads::Tail);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    bench.land(&[1], resume_after(2));
    bench.bounds();
    let lane = bench.session.lane();
    assert_eq!((lane.position, lane.entries.values().next().unwrap().delivered), (2, 1));
}

#[test]
fn a_target_that_says_again_where_it_is_has_failed() {
    let mut bench = Bench::plain();
    (1..=2).for_each(|sequence| bench.deliver(sequence));
    bench.read(3);
    bench.land(&[3], resume_after(1));
    bench.bounds();
    bench.tell(Input::Written);
    let (lane, target) = bench.session.into_parts();
    let mut bench = Bench::with(super::bench::spec(json!({}), Attributes::default()), lane, Reads::Tail, target);
    assert_eq!(bench.read(2), [Did::Sent(vec![2])]);
    assert_eq!(bench.land(&[2], resume_after(1)), [Did::Wrote(1, Word::Held)], "deliveries are there already");
    bench.tell(Input::Written);
    bench.wait(100);
    assert_eq!(bench.land(&[2], resume_after(0)), [Did::LookedUpBounds], "another place is news");
}

#[test]
fn where_the_log_ends_is_looked_up_again_where_the_target_has_spoken_since() {
    let mut bench = Bench::of(json!({}), Attributes::default(), Reads::Consumer);
    bench.deliver(1);
    assert!(bench.read(5).contains(&Did::LookedUpBounds));
    assert_eq!(bench.land(&[5], resume_after(20)), [], "a look-up is under way");
    assert_eq!(bench.bounds(), [Did::Acknowledged(1), Did::LookedUpBounds], "it began before that");
    let bounds = Input::Bounds { first_sequence: 1, last_sequence: 25 };
    assert_eq!(bench.tell(bounds).last(), Some(&Did::Wrote(20, Word::Active)));
}
