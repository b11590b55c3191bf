//! What a lane does where the log has lost events.

use super::*;
use crate::delivery_settings::OnHole;
use crate::log_holes::{LogHoles, Missing, Observed, Range};

const NOW: Stamp = Stamp::from_micros(9);

fn holes(known: Option<&LogHoles>, ranges: &[Range]) -> LogHoles {
    let missing = Missing::Ranges(ranges.to_vec());
    let seen = Observed { first_sequence: 1, last_sequence: 99, missing, not_found: Vec::new(), is_limited: false };
    LogHoles::after(known, &seen, None, NOW).holes
}

fn lost(ranges: &[Range]) -> LogHoles {
    holes(Some(&LogHoles::default()), ranges)
}

#[test]
fn a_lane_comes_to_what_is_lost_and_may_have_been_wanted() {
    let subscription = asked(&[("a", "1", 10, 10, None)]);
    let lane = Lane::reconcile(None, &subscription, fresh("e1"));
    let comes_to =
        |holes: &LogHoles, after, to| lane.comes_to(&subscription, holes, after, to).map(|hole| hole.from_sequence);
    for (what, holes, after, to, expected) in [
        ("it lies in between", lost(&[(20, 22)]), 9, 30, Some(20)),
        ("a part of it does", lost(&[(20, 22)]), 20, 21, Some(20)),
        ("it lies before", lost(&[(20, 22)]), 22, 30, None),
        ("it lies behind", lost(&[(20, 22)]), 9, 19, None),
        ("it was there before the registration", lost(&[(5, 9)]), 3, 30, None),
        ("it is only reported", holes(None, &[(20, 22)]), 9, 30, None),
    ] {
        assert_eq!(comes_to(&holes, after, to), expected, "{what}");
    }
}

#[test]
fn a_lane_waits_at_a_hole_until_it_is_resumed_or_is_not_to_wait() {
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    let holes = lost(&[(20, 22), (30, 30)]);
    lane.passed_over(10);
    let hole = lane.comes_to(&subscription, &holes, 10, 24).unwrap().clone();
    assert!(lane.is_stopped_by_hole(&subscription, &hole));
    lane.waits_at(&hole, 24);
    let again = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
    assert_eq!((again.state.word(), again.position, again.waits_at_hole()), (Word::Gap, 10, true));
    // What is written reads back.
    assert_eq!(serde_json::from_value::<Lane>(serde_json::to_value(&again).unwrap()).unwrap(), again);
    let mut paused = subscription.clone();
    paused.paused = true;
    assert_eq!(Lane::reconcile(Some(&lane), &paused, fresh("e2")).state.word(), Word::Paused);

    let mut careless = subscription.clone();
    careless.delivery.on_hole = OnHole::Continue;
    assert!(!lane.is_stopped_by_hole(&careless, &hole));
    subscription.resumption = Some("r".into());
    for subscription in [&subscription, &careless] {
        let mut goes_on = Lane::reconcile(Some(&lane), subscription, fresh("e2"));
        assert_eq!((goes_on.state.word(), goes_on.position), (Word::Active, 22));
        assert_eq!(goes_on.comes_to(subscription, &holes, 22, 29), None, "it does not stop there again");
        assert!(!goes_on.sees(&holes), "the one that it has passed is still shown");
        assert_eq!(goes_on.comes_to(subscription, &holes, 22, 40).map(|hole| hole.from_sequence), Some(30));
    }
}

#[test]
fn a_lane_that_moves_back_comes_to_the_hole_again_and_gives_up_nothing_before_it() {
    let mut subscription = asked(&[("a", "1", 10, 10, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    let holes = lost(&[(20, 22)]);
    lane.passed_over(19);
    lane.waits_at(&holes.all()[0], 24);
    let past = asked(&[("a", "1", 10, 10, None), ("b", "2", 3, 25, None)]);
    subscription.entries = past.entries;
    let back = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
    assert_eq!((back.state.word(), back.position), (Word::Active, 2));
    subscription.resumption = Some("r".into());
    assert_eq!(Lane::reconcile(Some(&back), &subscription, fresh("e3")).position, 2);
    // The log ends before it.
    assert!(lane.follow_log_back(5, "e4"));
    assert_eq!((lane.state.word(), lane.position), (Word::Active, 5));
}

#[test]
fn where_only_a_part_is_known_to_hold_nothing_only_that_is_passed() {
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    let hole = lost(&[(20, 40)]).all()[0].clone();
    lane.waits_at(&hole, 25);
    subscription.resumption = Some("r".into());
    assert_eq!(Lane::reconcile(Some(&lane), &subscription, fresh("e2")).position, 25);
}

#[test]
fn the_next_hole_is_shown_until_the_lane_comes_to_another_one() {
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    let earlier = holes(None, &[(20, 22)]);
    assert!(lane.sees(&earlier) && !lane.sees(&earlier));
    assert_eq!(lane.hole.as_ref().map(|hole| hole.from_sequence), Some(20));
    let both = holes(Some(&earlier), &[(20, 22), (50, 50)]);
    assert!(lane.meets(&both.all()[1]) && !lane.meets(&both.all()[1]) && !lane.sees(&both));
    // The log's limits have removed what lay around both.
    assert!(lane.sees(&LogHoles::default()) && lane.hole.is_none());
}
