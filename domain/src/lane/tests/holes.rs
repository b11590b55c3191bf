//! What a lane does where the log has lost events.

use super::*;
use crate::delivery_settings::OnHole;
use crate::log_holes::{LogHoles, Missing, Observed, Range};

const NOW: Stamp = Stamp::from_micros(9);

fn holes(known: Option<&LogHoles>, ranges: &[Range]) -> LogHoles {
    let missing = Missing::Ranges(ranges.to_vec());
    let seen = Observed {
        first_sequence: 1,
        last_sequence: 99,
        missing,
        looked_at: Vec::new(),
        not_found: Vec::new(),
        is_limited: false,
    };
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
fn a_skip_that_was_over_a_loss_is_news_and_so_is_that_it_was_not() {
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut careless = subscription.clone();
    careless.delivery.on_hole = OnHole::Continue;
    let none = LogHoles::default();
    for (what, spec, unsure_from, holes, first_sequence, expected) in [
        ("nothing was skipped", &subscription, None, lost(&[(6, 7)]), 1, (false, Word::Active, false)),
        ("it was not over a loss", &subscription, Some(5), none.clone(), 1, (true, Word::Active, false)),
        ("nobody can tell", &subscription, Some(5), none, 6, (false, Word::Active, true)),
        ("it was over one", &subscription, Some(5), lost(&[(6, 7)]), 1, (true, Word::Gap, false)),
        ("and over what was cut", &subscription, Some(5), lost(&[(6, 7)]), 6, (true, Word::Gap, true)),
        ("nobody minds", &careless, Some(5), lost(&[(6, 7)]), 1, (true, Word::Active, false)),
        ("it is before the skip", &subscription, Some(8), lost(&[(6, 7)]), 9, (false, Word::Active, true)),
        ("it is behind the lane", &subscription, Some(8), lost(&[(13, 13)]), 9, (false, Word::Active, true)),
    ] {
        let mut lane = Lane::reconcile(None, spec, fresh("e1"));
        lane.passed_over(12);
        lane.unsure_from = unsure_from;
        let is_news = lane.settle_doubt(spec, &holes, first_sequence);
        assert_eq!((is_news, lane.state.word(), lane.unsure_from.is_some()), expected, "{what}");
    }
}

#[test]
fn a_paused_lane_that_has_skipped_a_loss_waits_there_when_it_goes_on() {
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    for (what, beneath, waits) in [("it was at work", State::Active, true), ("it was not", State::Completed, false)] {
        let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
        lane.passed_over(12);
        (lane.unsure_from, lane.state) = (Some(5), State::Paused(Box::new(beneath)));
        assert!(lane.settle_doubt(&subscription, &lost(&[(6, 7)]), 1), "{what}");
        assert_eq!((lane.state.word(), lane.waits_at_hole()), (Word::Paused, waits), "{what}");
    }
}

#[test]
fn a_lane_that_waits_does_so_at_the_first_loss_and_not_where_the_log_has_all_again() {
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut waiting = Lane::reconcile(None, &subscription, fresh("e1"));
    waiting.passed_over(10);
    waiting.waits_at(&lost(&[(20, 22)]).all()[0], 24);
    let missing = Missing::Ranges(Vec::new());
    let (looked_at, not_found) = (Vec::new(), Vec::new());
    let seen = Observed { first_sequence: 1, last_sequence: 99, missing, looked_at, not_found, is_limited: true };
    let limited = LogHoles::after(Some(&LogHoles::default()), &seen, None, NOW).holes;
    for (what, holes, is_news, waits_at) in [
        ("it is there still", lost(&[(20, 22)]), false, Some(20)),
        ("an earlier one", lost(&[(15, 15), (20, 22)]), true, Some(15)),
        ("one that begins there and is longer", lost(&[(20, 25)]), false, Some(20)),
        ("a later one", lost(&[(20, 22), (24, 24)]), false, Some(20)),
        ("only a part is there again", lost(&[(22, 22)]), false, Some(20)),
        ("all is there again", lost(&[]), true, None),
        ("all but others", lost(&[(5, 5), (30, 30)]), true, None),
        ("nobody knows any more that it is a loss", holes(None, &[(20, 22)]), false, Some(20)),
        ("a limit makes holes", limited, false, Some(20)),
    ] {
        let mut lane = waiting.clone();
        assert_eq!(lane.settle_doubt(&subscription, &holes, 1), is_news, "{what}");
        assert_eq!(lane.state.gap().map(|gap| gap.from_sequence), waits_at, "{what}");
        let mut resumed = subscription.clone();
        resumed.resumption = Some("r".into());
        // What is there again is delivered.
        let position = if waits_at.is_some() { lane.state.gap().unwrap().to_sequence } else { 10 };
        assert_eq!(Lane::reconcile(Some(&lane), &resumed, fresh("e2")).position, position, "{what}");
    }
}

#[test]
fn a_lane_that_waits_because_the_log_was_cut_waits_at_no_hole() {
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let holes = lost(&[(20, 22)]);
    for (from, noticed) in [(20, Stamp::from_micros(1)), (5, NOW)] {
        let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
        lane.meets(&holes.all()[0]);
        lane.state = State::Gap(Gap { from_sequence: from, to_sequence: 30, noticed });
        assert!(!lane.waits_at_hole());
    }
}

#[test]
fn what_is_registered_while_a_lane_waits_at_a_hole_gets_what_lies_before_it() {
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    lane.passed_over(10);
    lane.waits_at(&lost(&[(20, 22)]).all()[0], 24);
    subscription.entries = asked(&[("a", "1", 1, 1, None), ("b", "2", 12, 25, None)]).entries;
    subscription.registered = Some("second".into());
    for resumption in [None, Some("r".into())] {
        subscription.resumption = resumption;
        let again = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
        assert_eq!((again.state.word(), again.position), (Word::Active, 10));
    }
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
    lane.passed_over(60);
    // Both are behind it now, and the one that it met is shown while it is one.
    assert!(!lane.sees(&holes(None, &[(50, 50)])) && lane.hole.is_some());
    // The log's limits have removed what lay around both.
    assert!(lane.sees(&LogHoles::default()) && lane.hole.is_none());
}
