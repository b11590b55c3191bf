//! What retention removes before a lane comes to it.

use super::*;

#[test]
fn a_lane_whose_next_event_was_removed_waits_until_it_is_resumed() {
    let now = Stamp::from_micros(9);
    let mut subscription = asked(&[("a", "1", 3, 3, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    assert_eq!(lane.take_in_beginning(&subscription, begins(3), now), Loss::None, "it begins with what is left");
    lane.passed_over(5);
    let gap = Gap { from_sequence: 6, to_sequence: 8, noticed: now };
    assert_eq!(lane.take_in_beginning(&subscription, begins(9), now), Loss::Stops(gap));
    let again = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
    assert_eq!((again.state.word(), again.position, again.state.gap()), (Word::Gap, 5, Some(gap)));
    subscription.resumption = Some("r".into());
    let mut resumed = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
    assert_eq!((resumed.state.word(), resumed.position, resumed.state.gap()), (Word::Active, 8, None));
    assert_eq!(resumed.take_in_beginning(&subscription, begins(9), now), Loss::None);
    // An old resumption says nothing about another gap.
    assert!(matches!(resumed.take_in_beginning(&subscription, begins(20), now), Loss::Stops(_)));
    assert_eq!(Lane::reconcile(Some(&resumed), &subscription, fresh("e2")).state.word(), Word::Gap);
}

#[test]
fn a_gap_is_none_where_nothing_was_wanted_or_nobody_minds() {
    let now = Stamp::from_micros(9);
    let mut plain = asked(&[("a", "1", 1, 1, None)]);
    let mut drained = Lane::reconcile(None, &plain, fresh("e1"));
    drained.is_clear_to(8);
    assert_eq!(drained.take_in_beginning(&plain, begins(9), now), Loss::None);
    assert!(matches!(drained.take_in_beginning(&plain, begins(10), now), Loss::Stops(_)));

    let later = asked(&[("a", "1", 9, 9, None)]);
    let mut lane = Lane { position: 0, ..Lane::reconcile(None, &later, fresh("e1")) };
    assert_eq!(lane.take_in_beginning(&later, begins(9), now), Loss::None, "nothing below 9 was wanted");

    let entry = plain.entries.values_mut().next().unwrap();
    entry.attributes.datetime_start = Some(Stamp::from_micros(10_000_000));
    let mut lane = Lane::reconcile(None, &plain, fresh("e1"));
    assert_eq!(lane.take_in_beginning(&plain, begins(9), now), Loss::None, "it starts after what was removed");
    let entry = plain.entries.values_mut().next().unwrap();
    (entry.attributes.datetime_start, entry.attributes.allow_gap) = (None, true);
    let mut lane = Lane::reconcile(None, &plain, fresh("e1"));
    assert!(matches!(lane.take_in_beginning(&plain, begins(9), now), Loss::Allowed(_)));
    assert_eq!((lane.state.word(), lane.may_lack(9)), (Word::Active, false), "it is told once");
}

#[test]
fn a_part_to_be_replayed_that_was_removed_is_a_gap() {
    let now = Stamp::from_micros(9);
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    lane.passed_over(100);
    subscription.redelivery = Some(Redelivery {
        id: "r".into(),
        asked_at: now,
        from_sequence: 10,
        to_sequence: 100,
        from: Stamp::from_micros(0),
        to: None,
        only: None,
    });
    let mut lane = Lane::reconcile(Some(&lane), &subscription, fresh("e2"));
    assert_eq!(lane.position, 9);
    assert!(matches!(lane.take_in_beginning(&subscription, begins(50), now), Loss::Stops(_)));
    subscription.resumption = Some("r".into());
    let mut lane = Lane::reconcile(Some(&lane), &subscription, fresh("e3"));
    lane.go_on_at(60);
    assert_eq!((lane.state.word(), lane.position, lane.redelivery.as_ref().unwrap().next), (Word::Active, 59, 60));
    assert_eq!(lane.take_in_beginning(&subscription, begins(60), now), Loss::None);
}

#[test]
fn a_transaction_without_a_start_is_promised_nothing_of_what_was_before() {
    let now = Stamp::from_micros(9);
    let mut subscription = asked(&[("a", "1", 3, 20, None)]);
    subscription.entries.values_mut().next().unwrap().attributes.transaction_id = Some("t".into());
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    assert_eq!(lane.take_in_beginning(&subscription, begins(15), now), Loss::None);
    assert!(matches!(lane.take_in_beginning(&subscription, begins(22), now), Loss::Stops(_)));
}

#[test]
fn what_comes_late_shows_that_its_place_was_not_clear() {
    let mut lane = Lane::reconcile(None, &asked(&[("a", "1", 1, 1, None)]), fresh("e1"));
    lane.is_clear_to(8);
    lane.comes(5);
    assert!(!lane.may_lack(5) && lane.may_lack(6), "without 5 something would be lacking");
    lane.passed_over(5);
    lane.is_clear_to(8);
    lane.comes(3);
    assert!(!lane.may_lack(9), "what comes again says nothing");
}

#[test]
fn a_doubt_beyond_the_position_survives_other_words_of_another_type() {
    let now = Stamp::from_micros(9);
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    run(&mut lane, &subscription, &["a"; 2], 2);
    // Nothing up to 5, by what the source said. Then 7 comes, while the log is cut up to 6.
    lane.is_clear_to(5);
    lane.came_past(6);
    lane.comes(7);
    let more = asked(&[("a", "1", 1, 1, None), ("b", "2", 9, 9, None)]);
    let mut lane = Lane::reconcile(Some(&lane), &more, fresh("e2"));
    let gap = Gap { from_sequence: 6, to_sequence: 6, noticed: now };
    assert_eq!(lane.take_in_beginning(&more, begins(7), now), Loss::Stops(gap));
}

#[test]
fn what_was_skipped_is_clear_only_by_a_later_look_at_the_log() {
    let now = Stamp::from_micros(9);
    let subscription = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    run(&mut lane, &subscription, &["a"; 4], 4);
    lane.comes(9);
    lane.came_past(5);
    run(&mut lane, &subscription, &["a"; 9], 9);
    assert_eq!((lane.position, lane.accounted_to()), (9, 4), "it is not sure of 5 to 8");
    let mut whole = lane.clone();
    assert!(whole.is_whole_from(5));
    assert_eq!((whole.accounted_to(), whole.take_in_beginning(&subscription, begins(5), now)), (9, Loss::None));
    assert!(!lane.is_whole_from(6));
    let gap = Gap { from_sequence: 5, to_sequence: 6, noticed: now };
    assert_eq!(lane.take_in_beginning(&subscription, begins(7), now), Loss::Stops(gap));
    // It survives a crash, and a resumption ends it.
    let written = serde_json::to_string(&lane).unwrap();
    let lane: Lane = serde_json::from_str(&written).unwrap();
    let mut resumed = subscription.clone();
    resumed.resumption = Some("r".into());
    let mut lane = Lane::reconcile(Some(&lane), &resumed, fresh("e2"));
    lane.go_on_at(7);
    assert_eq!((lane.state.word(), lane.position, lane.accounted_to()), (Word::Active, 9, 9));
}

#[test]
fn what_the_words_before_promised_of_the_past_is_missed_too() {
    let mut first = asked(&[("a", "1", 3, 20, None)]);
    first.entries.values_mut().for_each(|entry| entry.attributes.datetime_start = Some(Stamp::from_micros(3_000_000)));
    let lane = Lane::reconcile(None, &first, fresh("e1"));
    let plain = replaced(&first, "a", "2", 25, Attributes::default());
    let mut lane = Lane::reconcile(Some(&lane), &plain, fresh("e2"));
    assert!(matches!(lane.take_in_beginning(&plain, begins(9), Stamp::from_micros(0)), Loss::Stops(_)));
}
