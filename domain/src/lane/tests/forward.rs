//! How a lane comes forward, place by place: what counts at a place, before it and behind it.

use super::*;
use crate::log_epoch::Mark;

fn plain() -> (Subscription, Lane) {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let lane = Lane::reconcile(None, &spec, fresh("e1"));
    (spec, lane)
}

fn failure(sequence: u64) -> Failure {
    Failure { sequence, attempts: 1, error: String::new(), next_attempt: None, letter: None }
}

#[test]
fn what_a_consumer_acknowledged_counts_beyond_the_position_alone() {
    let (spec, mut lane) = plain();
    lane.delivered(&spec, &event(3, "a"), &Found::new());
    lane.passed_over(5);
    for (floor, position, last_delivered) in [(4, 5, 3), (5, 5, 3), (6, 6, 6)] {
        lane.adopt_floor(floor, None);
        assert_eq!((lane.position, lane.last_delivered), (position, last_delivered), "{floor}");
    }
}

#[test]
fn the_newest_event_that_a_lane_had_is_the_one_that_it_remembers() {
    let (_, mut lane) = plain();
    let other = |sequence| Mark::of(&Event { stored_at: Stamp::from_micros(1), ..event(sequence, "a") });
    for (mark, remembered) in [
        (Some(Mark::of(&event(5, "a"))), Mark::of(&event(5, "a"))),
        (None, Mark::of(&event(5, "a"))),
        (Some(other(4)), Mark::of(&event(5, "a"))),
        (Some(other(5)), Mark::of(&event(5, "a"))),
        (Some(other(6)), other(6)),
    ] {
        lane.is_marked_by(mark);
        assert_eq!(lane.mark, Some(remembered));
    }
}

#[test]
fn what_comes_again_is_neither_taken_early_nor_counted() {
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    spec.entries.values_mut().for_each(|entry| entry.attributes.required_data = vec!["k".into()]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    lane.skipped(&spec, &event(4, "a"));
    for sequence in [3, 4] {
        lane.delivered_early(&event(sequence, "a"));
        assert!(lane.had.is_empty(), "{sequence}");
        lane.skipped(&spec, &event(sequence, "a"));
    }
    assert_eq!(lane.position, 4);
    assert_eq!(lane.entries.values().next().unwrap().skipped, 1);
    lane.skipped(&spec, &event(5, "a"));
    assert_eq!(lane.entries.values().next().unwrap().skipped, 2);
}

#[test]
fn what_comes_again_says_nothing_of_what_lies_behind() {
    let (_, mut lane) = plain();
    lane.passed_over(5);
    lane.is_clear_to(8);
    lane.comes(5);
    assert_eq!(lane.accounted_to(), 8);
    lane.comes(7);
    assert_eq!(lane.accounted_to(), 6);
}

#[test]
fn an_event_fails_until_the_lane_has_gone_past_it() {
    let (_, mut lane) = plain();
    lane.failed(failure(5));
    lane.passed_over(4);
    assert_eq!(lane.failure().map(|failure| failure.sequence), Some(5));
    lane.failure_mut().unwrap().attempts = 7;
    assert_eq!(lane.failure().map(|failure| failure.attempts), Some(7));
    lane.passed_over(5);
    assert!(lane.failure().is_none() && lane.failure_mut().is_none());
}

#[test]
fn what_an_earlier_count_owes_is_counted_before_the_words_changed() {
    let counted = asked(&[("a", "1", 1, 1, Some(3))]);
    let lane = Lane::reconcile(None, &counted, fresh("e1"));
    let spec = replaced(&counted, "a", "2", 4, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    let owed = |lane: &Lane| lane.entries.values().next().unwrap().owed.unwrap().events;
    assert_eq!(owed(&lane), 3);
    for (sequence, must_write, left) in [(1, true, 2), (3, true, 1), (4, false, 1), (5, false, 1)] {
        assert_eq!(lane.delivered(&spec, &event(sequence, "a"), &Found::new()), must_write, "{sequence}");
        assert_eq!(owed(&lane), left, "{sequence}");
    }
}

#[test]
fn to_have_read_everything_is_news_once() {
    let (mut spec, mut lane) = plain();
    assert!(lane.awaits_the_end(&spec), "it may be among the past");
    assert!(lane.read_to_the_end(&spec));
    assert_eq!((lane.phase, lane.awaits_the_end(&spec), lane.read_to_the_end(&spec)), (Phase::Live, false, false));
    lane.passed_over(9);
    // 9 is asked for once more.
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), [9].into());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    lane.phase = Phase::Live;
    assert_eq!((lane.awaits_the_end(&spec), lane.live_from(&spec)), (true, 10));
    assert!(lane.read_to_the_end(&spec));
    assert_eq!(lane.redelivery.as_ref().map(|redelivery| redelivery.next), Some(10));
    assert_eq!((lane.awaits_the_end(&spec), lane.live_from(&spec)), (false, 0));
    assert_eq!(Lane::reconcile(Some(&lane), &spec, fresh("e3")).redelivery, lane.redelivery, "it is over");
}

#[test]
fn a_doubt_goes_where_the_log_ends_before_it() {
    for (last_sequence, unsure_from) in [(6, Some(5)), (5, Some(5)), (4, None)] {
        let (_, mut lane) = plain();
        lane.came_past(5);
        lane.passed_over(9);
        assert!(lane.follow_log_back(last_sequence, "e2"));
        assert_eq!(lane.unsure_from, unsure_from, "{last_sequence}");
    }
}

#[test]
fn an_entry_wants_again_what_lies_behind_the_end_of_a_log_that_lost_it() {
    let spec = asked(&[("a", "1", 9, 9, None)]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    lane.delivered(&spec, &event(9, "a"), &Found::new());
    assert!(lane.follow_log_back(4, "e2"));
    assert_eq!(lane.entries.values().next().unwrap().from_sequence, 5);
    assert_eq!(lane.last_delivered, 4);
}

#[test]
fn an_end_counts_for_what_was_stored_after_the_registration_and_behind_it_alone() {
    let end = Stamp::from_micros(10_000_000);
    let mut spec = asked(&[("a", "1", 1, 5, None), ("b", "2", 1, 1, None)]);
    spec.entries.get_mut(&TypePattern::parse("a").unwrap()).unwrap().attributes.datetime_end = Some(end);
    let lane = Lane::reconcile(None, &spec, fresh("e1"));
    let over = lane.next_over(&spec).unwrap();
    for (sequence, stored_at, completes) in [
        (4, over.plus_micros(1), false),
        (5, over, false),
        (5, over.plus_micros(1), true),
        (6, over.plus_micros(1), true),
    ] {
        let mut lane = lane.clone();
        assert_eq!(lane.complete_over(&spec, sequence, stored_at), completes, "{sequence}");
        assert_eq!(lane.active_entries(), if completes { 1 } else { 2 });
        assert_eq!(lane.next_over(&spec), (!completes).then_some(over));
    }
}

#[test]
fn a_target_that_says_where_the_lane_is_takes_nothing_back() {
    for (position, phase, epoch) in [(4, Phase::Replaying, "e2"), (5, Phase::Live, "e1"), (6, Phase::Live, "e1")] {
        let (spec, mut lane) = plain();
        run(&mut lane, &spec, &["a"; 5], 5);
        lane.phase = Phase::Live;
        lane.resume_after(position, "e2");
        assert_eq!((lane.position, lane.phase, lane.epoch), (position, phase, fresh(epoch)));
    }
}

#[test]
fn a_test_is_due_until_it_was_made() {
    let (mut spec, mut lane) = plain();
    assert_eq!(lane.test_due(&spec), None);
    let test = |id: &str| crate::subscription::Test { id: id.into(), asked_at: Stamp::from_micros(0) };
    spec.test = Some(test("t1"));
    assert_eq!(lane.test_due(&spec), Some(&test("t1")));
    lane.test = Some(TestOutcome { id: "t1".into(), attempt: None });
    assert_eq!(lane.test_due(&spec), None);
    spec.test = Some(test("t2"));
    assert_eq!(lane.test_due(&spec), Some(&test("t2")));
}

#[test]
fn where_the_words_changed_is_written_where_they_did() {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let lane = Lane::reconcile(None, &spec, fresh("e1"));
    let changed = replaced(&spec, "a", "2", 4, Attributes { count: Some(9), ..Attributes::default() });
    for (lane, words_from) in [(lane.clone(), None), (Lane::reconcile(Some(&lane), &changed, fresh("e2")), Some(4))] {
        let written = serde_json::to_value(&lane).unwrap();
        assert_eq!(written["entries"]["a"].get("words_from").and_then(Value::as_u64), words_from);
        assert_eq!(serde_json::from_value::<Lane>(written).unwrap(), lane);
    }
}

#[test]
fn a_lane_knows_whether_a_consumer_belongs_to_it() {
    assert!(Epoch::Consumer("tail-".into()).has_consumer());
    assert!(!Epoch::WithoutConsumer("e".into()).has_consumer());
}
