//! Subscriptions as they are stored, and entries that replace others.

use super::*;
use bytes::Bytes;

fn event(sequence: u64, seconds: i64, transaction: &'static str) -> Event {
    let at = Stamp::from_micros(seconds * 1_000_000);
    let headers = [("ce-transactionid", transaction)];
    Event::from_message("EVENTS", "events.a", sequence, at, headers, Bytes::new()).unwrap()
}

fn entry(attributes: Attributes) -> Entry {
    Entry {
        registration: "r".into(),
        registered_at: Stamp::from_micros(1_000_000_000),
        from_sequence: 10,
        live_from: 20,
        continues: None,
        after_redelivery: None,
        lacks_to: None,
        attributes,
    }
}

fn at(seconds: i64) -> Option<Stamp> {
    Some(Stamp::from_micros(seconds * 1_000_000))
}

#[test]
fn start_and_end_are_inclusive() {
    let entry = entry(Attributes { datetime_start: at(500), datetime_end: at(2000), ..Attributes::default() });
    for (sequence, seconds, wanted) in
        [(10, 500, true), (10, 499, false), (25, 2000, true), (25, 2001, false), (20, 499, true), (19, 499, false)]
    {
        assert_eq!(entry.asks_for(&event(sequence, seconds, "t"), Start::Counts), wanted, "{sequence} at {seconds}");
    }
}

#[test]
fn a_start_in_the_future_holds_for_events_accepted_after_registration_too() {
    let entry = entry(Attributes { datetime_start: at(3000), ..Attributes::default() });
    assert!(!entry.asks_for(&event(25, 2999, "t"), Start::Counts));
    assert!(entry.asks_for(&event(25, 3000, "t"), Start::Counts));
}

#[test]
fn what_is_owed_is_what_was_asked_for_before_and_is_now() {
    let first = entry(Attributes { transaction_id: Some("t".into()), ..Attributes::default() });
    let now = Entry { registration: "r2".into(), from_sequence: 40, live_from: 40, ..entry(Attributes::default()) };
    let replacing = now.replacing(&first);
    assert_eq!((replacing.line(), replacing.is_live_at(20), replacing.is_live_at(19)), ("r", true, false));
    assert!(replacing.asks_for(&event(39, 1, "t"), Start::Counts));
    assert!(!replacing.asks_for(&event(39, 1, "other"), Start::Counts), "nobody asked for it then");
    assert!(replacing.asks_for(&event(40, 1, "other"), Start::Counts));
    // In the same words again nothing changes.
    let again = Entry { registration: "r3".into(), from_sequence: 50, live_from: 50, ..entry(Attributes::default()) };
    let again = again.replacing(&replacing);
    assert!(
        again.asks_for(&event(45, 1, "other"), Start::Counts) && !again.asks_for(&event(39, 1, "other"), Start::Counts)
    );
}

#[test]
fn an_expiry_that_is_said_again_moves_the_end_alone_and_renews_one_that_is_over() {
    let expiring = |name: &str, accepted: i64, live_from: u64| Entry {
        registration: name.into(),
        registered_at: at(accepted).unwrap(),
        from_sequence: 10,
        live_from,
        ..entry(Attributes { datetime_end: at(accepted + 60), expire_after: Some(60.0), ..Attributes::default() })
    };
    let first = expiring("r", 1000, 20);
    let again = first.said_again(&expiring("r2", 1030, 30));
    assert_eq!(again, Entry { attributes: again.attributes.clone(), ..first.clone() });
    assert_eq!(again.attributes.datetime_end, at(1090));
    let renewed = first.said_again(&expiring("r3", 1070, 40));
    assert_eq!((renewed.registration.as_str(), renewed.line(), renewed.from_sequence), ("r3", "r", 40));
    assert_eq!(renewed.attributes.datetime_end, at(1130));
    // An end in the same words is the same.
    let ended = entry(Attributes { datetime_end: at(1060), ..Attributes::default() });
    assert_eq!(
        ended.said_again(&Entry { registration: "r2".into(), registered_at: at(2000).unwrap(), ..ended.clone() }),
        ended
    );
}

#[test]
fn a_redelivery_of_named_events_holds_them_alone() {
    let named = |only: &[u64]| Redelivery::of_only("r".into(), Stamp::from_micros(0), only.iter().copied().collect());
    assert_eq!(named(&[]), None);
    let redelivery = named(&[7, 3]).unwrap();
    assert_eq!((redelivery.from_sequence, redelivery.to_sequence), (3, 7));
    let held: Vec<u64> = (1..9).filter(|n| redelivery.holds(&event(*n, -5, "t"))).collect();
    assert_eq!(held, [3, 7]);
    let old = r#"{"id":"r","asked_at":"2026-01-31T09:30:00Z","from_sequence":1,"to_sequence":2,"from":"2026-01-31T09:30:00Z","to":null}"#;
    assert_eq!(serde_json::from_str::<Redelivery>(old).unwrap().only, None, "as it was written before");
}

#[test]
fn only_events_of_the_transaction_are_asked_for() {
    let entry = entry(Attributes { transaction_id: Some("t".into()), ..Attributes::default() });
    assert!(entry.asks_for(&event(25, 1, "t"), Start::Counts));
    assert!(!entry.asks_for(&event(25, 1, "other"), Start::Counts));
}

#[test]
fn a_redelivery_of_a_stretch_of_time_holds_what_happened_within_it() {
    let mut redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), [3, 7].into()).unwrap();
    (redelivery.only, redelivery.from, redelivery.to) = (None, at(10).unwrap(), at(20));
    for (sequence, seconds, holds) in
        [(2, 15, false), (3, 9, false), (3, 10, true), (5, 15, true), (7, 20, true), (7, 21, false), (8, 15, false)]
    {
        assert_eq!(redelivery.holds(&event(sequence, seconds, "t")), holds, "{sequence} at {seconds}");
    }
    redelivery.to = None;
    assert!(redelivery.holds(&event(7, 9999, "t")));
}

#[test]
fn an_entry_that_is_new_gets_nothing_of_the_redelivery_that_stood_before_it() {
    let mut subscription = Subscription::new(crate::TargetUrl::parse("http://host/").unwrap());
    let pattern = TypePattern::parse("a").unwrap();
    let new = entry(Attributes::default());
    assert_eq!(subscription.admits(&pattern, &new).after_redelivery, None);
    subscription.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(0), [3].into());
    let admitted = subscription.admits(&pattern, &new);
    assert_eq!(admitted.after_redelivery.as_deref(), Some("r"));
    // One that was there before gets it, also where it is registered again.
    subscription.entries.insert(pattern.clone(), new.clone());
    assert_eq!(subscription.admits(&pattern, &new).after_redelivery, None);
}

#[test]
fn a_replacement_goes_on_with_the_line_where_it_does_not_say_where_it_begins() {
    let first = Entry { registration: "1".into(), from_sequence: 10, live_from: 20, ..entry(Attributes::default()) };
    for (from_sequence, line, begins_with) in [(30, "1", 10), (29, "2", 29)] {
        let again = Entry { registration: "2".into(), from_sequence, live_from: 30, ..first.clone() };
        let again = again.replacing(&first);
        assert_eq!((again.line(), again.begins_with()), (line, begins_with));
    }
    assert_eq!(first.begins_with(), 10);
}

#[test]
fn an_expiry_stays_where_the_same_is_said_without_it() {
    let first = entry(Attributes { expire_after: Some(60.0), ..Attributes::default() });
    let again = first.said_again(&entry(Attributes::default()));
    assert_eq!(again.attributes.expire_after, Some(60.0));
}
