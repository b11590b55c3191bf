//! What ends deliveries, and targets that say where they are.

use super::*;

#[test]
fn a_target_that_says_where_it_is_is_followed_there() {
    let subscription = asked(&[("a", "1", 3, 3, None), ("b", "2", 8, 8, None)]);
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    lane.passed_over(10);
    lane.resume_after(20, "e2");
    assert_eq!((lane.position, lane.last_delivered, lane.epoch.to_string().as_str()), (20, 20, "e1"));
    lane.resume_after(5, "e2");
    assert_eq!((lane.position, lane.last_delivered, lane.epoch.to_string().as_str()), (5, 5, "e2"));
    let due = |sequence, event_type: &str| lane.due(&subscription, &event(sequence, event_type), &Found::new());
    assert!(due(6, "a").is_some() && due(8, "b").is_some());
    assert!(due(7, "b").is_some(), "wherever the registration began: the target lacks it");
    let mut later = subscription.clone();
    for entry in later.entries.values_mut() {
        entry.attributes.datetime_start = Some(Stamp::from_micros(90_000_000));
    }
    let mut lane = Lane::reconcile(Some(&lane), &later, fresh("e3"));
    assert_eq!(lane.due(&later, &event(4, "a"), &Found::new()), None, "not before where it is");
    assert!(lane.due(&later, &event(6, "a"), &Found::new()).is_some(), "all attributes but the start count");
    lane.resume_after(30, "e4");
    assert!(lane.due(&later, &event(31, "b"), &Found::new()).is_some());
}

#[test]
fn what_is_gone_stays_so_until_it_is_registered_again_or_resumed() {
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    subscription.registered = Some("1".into());
    let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
    lane.stop(&subscription, Why::Gone, 1, Stamp::from_micros(0));
    assert_eq!(Lane::reconcile(Some(&lane), &subscription, fresh("e2")).state.word(), Word::Gone);
    let mut resumed = subscription.clone();
    resumed.resumption = Some("r".into());
    assert_eq!(Lane::reconcile(Some(&lane), &resumed, fresh("e2")).state.word(), Word::Active);
    subscription.registered = Some("2".into());
    assert_eq!(Lane::reconcile(Some(&lane), &subscription, fresh("e2")).state.word(), Word::Active);
}

#[test]
fn registering_again_has_a_held_event_tried_at_once_and_ends_no_pause() {
    let mut subscription = asked(&[("a", "1", 1, 1, None)]);
    subscription.registered = Some("1".into());
    let mut again = subscription.clone();
    again.registered = Some("2".into());
    for (next_attempt, letter, word) in [
        (Some(Stamp::from_micros(9)), None, Word::Active),
        (None, None, Word::Active),
        (None, Some("letter".to_owned()), Word::Held),
    ] {
        let mut lane = Lane::reconcile(None, &subscription, fresh("e1"));
        lane.failed(Failure { sequence: 1, attempts: 9, error: "x".into(), next_attempt, letter });
        assert_eq!(Lane::reconcile(Some(&lane), &subscription, fresh("e2")).state.word(), Word::Held);
        assert_eq!(Lane::reconcile(Some(&lane), &again, fresh("e2")).state.word(), word);
        let paused = Subscription { paused: true, ..again.clone() };
        assert_eq!(Lane::reconcile(Some(&lane), &paused, fresh("e2")).state.word(), Word::Paused);
    }
}

#[test]
fn of_what_a_target_lacks_the_present_words_alone_decide() {
    let mut first = asked(&[("a", "1", 1, 1, Some(1))]);
    first.entries.values_mut().for_each(|entry| entry.attributes.transaction_id = Some("none".into()));
    let plain = replaced(&first, "a", "2", 3, Attributes::default());
    let mut lane = Lane::reconcile(None, &plain, fresh("e1"));
    assert_eq!(run(&mut lane, &plain, &["a"; 4], 4), [3, 4]);
    lane.resume_after(0, "e2");
    assert_eq!(run(&mut lane, &plain, &["a"; 4], 4), [1, 2, 3, 4]);
}
