//! What retention and forks leave of what a lane does.

use super::*;
use crate::delivery_settings::OnFork;
use crate::lane::fork::FoundLog;
use crate::log_epoch::LogEpoch;

/// A lane that has had all up to 4, and 20 early.
fn lane(spec: &Subscription) -> Lane {
    let mut lane = Lane { log_epoch: Some(LogEpoch::of(0)), ..Lane::reconcile(None, spec, fresh("e1")) };
    run(&mut lane, spec, &["a"; 4], 4);
    lane.delivered_early(&event(20, "a"));
    lane
}

/// The same, where the log has become another one behind a place.
fn forked(spec: &Subscription, state: &State, shared_to: u64) -> Lane {
    let mut lane = Lane { state: state.clone(), ..lane(spec) };
    let (epoch, at) = (LogEpoch::of(1), Stamp::from_micros(9));
    let found = FoundLog { epoch: Some(&epoch), shared_to, at };
    assert_eq!(lane.follow_log(spec, found, "e2"), Some(20));
    lane
}

#[test]
fn what_a_lane_waits_for_stands_where_both_logs_have_it() {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let letter = Some("d".to_owned());
    let held = State::Held(Failure { sequence: 8, attempts: 1, error: String::new(), next_attempt: None, letter });
    let gap = State::Gap(Gap { from_sequence: 5, to_sequence: 8, noticed: Stamp::from_micros(1) });
    for state in [held, gap] {
        for shared_to in [8, 9, 19] {
            assert_eq!(forked(&spec, &state, shared_to).state, state, "{shared_to}");
        }
        assert_eq!(forked(&spec, &state, 7).state, State::Active);
        let paused = State::Paused(Box::new(state.clone()));
        assert_eq!(forked(&spec, &paused, 8).state, paused);
        assert_eq!(forked(&spec, &paused, 7).state, State::Paused(Box::new(State::Active)));
    }
}

#[test]
fn what_is_over_stays_over_in_another_log() {
    let at = Stamp::from_micros(1);
    let stopped = State::Stopped(Stop { why: Why::Gone, sequence: 5, at, registered: None });
    for on_fork in [OnFork::Continue, OnFork::Wait] {
        let mut spec = asked(&[("a", "1", 1, 1, None)]);
        spec.delivery.on_fork = on_fork;
        for state in [&stopped, &State::Completed] {
            assert_eq!(forked(&spec, state, 15).state, *state);
        }
    }
}

/// A registration without a start, made when the log of before ended with 29.
fn registered_at_30() -> Subscription {
    asked(&[("a", "1", 1, 1, None), ("b", "2", 30, 30, None)])
}

#[test]
fn what_came_behind_a_fork_came_after_the_registrations_of_before() {
    let spec = registered_at_30();
    let cut = |first_sequence: u64| {
        let mut lane = forked(&spec, &State::Active, 15);
        lane.entries.get_mut(&TypePattern::parse("a").unwrap()).unwrap().completed = true;
        lane.take_in_beginning(&spec, begins(first_sequence), Stamp::from_micros(0))
    };
    assert_eq!(cut(16), Loss::None, "what both logs share came before it");
    assert!(matches!(cut(17), Loss::Stops(_)), "16 is of the present log");
}

#[test]
fn who_registered_in_the_part_that_both_logs_share_is_not_touched_by_a_fork() {
    for (live_from, behind) in [(15, None), (16, None), (17, Some(16)), (30, Some(16))] {
        let spec = asked(&[("a", "1", 1, 1, None), ("b", "2", live_from, live_from, None)]);
        let lane = forked(&spec, &State::Active, 15);
        assert_eq!(lane.entries[&TypePattern::parse("b").unwrap()].live_from, behind, "{live_from}");
    }
}

#[test]
fn the_furthest_back_of_two_forks_says_what_came_after_a_registration() {
    let spec = registered_at_30();
    let mut lane = forked(&spec, &State::Active, 15);
    let epoch = LogEpoch::of(2);
    lane.delivered_early(&event(19, "a"));
    lane.follow_log(&spec, FoundLog { epoch: Some(&epoch), shared_to: 18, at: Stamp::from_micros(9) }, "e3");
    assert_eq!(lane.entries[&TypePattern::parse("b").unwrap()].live_from, Some(16));
}

#[test]
fn a_gap_that_grows_was_noticed_once() {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    let noticed = Stamp::from_micros(1);
    for (begins_with, now) in [(5, noticed), (9, Stamp::from_micros(2))] {
        assert!(matches!(lane.take_in_beginning(&spec, begins(begins_with), now), Loss::Stops(_)));
        let gap = Gap { from_sequence: 1, to_sequence: begins_with - 1, noticed };
        assert_eq!(lane.state.gap(), Some(gap));
    }
}

#[test]
fn what_was_stored_in_the_moment_of_a_start_is_wanted() {
    // The oldest event that is left is stored at 9 s: what was removed may have been stored in the same moment.
    for (start, loses) in [(8_999_999, true), (9_000_000, true), (9_000_001, false)] {
        let mut spec = asked(&[("a", "1", 1, 1, None)]);
        let entry = spec.entries.values_mut().next().unwrap();
        entry.attributes.datetime_start = Some(Stamp::from_micros(start));
        let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
        let loss = lane.take_in_beginning(&spec, begins(9), Stamp::from_micros(0));
        assert_eq!(matches!(loss, Loss::Stops(_)), loses, "{start}");
    }
}

#[test]
fn who_registers_again_after_a_fork_still_misses_what_came_behind_it() {
    let spec = registered_at_30();
    let lane = forked(&spec, &State::Active, 15);
    let again = replaced(&spec, "b", "3", 40, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    lane.entries.get_mut(&TypePattern::parse("a").unwrap()).unwrap().completed = true;
    assert!(matches!(lane.take_in_beginning(&again, begins(17), Stamp::from_micros(0)), Loss::Stops(_)));
}
