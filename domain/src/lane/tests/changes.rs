//! What a lane keeps, where what is wanted of it changes.

use super::*;

/// How far the entry of a pattern has come.
fn of<'a>(lane: &'a Lane, pattern: &str) -> &'a Progress {
    &lane.entries[&TypePattern::parse(pattern).unwrap()]
}

#[test]
fn who_registers_again_in_the_same_words_shares_what_it_shared() {
    let log = ["a.x"; 4];
    let before = asked(&[("a.>", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &log, 3);
    let both = asked(&[("a.>", "1", 1, 1, None), ("a.*", "2", 2, 2, None)]);
    let lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    let again = replaced(&both, "a.*", "3", 4, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert_eq!(run(&mut lane, &again, &log, 4), [4]);
}

#[test]
fn who_registers_again_in_the_same_words_wants_the_past_anew_as_it_did() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    lane.delivered_early(&event(4, "a"));
    let past = asked(&[("a", "2", 1, 6, None)]);
    let lane = Lane::reconcile(Some(&lane), &past, fresh("e2"));
    let again = replaced(&past, "a", "3", 7, Attributes::default());
    let lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert!(!lane.has_taken(&again, &event(4, "a")));
    // Without the past, what was taken early is had.
    let live = asked(&[("a", "1", 1, 1, None), ("b", "2", 6, 6, None)]);
    let mut early = Lane::reconcile(None, &before, fresh("e1"));
    early.delivered_early(&event(8, "a"));
    assert_eq!(of(&Lane::reconcile(Some(&early), &live, fresh("e2")), "b").anew_to, None);
}

#[test]
fn who_registers_again_in_the_same_words_is_where_the_target_said_that_it_is() {
    let words = Attributes { datetime_start: Some(Stamp::from_micros(5_000_000)), ..Attributes::default() };
    let mut first = asked(&[("a", "1", 1, 1, None)]);
    first.entries.values_mut().for_each(|entry| entry.attributes = words.clone());
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    assert_eq!(run(&mut lane, &first, &["a"; 9], 9), [5, 6, 7, 8, 9]);
    lane.resume_after(2, "e2");
    let again = replaced(&first, "a", "2", 10, words);
    let mut lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert_eq!(run(&mut lane, &again, &["a"; 9], 9), [3, 4, 5, 6, 7, 8, 9], "its start does not count");
}

#[test]
fn what_an_earlier_count_owes_is_owed_once_however_often_the_same_is_registered() {
    let counted = asked(&[("a", "1", 1, 1, Some(3))]);
    let mut lane = Lane::reconcile(None, &counted, fresh("e1"));
    let mut spec = replaced(&counted, "a", "2", 9, Attributes::default());
    lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert_eq!(run(&mut lane, &spec, &["a"; 8], 1), [1]);
    for name in ["3", "4"] {
        spec = replaced(&spec, "a", name, 9, Attributes::default());
        lane = Lane::reconcile(Some(&lane), &spec, fresh(name));
        assert_eq!(of(&lane, "a").owed.map(|owed| owed.events), Some(2), "{name}");
    }
    // The same words with a count owe nothing beside it.
    let same = replaced(&counted, "a", "2", 9, Attributes { count: Some(3), ..Attributes::default() });
    assert_eq!(of(&Lane::reconcile(None, &same, fresh("e1")), "a").owed, None);
}

#[test]
fn a_part_that_was_removed_is_not_asked_for_again_when_the_lane_is_resumed() {
    let now = Stamp::from_micros(9);
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    run(&mut lane, &spec, &["a"; 9], 9);
    spec.redelivery = Redelivery::of_only("r".into(), now, [3, 8, 9].into());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert!(matches!(lane.take_in_beginning(&spec, begins(9), now), Loss::Stops(_)));
    spec.resumption = Some("r".into());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e3"));
    assert_eq!((lane.position, lane.redelivery.as_ref().map(|redelivery| redelivery.next)), (8, Some(9)));
    assert_eq!(lane.take_in_beginning(&spec, begins(9), now), Loss::None);
    assert_eq!(run(&mut lane, &spec, &["a"; 9], 9), [9]);
}

#[test]
fn what_was_taken_early_is_asked_for_again_once() {
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    let lane = Lane::reconcile(None, &spec, fresh("e1"));
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [4].into());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    lane.delivered_early(&event(4, "a"));
    assert_eq!(Lane::reconcile(Some(&lane), &spec, fresh("e3")).had, BTreeSet::from([4]));
}

#[test]
fn a_lane_stands_before_the_first_event_that_it_has_to_bring() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &["a"; 2], 2);
    let mut later = asked(&[("b", "2", 10, 10, None)]);
    assert_eq!(Lane::reconcile(Some(&lane), &later, fresh("e2")).position, 9);
    later.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [5].into());
    assert_eq!(Lane::reconcile(Some(&lane), &later, fresh("e2")).position, 4);
}

#[test]
fn a_redelivery_that_nobody_wants_is_over() {
    let mut spec = asked(&[("a", "1", 1, 1, Some(1))]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    run(&mut lane, &spec, &["a"; 4], 4);
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [1, 4].into());
    let lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert_eq!((lane.state.word(), lane.redelivery.map(|redelivery| redelivery.next)), (Word::Completed, Some(5)));
}

#[test]
fn a_redelivery_brings_nothing_to_an_entry_that_has_had_all_that_it_asked_for() {
    let mut spec = asked(&[("a", "1", 1, 1, Some(1)), ("b", "2", 1, 1, None)]);
    let log = ["a", "b", "a", "b"];
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    assert_eq!(run(&mut lane, &spec, &log, 4), [1, 2, 4]);
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [1, 2].into());
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert_eq!(lane.due(&spec, &event(1, "a"), &Found::new()), None);
    assert_eq!(run(&mut lane, &spec, &log, 4), [2]);
}

#[test]
fn a_doubt_right_behind_what_is_clear_survives_other_words() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &["a"; 2], 2);
    lane.is_clear_to(5);
    lane.came_past(6);
    let more = asked(&[("a", "1", 1, 1, None), ("b", "2", 9, 9, None)]);
    assert_eq!(Lane::reconcile(Some(&lane), &more, fresh("e2")).unsure_from, Some(6));
    let past = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 9, None)]);
    assert_eq!(Lane::reconcile(Some(&lane), &past, fresh("e2")).unsure_from, None, "that is read again");
}

#[test]
fn an_event_that_others_share_counts_for_those_that_want_it() {
    let log = ["a.x"; 4];
    let before = asked(&[("a.>", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &log, 3);
    let all = asked(&[("a.>", "1", 1, 1, None), ("a.*", "2", 2, 2, Some(9)), ("b", "3", 2, 2, Some(9))]);
    let mut lane = Lane::reconcile(Some(&lane), &all, fresh("e2"));
    run(&mut lane, &all, &log, 3);
    assert_eq!((of(&lane, "a.*").delivered, of(&lane, "b").delivered), (2, 0));
}

#[test]
fn an_entry_that_has_had_all_that_it_asked_for_brings_nothing_to_another() {
    let log = ["a.x"; 4];
    let before = asked(&[("a.>", "1", 1, 1, Some(1)), ("b", "9", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 3), [1]);
    let both = asked(&[("a.>", "1", 1, 1, Some(1)), ("b", "9", 1, 1, None), ("a.*", "2", 2, 2, None)]);
    lane.passed_over(3);
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!(run(&mut lane, &both, &log, 4), [2, 3, 4]);
}

#[test]
fn what_a_lane_did_before_it_was_paused_can_be_seen() {
    let at = Stamp::from_micros(0);
    let stop = Stop { why: Why::Gone, sequence: 4, at, registered: None };
    let failure = Failure { sequence: 4, attempts: 2, error: String::new(), next_attempt: None, letter: None };
    let paused = |state: State| State::Paused(Box::new(state));
    let (stopped, held) = (State::Stopped(stop.clone()), State::Held(failure.clone()));
    for state in [stopped.clone(), paused(stopped)] {
        assert_eq!((state.stop(), state.failure(), state.is_at_work()), (Some(&stop), None, false));
    }
    for (state, is_at_work) in [(held.clone(), true), (paused(held), false), (State::Active, true)] {
        let failure = Some(&failure).filter(|_| state != State::Active);
        assert_eq!((state.stop(), state.failure(), state.is_at_work()), (None, failure, is_at_work));
    }
}

#[test]
fn what_is_shared_is_what_came_after_the_registration() {
    let log = ["a.x"; 4];
    let before = asked(&[("a.>", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &log, 3);
    // One that asks for the past once more, beside one that asks for none.
    let all = asked(&[("a.>", "1", 1, 1, None), ("a.*", "2", 2, 2, Some(9)), ("*.x", "3", 1, 3, Some(9))]);
    let mut lane = Lane::reconcile(Some(&lane), &all, fresh("e2"));
    assert_eq!(run(&mut lane, &all, &log, 4), [1, 2, 4]);
    assert_eq!((of(&lane, "a.*").delivered, of(&lane, "*.x").delivered), (3, 4));
}

#[test]
fn the_start_counts_for_what_lies_before_the_place_that_the_target_has_named() {
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    spec.entries.values_mut().for_each(|e| e.attributes.datetime_start = Some(Stamp::from_micros(20_000_000)));
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    run(&mut lane, &spec, &["a"; 9], 5);
    lane.resume_after(9, "e2");
    assert!(lane.follow_log_back(4, "e3"));
    for (sequence, is_due) in [(7, false), (9, false), (10, true), (21, true)] {
        assert_eq!(lane.due(&spec, &event(sequence, "a"), &Found::new()).is_some(), is_due, "{sequence}");
    }
}

#[test]
fn what_was_not_sent_for_want_of_data_is_owed_to_who_requires_none() {
    let log = ["a.x"; 4];
    let mut requires = asked(&[("a.>", "1", 1, 1, None)]);
    requires.entries.values_mut().for_each(|entry| entry.attributes.required_data = vec!["k".into()]);
    let mut lane = Lane::reconcile(None, &requires, fresh("e1"));
    assert_eq!(run(&mut lane, &requires, &log, 3), [0u64; 0], "they lack k");
    // Accepted behind 1; the lane hears of it behind 3.
    let mut both = asked(&[("a.*", "2", 2, 2, None)]);
    both.entries.extend(requires.entries.clone());
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!(run(&mut lane, &both, &log, 4), [2, 3, 4]);
}

#[test]
fn what_is_not_sure_to_be_had_is_owed_to_who_shares_it() {
    let log = ["a.x"; 4];
    let before = asked(&[("a.>", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &log, 3);
    lane.came_past(2);
    let mut both = asked(&[("a.>", "1", 1, 1, None), ("a.*", "2", 2, 2, Some(9))]);
    both.entries.get_mut(&TypePattern::parse("a.*").unwrap()).unwrap().attributes.priority = 1.0;
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!(lane.due(&both, &event(2, "a.x"), &Found::new()).map(|due| due.priority), Some(1.0));
    assert_eq!(run(&mut lane, &both, &log, 4), [2, 3, 4]);
    assert_eq!(of(&lane, "a.*").delivered, 3);
}
