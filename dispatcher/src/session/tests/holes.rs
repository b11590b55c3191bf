//! A lane comes to a hole in the log.

use std::sync::Arc;

use domain::Attributes;
use domain::lane::{Epoch, Lane, State, Word};
use domain::log_holes::{LogHoles, Missing, Observed, Range};
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, spec, status};

fn lost(ranges: &[Range]) -> Arc<LogHoles> {
    let missing = Missing::Ranges(ranges.to_vec());
    let seen = Observed {
        first_sequence: 1,
        last_sequence: 99,
        missing,
        looked_at: Vec::new(),
        not_found: Vec::new(),
        is_limited: false,
    };
    Arc::new(LogHoles::after(Some(&LogHoles::default()), &seen, None, Stamp::from_micros(9)).holes)
}

fn concurrent(reads: Reads) -> Bench {
    Bench::of(json!({"mode": "concurrent", "concurrency": 9}), Attributes::default(), reads)
}

/// A lane whose entry is over, and asks for the past.
fn over(reads: Reads) -> Bench {
    let moment = |micros| Some(Stamp::from_micros(micros));
    let over = Attributes { datetime_start: moment(0), datetime_end: moment(1_000_000), ..Attributes::default() };
    Bench::of(json!({}), over, reads)
}

fn state(bench: &Bench) -> Word {
    bench.session.lane().state.word()
}

#[test]
fn a_lane_that_goes_on_says_so_before_it_acknowledges_what_lies_behind_the_hole() {
    let mut bench = Bench::of(json!({"on_hole": "continue"}), Attributes::default(), Reads::Tail);
    bench.deliver(1);
    let holes = lost(&[(2, 3)]);
    bench.tell(Input::Holes(holes.clone()));
    assert!(Arc::ptr_eq(bench.session.holes(), &holes));
    assert_eq!(bench.read(4), [Did::Wrote(1, Word::Active), Did::Sent(vec![4])]);
    bench.land(&[4], status(204));
    assert_eq!(bench.wait(10), [], "the hole is not written yet");
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(4)]);
    assert_eq!(bench.session.lane().hole.as_ref().map(|hole| hole.from_sequence), Some(2));
    // It is told once.
    bench.deliver(5);
    assert_eq!(bench.wait(10), [Did::Acknowledged(5)]);
}

#[test]
fn a_lane_waits_at_a_hole_once_all_is_settled_that_it_has_read() {
    let mut bench = concurrent(Reads::Tail);
    bench.tell(Input::Holes(lost(&[(4, 6)])));
    for sequence in 1..=3 {
        bench.read_alone(sequence, 0);
    }
    let did = bench.read_alone(7, 0);
    assert!(!did.iter().any(|did| matches!(did, Did::Sent(_))), "{did:?}");
    assert!(!bench.session.is_leaving() && !bench.session.wants_message());
    bench.tell(Input::Written);
    bench.land(&[1], status(204));
    // What is written meanwhile does not say that it waits: it is not there yet.
    let did = bench.wait(5_000);
    assert!(did.contains(&Did::Wrote(1, Word::Active)), "{did:?}");
    bench.tell(Input::Written);
    bench.land(&[2], status(204));
    assert!(!bench.session.is_leaving());
    assert_eq!(bench.land(&[3], status(204)).last(), Some(&Did::Ended(Leave::SetUp)));
    let (lane, _) = bench.session.into_parts();
    let State::Gap(gap) = lane.state else { panic!("{:?}", lane.state) };
    assert_eq!((lane.position, gap.from_sequence, gap.to_sequence), (3, 4, 6));
}

#[test]
fn a_session_that_is_being_left_leaves_the_hole_to_the_next_one() {
    let mut bench = concurrent(Reads::Tail);
    bench.tell(Input::Holes(lost(&[(2, 3)])));
    bench.read_alone(1, 0);
    bench.read_alone(4, 0);
    bench.tell(Input::Written);
    bench.tell(Input::Leave(Leave::End));
    let did = bench.land(&[1], status(204));
    assert!(did.contains(&Did::Wrote(1, Word::Active)), "{did:?}");
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::End)]);
}

#[test]
fn a_lane_that_has_gone_past_a_hole_says_so_before_it_acknowledges_what_lies_behind() {
    let mut bench = concurrent(Reads::Consumer);
    bench.read_alone(1, 0);
    bench.land(&[1], status(204));
    bench.wait(10);
    assert!(bench.read_alone(4, 0).contains(&Did::LookedUpBounds));
    bench.land(&[4], status(204));
    bench.read_alone(5, 0);
    assert_eq!(bench.wait(10), [], "it may have been cut");
    bench.tell(Input::Holes(lost(&[(2, 3)])));
    // It is written once as it was: what it has had lies behind what it is not sure of.
    assert_eq!(bench.bounds(), [Did::Wrote(4, Word::Active)]);
    assert!(bench.session.lane().accounted_to() == 4 && state(&bench) == Word::Gap);
    assert_eq!(bench.tell(Input::Written), [Did::Wrote(4, Word::Gap)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(4)]);
    // What was read is settled all the same.
    assert!(!bench.session.is_leaving());
    bench.land(&[5], status(204));
    assert!(bench.session.is_leaving());
    assert_eq!(bench.session.lane().state.gap().map(|gap| (gap.from_sequence, gap.to_sequence)), Some((2, 3)));
}

#[test]
fn an_end_that_is_over_completes_no_entry_that_may_have_wanted_what_is_lost() {
    for (what, holes, waits) in [
        ("a part of it is lost", lost(&[(5, 6)]), true),
        ("it was stored behind the end", lost(&[(9, 9)]), false),
        ("nothing is lost", Arc::default(), false),
    ] {
        let mut bench = over(Reads::Tail);
        bench.wait(0);
        bench.tell(Input::Holes(holes));
        let told = bench.read_to_end(7);
        bench.tell(told);
        if waits {
            bench.tell(Input::Written);
        }
        assert_eq!(
            (state(&bench), bench.session.lane().active_entries()),
            if waits { (Word::Gap, 1) } else { (Word::Active, 0) },
            "{what}"
        );
        assert!(bench.session.is_leaving(), "{what}");
    }
    // As long as it is not over, nothing is concluded.
    let mut bench = over(Reads::Tail);
    bench.wait(0);
    bench.tell(Input::Holes(lost(&[(5, 6)])));
    let moment = bench.session.lane().next_over(bench.session.spec()).unwrap();
    bench.tell(Input::ReadToEnd(Some(ReadTo { sequence: 7, moment })));
    assert_eq!((state(&bench), bench.session.is_leaving()), (Word::Active, false));
}

#[test]
fn a_redelivery_of_what_is_lost_is_not_over_because_nothing_comes() {
    let mut subscription = spec(json!({}), Attributes::default());
    let asked = domain::subscription::Redelivery::of_only("r".into(), Stamp::from_micros(0), [20].into());
    subscription.redelivery = asked;
    for (what, holes, is_over) in [("it is there", Arc::default(), true), ("it is lost", lost(&[(20, 20)]), false)] {
        let mut lane = Lane::reconcile(None, &spec(json!({}), Attributes::default()), Epoch::Consumer("e".into()));
        lane.passed_over(30);
        let lane = Lane::reconcile(Some(&lane), &subscription, Epoch::Consumer("f".into()));
        assert_eq!(lane.position, 19);
        let (target, spec) = (TargetState::default(), subscription.clone());
        let mut bench = Bench::beginning(spec, lane, Reads::Tail, target, (0, holes));
        let next = bench.session.lane().redelivery.as_ref().unwrap().next;
        assert_eq!(next == 21, is_over, "{what}");
        bench.tell(Input::Given { to: Some(30), is_at_end: true });
        bench.tell(Input::Written);
        assert_eq!(state(&bench), if is_over { Word::Active } else { Word::Gap }, "{what}");
    }
}
