//! What a change of the spec brings, and what it does not bring again.

use super::*;

#[test]
fn a_pattern_that_is_added_brings_nothing_that_another_one_brought() {
    let log = ["a.x", "a.x", "a.x", "a.x"];
    let before = asked(&[("a.>", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    // Accepted behind 1; the lane hears of it behind 3.
    assert_eq!(run(&mut lane, &before, &log, 3), [1, 2, 3]);
    let both = asked(&[("a.>", "1", 1, 1, None), ("a.*", "2", 2, 2, Some(3))]);
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!(run(&mut lane, &both, &log, 4), [4]);
    let counted = &lane.entries[&TypePattern::parse("a.*").unwrap()];
    assert_eq!(
        (counted.delivered, counted.completed),
        (3, true),
        "2 and 3 were delivered to the URL after it was accepted"
    );
}

#[test]
fn a_replaced_registration_owes_what_both_words_promise() {
    let at = Stamp::from_micros(0);
    let data = |sequence: u64| if sequence == 3 { "{\"k\":1}" } else { "{}" };
    let event = |sequence: u64| {
        Event::from_message("EVENTS", "events.a", sequence, at, [], Bytes::from(data(sequence))).unwrap()
    };
    let due = |lane: &mut Lane, spec: &Subscription| -> Vec<u64> {
        let mut delivered = Vec::new();
        for sequence in 1..=5 {
            if lane.due(spec, &event(sequence), &Found::new()).is_some() {
                lane.delivered(spec, &event(sequence), &Found::new());
                delivered.push(sequence);
            } else {
                lane.skipped(spec, &event(sequence));
            }
        }
        delivered
    };
    let mut requires = asked(&[("a", "1", 1, 1, None)]);
    requires.entries.values_mut().for_each(|entry| entry.attributes.required_data = vec!["k".into()]);
    let lane = Lane::reconcile(None, &requires, fresh("e1"));
    let counts = replaced(&requires, "a", "2", 4, Attributes { count: Some(2), ..Attributes::default() });
    let mut lane = Lane::reconcile(Some(&lane), &counts, fresh("e2"));
    assert_eq!(due(&mut lane, &counts), [3, 4]);
    // A count that was replaced promised so many, and no more.
    let counted = asked(&[("a", "1", 1, 1, Some(1))]);
    let lane = Lane::reconcile(None, &counted, fresh("e1"));
    let plain = replaced(&counted, "a", "2", 4, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &plain, fresh("e2"));
    assert_eq!(due(&mut lane, &plain), [1, 4, 5]);
    assert_eq!(due(&mut Lane::reconcile(None, &plain, fresh("e1")), &plain), [1, 4, 5], "unseen by the lane");
}

#[test]
fn a_redelivery_goes_on_though_the_pair_is_registered_again_and_by_the_present_words() {
    let log = ["a", "a", "a"];
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    spec.entries.values_mut().for_each(|entry| entry.attributes.transaction_id = Some("none".into()));
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    assert_eq!(run(&mut lane, &spec, &log, 3), [0u64; 0]);
    let mut spec = replaced(&spec, "a", "2", 4, Attributes::default());
    let all = [1, 2, 3].into();
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), all);
    // The replica starts again, in the same words, before the lane knows of either.
    let spec = replaced(&spec, "a", "3", 4, Attributes::default());
    let mut redelivering = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert_eq!(run(&mut redelivering, &spec, &log, 3), [1, 2, 3]);
    // An entry that was registered after the request gets nothing of it.
    let mut later = spec.clone();
    later.entries.values_mut().for_each(|entry| entry.after_redelivery = Some("r".into()));
    let mut lane = Lane::reconcile(Some(&lane), &later, fresh("e2"));
    assert_eq!(run(&mut lane, &later, &log, 3), [0u64; 0]);
}

#[test]
fn a_redelivery_names_its_request_and_is_a_replay_only_of_what_is_from_before_the_registration() {
    let mut spec = asked(&[("a", "1", 1, 2, None)]);
    let mut lane = Lane::reconcile(None, &spec, fresh("e1"));
    run(&mut lane, &spec, &["a", "a"], 2);
    spec.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), [1, 2].into());
    let lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    let told = |sequence| {
        let due = lane.due(&spec, &event(sequence, "a"), &Found::new()).unwrap();
        (due.is_replay, due.redelivery.clone(), due.is_of_the_past())
    };
    assert_eq!(told(1), (true, Some("r".to_owned()), true));
    assert_eq!(told(2), (false, Some("r".to_owned()), true));
    let live = lane.due(&spec, &event(3, "a"), &Found::new()).unwrap();
    assert_eq!((live.is_replay, live.redelivery), (false, None));
}

#[test]
fn the_same_words_again_bring_nothing_that_was_had() {
    let log = ["a"; 9];
    let mut first = asked(&[("a", "1", 1, 1, None)]);
    first.entries.values_mut().for_each(|entry| entry.attributes.transaction_id = Some("t1".into()));
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    run(&mut lane, &first, &log, 2);
    let plain = replaced(&first, "a", "2", 3, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &plain, fresh("e2"));
    assert_eq!(run(&mut lane, &plain, &log, 5), [3, 4, 5]);
    let again = replaced(&plain, "a", "3", 6, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert_eq!(run(&mut lane, &again, &log, 7), [6, 7]);
}

#[test]
fn words_that_changed_say_nothing_of_what_the_target_says_it_lacks() {
    let log = ["a"; 9];
    let first = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    run(&mut lane, &first, &log, 6);
    let changed = replaced(&first, "a", "2", 4, Attributes { count: Some(99), ..Attributes::default() });
    let mut lane = Lane::reconcile(Some(&lane), &changed, fresh("e2"));
    lane.resume_after(2, "e3");
    assert_eq!(run(&mut lane, &changed, &log, 9), [3, 4, 5, 6, 7, 8, 9]);
    assert!(lane.follow_log_back(5, "e4"));
    assert_eq!(run(&mut lane, &changed, &log, 9), [6, 7, 8, 9]);
}

#[test]
fn keys_that_words_required_before_are_not_required_of_what_comes_again() {
    let log = ["a"; 9];
    let mut requires = asked(&[("a", "1", 1, 1, None)]);
    requires.entries.values_mut().for_each(|entry| entry.attributes.required_data = vec!["k".into()]);
    let mut lane = Lane::reconcile(None, &requires, fresh("e1"));
    assert_eq!(run(&mut lane, &requires, &log, 6), [0u64; 0]);
    let plain = replaced(&requires, "a", "2", 7, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &plain, fresh("e2"));
    assert_eq!(run(&mut lane, &plain, &log, 7), [7]);
    // The target says that it lacks them.
    let mut resumed = lane.clone();
    resumed.resume_after(4, "e3");
    assert_eq!(resumed.lacks(&plain, &event(5, "a")), BTreeSet::new());
    assert_eq!(run(&mut resumed, &plain, &log, 8), [5, 6, 7, 8]);
    // They are asked for again.
    let mut redelivering = plain.clone();
    redelivering.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), [2, 7].into());
    let mut lane = Lane::reconcile(Some(&lane), &redelivering, fresh("e4"));
    assert_eq!(lane.lacks(&redelivering, &event(2, "a")), BTreeSet::new());
    assert_eq!(run(&mut lane, &redelivering, &log, 8), [2, 7, 8]);
}

#[test]
fn registering_again_without_a_past_start_still_brings_what_is_owed() {
    let log = ["a", "a", "a", "a", "b"];
    let again = |earlier: &Subscription, name: &str, from: u64| {
        let mut now = asked(&[("a", name, from, from, None)]);
        let before = &earlier.entries[&TypePattern::parse("a").unwrap()];
        for entry in now.entries.values_mut() {
            *entry = entry.clone().replacing(before);
        }
        now
    };
    let first = asked(&[("a", "1", 1, 1, Some(2))]);
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    assert_eq!(run(&mut lane, &first, &log, 1), [1]);
    // Replaced twice while 2 to 4 wait; the lane hears of the last one only.
    let third = again(&again(&first, "2", 4), "3", 5);
    let mut lane = Lane::reconcile(Some(&lane), &third, fresh("e2"));
    assert_eq!(lane.position, 1);
    assert_eq!(lane.due(&third, &event(2, "a"), &Found::new()).map(|due| due.is_replay), Some(false));
    // The first words promised two events, and the present ones what comes from 4 on: nobody promised 3.
    assert_eq!(run(&mut lane, &third, &log, 5), [2, 4]);
    // A lane that never saw the first one owes what that was promised.
    assert_eq!(Lane::reconcile(None, &third, fresh("e3")).position, 0);
    // One that was completed owes nothing: it starts again, with what came after its acceptance, though another entry
    // has taken the lane past that.
    let first_and_b = asked(&[("a", "1", 1, 1, Some(1)), ("b", "9", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &first_and_b, fresh("e6"));
    assert_eq!(run(&mut lane, &first_and_b, &log, 1), [1]);
    let mut lane = Lane::reconcile(Some(&lane), &first_and_b, fresh("e7"));
    assert_eq!(run(&mut lane, &first_and_b, &log, 5), [5]);
    let mut anew = again(&first, "2", 3);
    anew.entries.extend(
        first_and_b.entries.iter().filter(|(pattern, _)| pattern.as_str() == "b").map(|(p, e)| (p.clone(), e.clone())),
    );
    let mut lane = Lane::reconcile(Some(&lane), &anew, fresh("e8"));
    assert_eq!(run(&mut lane, &anew, &log, 5), [3, 4]);
    let mut lane = Lane::reconcile(None, &first, fresh("e4"));
    assert_eq!(run(&mut lane, &first, &log, 2), [1, 2]);
    let mut lane = Lane::reconcile(Some(&lane), &third, fresh("e5"));
    assert_eq!(run(&mut lane, &third, &log, 5), [0u64; 0]);
}

#[test]
fn adding_a_past_start_brings_the_past_and_nothing_twice() {
    let log = ["a", "b", "a", "b", "a", "b", "a", "b"];
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 5), [1, 3, 5]);

    let after = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 6, None)]);
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e2"));
    assert_eq!((lane.position, lane.epoch.to_string().as_str(), lane.phase), (0, "e2", Phase::Replaying));
    assert_eq!(run(&mut lane, &after, &log, 8), [2, 4, 6, 7, 8]);
}

#[test]
fn registering_the_same_again_replays_it_and_the_same_registration_does_not() {
    let log = ["a", "a", "a"];
    let first = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    assert_eq!(run(&mut lane, &first, &log, 3), [1, 2, 3]);
    assert_eq!(Lane::reconcile(Some(&lane), &first, fresh("e2")), lane);

    let again = asked(&[("a", "2", 1, 4, Some(1))]);
    let mut lane = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert!(lane.due(&again, &event(1, "a"), &Found::new()).is_some_and(|due| due.is_replay));
    assert_eq!(run(&mut lane, &again, &log, 3), [1]);
    assert_eq!(Lane::reconcile(Some(&lane), &again, fresh("e4")).state.word(), Word::Completed);
}

#[test]
fn a_stated_position_puts_the_lane_there_back_or_forth_in_the_same_words_too() {
    let log = ["a"; 9];
    let stating = |earlier: &Subscription, name: &str, live_from: u64, position: u64| {
        let start = Some(crate::attributes::StartAt::After(position));
        let mut now = replaced(earlier, "a", name, live_from, Attributes { start, ..Attributes::default() });
        now.entries.values_mut().for_each(|entry| entry.from_sequence = position + 1);
        now
    };
    let first = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &first, fresh("e1"));
    assert_eq!(run(&mut lane, &first, &log, 4), [1, 2, 3, 4]);
    let mut spec = first;
    for (name, position, brings) in
        [("2", 1, vec![2, 3, 4]), ("3", 1, vec![2, 3, 4]), ("4", 3, vec![4]), ("5", 4, vec![])]
    {
        spec = stating(&spec, name, 5, position);
        lane = Lane::reconcile(Some(&lane), &spec, fresh(name));
        assert_eq!((lane.position, lane.last_delivered), (position, position), "what comes names it");
        assert_eq!(run(&mut lane, &spec, &log, 4), brings, "{name}");
    }
    // Forth: what it says that it has had is not owed.
    lane = Lane::reconcile(None, &asked(&[("a", "1", 1, 1, None)]), fresh("e1"));
    spec = stating(&asked(&[("a", "1", 1, 1, None)]), "2", 7, 5);
    let mut lane = Lane::reconcile(Some(&lane), &spec, fresh("e2"));
    assert_eq!((lane.last_delivered, run(&mut lane, &spec, &log, 7)), (5, vec![6, 7]));
    // Of one entry of two it says nothing about the URL.
    let mut both = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &both, fresh("e1"));
    run(&mut lane, &both, &log, 6);
    let stated = stating(&asked(&[("a", "1", 1, 1, None)]), "3", 7, 4);
    both.entries.extend(stated.entries);
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!((lane.last_delivered, run(&mut lane, &both, &log, 7)), (6, vec![5, 6, 7]));
}

#[test]
fn words_that_changed_bring_nothing_that_another_entry_brought() {
    let log = ["a.x"; 4];
    let mut before = asked(&[("a.>", "1", 1, 1, None), ("a.x", "2", 1, 1, None)]);
    let of = |spec: &Subscription| spec.entries[&TypePattern::parse("a.x").unwrap()].attributes.clone();
    let later = Attributes { datetime_start: Some(Stamp::from_micros(60_000_000)), ..of(&before) };
    before.entries.get_mut(&TypePattern::parse("a.x").unwrap()).unwrap().attributes = later;
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 3), [1, 2, 3], "a.> asks for them");
    // Changed behind 1; the lane hears of it behind 3, with one more that is new and has it move back.
    let mut after = replaced(&before, "a.x", "3", 2, Attributes::default());
    after.entries.extend(asked(&[("a.*", "4", 2, 2, Some(9))]).entries);
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e2"));
    assert_eq!(run(&mut lane, &after, &log, 4), [4]);
    let delivered = |pattern: &str| lane.entries[&TypePattern::parse(pattern).unwrap()].delivered;
    assert_eq!((delivered("a.x"), delivered("a.*")), (3, 3), "2 and 3 were delivered to the URL after they asked");
}

#[test]
fn an_entry_that_is_added_brings_nothing_that_earlier_words_brought() {
    let log = ["a.x"; 4];
    for (required, brought) in [(vec![], vec![4]), (vec!["k".to_owned()], vec![2, 3, 4])] {
        let mut before = asked(&[("a.x", "1", 1, 1, None)]);
        before.entries.values_mut().for_each(|entry| entry.attributes.required_data.clone_from(&required));
        let mut lane = Lane::reconcile(None, &before, fresh("e1"));
        run(&mut lane, &before, &log, 3);
        // Changed behind 1, with one more that is new; the lane hears of it behind 3.
        let ends = Attributes { datetime_end: Some(Stamp::from_micros(90_000_000)), ..Attributes::default() };
        let mut after = replaced(&before, "a.x", "2", 2, ends);
        after.entries.extend(asked(&[("a.*", "3", 2, 2, None)]).entries);
        let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e2"));
        assert_eq!(run(&mut lane, &after, &log, 4), brought, "{required:?}");
    }
}

#[test]
fn words_that_the_lane_never_went_by_have_brought_nothing() {
    let log = ["a.x"; 5];
    let mut before = asked(&[("a.x", "1", 1, 1, None)]);
    let later = Attributes { datetime_start: Some(Stamp::from_micros(60_000_000)), ..Attributes::default() };
    before.entries.values_mut().for_each(|entry| entry.attributes = later.clone());
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 4), [0u64; 0]);
    // Changed behind 1, and again behind 2; the lane hears of both behind 4.
    let between = replaced(&before, "a.x", "2", 2, Attributes::default());
    let ends = Attributes { datetime_end: Some(Stamp::from_micros(90_000_000)), ..Attributes::default() };
    let after = replaced(&between, "a.x", "3", 3, ends);
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e2"));
    assert_eq!(run(&mut lane, &after, &log, 5), [2, 3, 4, 5]);
}

#[test]
fn two_changes_at_one_place_are_two() {
    let log = ["a.x"; 5];
    let before = asked(&[("a.x", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    run(&mut lane, &before, &log, 1);
    let later = Attributes { datetime_start: Some(Stamp::from_micros(60_000_000)), ..Attributes::default() };
    let between = replaced(&before, "a.x", "2", 2, later);
    let mut lane = Lane::reconcile(Some(&lane), &between, fresh("e2"));
    assert_eq!(run(&mut lane, &between, &log, 4), [0u64; 0]);
    // Changed behind 1 too; the lane hears of it behind 4.
    let after = replaced(&between, "a.x", "3", 2, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e3"));
    assert_eq!(run(&mut lane, &after, &log, 5), [2, 3, 4, 5]);
}

#[test]
fn what_earlier_words_brought_is_known_by_those_words_when_they_change_once_more() {
    let log = ["a.x"; 9];
    let to_4 = Attributes { datetime_end: Some(Stamp::from_micros(4_000_000)), ..Attributes::default() };
    let mut before = asked(&[("a.x", "1", 1, 1, None)]);
    before.entries.values_mut().for_each(|entry| entry.attributes = to_4.clone());
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 6), [1, 2, 3, 4]);
    // Changed behind 1; the lane hears of it behind 6. Changed again behind 6, when the lane is at 3 once more.
    let between = replaced(&before, "a.x", "2", 2, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &between, fresh("e2"));
    assert_eq!(run(&mut lane, &between, &log, 3), [0u64; 0], "they were brought");
    let ends = Attributes { datetime_end: Some(Stamp::from_micros(90_000_000)), ..Attributes::default() };
    let after = replaced(&between, "a.x", "3", 7, ends);
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e3"));
    assert_eq!(run(&mut lane, &after, &log, 8), [5, 6, 7, 8], "the first words asked for 4, and for neither 5 nor 6");
}

#[test]
fn how_often_words_have_changed_is_written_where_they_did() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut spec = before.clone();
    for (at, changes, most) in [(2, 0, None), (3, 1, Some(9)), (4, 2, None)] {
        spec = replaced(&spec, "a", "2", at, Attributes { count: most, ..Attributes::default() });
        let written = serde_json::to_value(&spec).unwrap();
        let continues = &written["entries"]["a"]["continues"];
        assert_eq!(continues.get("changed").map_or(0, |changed| changed.as_u64().unwrap()), changes, "{written}");
        assert_eq!(continues.get("changed").is_some(), changes > 0, "{written}");
        assert_eq!(serde_json::from_value::<Subscription>(written).unwrap(), spec);
    }
}
