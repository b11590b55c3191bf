//! Lanes against hand-made and random histories.

use super::gap::{Beginning, Loss};
use super::state::Word;
use super::*;
use crate::attributes::Attributes;
use crate::event::Event;
use crate::required_data::Found;
use crate::subscription::Entry;
use crate::subscription::Redelivery;
use crate::target_url::TargetUrl;
use proptest::prelude::*;

mod changes;
mod cuts;
mod fork;
mod forward;
mod gaps;
mod holes;
mod stops;
mod words;

fn event(sequence: u64, event_type: &str) -> Event {
    let at = Stamp::from_micros(i64::try_from(sequence).unwrap() * 1_000_000);
    Event::from_message("EVENTS", &format!("events.{event_type}"), sequence, at, [], Bytes::new()).unwrap()
}

/// Entries as (pattern, name of the registration, from, live from, count).
fn asked(entries: &[(&str, &str, u64, u64, Option<u64>)]) -> Subscription {
    let mut subscription = Subscription::new(TargetUrl::parse("http://host/").unwrap());
    for (pattern, registration, from_sequence, live_from, count) in entries {
        let entry = Entry {
            registration: (*registration).to_owned(),
            registered_at: Stamp::from_micros(0),
            from_sequence: *from_sequence,
            live_from: *live_from,
            continues: None,
            after_redelivery: None,
            lacks_to: None,
            attributes: Attributes { count: *count, ..Attributes::default() },
        };
        subscription.entries.insert(TypePattern::parse(pattern).unwrap(), entry);
    }
    subscription
}

fn fresh(name: &str) -> Epoch {
    Epoch::Consumer(name.to_owned())
}

fn begins(sequence: u64) -> Beginning {
    Beginning { sequence, stored_at: Some(Stamp::from_micros(i64::try_from(sequence).unwrap() * 1_000_000)) }
}

/// Runs a lane over a log of types from sequence 1, up to and with `until`; answers what it delivered.
fn run(lane: &mut Lane, asked: &Subscription, log: &[&str], until: u64) -> Vec<u64> {
    let mut delivered = Vec::new();
    for (sequence, event_type) in (1..=until).zip(log) {
        let event = event(sequence, event_type);
        if sequence <= lane.position || !lane.filters.iter().any(|filter| filter.matches(&event.event_type)) {
            continue;
        }
        if lane.due(asked, &event, &Found::new()).is_some() {
            lane.delivered(asked, &event, &Found::new());
            delivered.push(sequence);
        } else {
            lane.skipped(asked, &event);
        }
    }
    delivered
}

#[test]
fn a_lane_starts_where_its_first_entry_does() {
    let lane = Lane::reconcile(None, &asked(&[("a", "1", 7, 7, None), ("b", "2", 3, 9, None)]), fresh("e1"));
    assert_eq!((lane.position, lane.epoch.to_string().as_str(), lane.state.word()), (2, "e1", Word::Active));
    assert_eq!(lane.filters.len(), 2);
    assert_eq!(lane.live_from(&asked(&[("a", "1", 7, 7, None), ("b", "2", 3, 9, None)])), 9);
}

#[test]
fn a_live_entry_is_not_lost_though_the_lane_has_gone_past_its_start() {
    let log = ["a", "a", "b", "a", "b"];
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    assert_eq!(run(&mut lane, &before, &log, 4), [1, 2, 4]);
    let after = asked(&[("a", "1", 1, 1, None), ("b", "2", 3, 3, None)]);
    let mut lane = Lane::reconcile(Some(&lane), &after, fresh("e2"));
    assert_eq!(run(&mut lane, &after, &log, 5), [3, 5]);
}

#[test]
fn a_replay_brings_a_part_of_the_log_again_and_then_goes_on_where_it_was() {
    let log = ["a", "b", "a", "b", "a", "a"];
    let mut one = asked(&[("a", "1", 1, 1, Some(5))]);
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    assert_eq!(run(&mut lane, &one, &log, 5), [1, 3, 5]);
    let at = |seconds: i64| Stamp::from_micros(seconds * 1_000_000);
    let replay = Redelivery {
        id: "r".into(),
        asked_at: at(9),
        from_sequence: 2,
        to_sequence: 5,
        from: at(2),
        to: Some(at(4)),
        only: None,
    };
    one.redelivery = Some(replay);
    let mut lane = Lane::reconcile(Some(&lane), &one, fresh("e2"));
    assert_eq!((lane.position, lane.epoch.to_string().as_str()), (1, "e2"));
    assert!(lane.due(&one, &event(3, "a"), &Found::new()).unwrap().is_of_the_past());
    assert_eq!(run(&mut lane, &one, &log, 6), [3, 6]);
    assert_eq!(lane.entries.values().next().unwrap().delivered, 4, "what is replayed is not counted again");
    assert_eq!(
        Lane::reconcile(Some(&lane), &one, fresh("e3")).position,
        6,
        "and the same replay is not taken up twice"
    );
    // Nor does a later move back repeat it.
    let mut both = asked(&[("a", "1", 1, 1, Some(5)), ("b", "2", 1, 7, None)]);
    both.redelivery.clone_from(&one.redelivery);
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e4"));
    assert_eq!(run(&mut lane, &both, &log, 6), [2, 4]);
}

#[test]
fn a_replay_of_named_events_brings_them_alone() {
    let log = ["a"; 6];
    let mut one = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    assert_eq!(run(&mut lane, &one, &log, 5).len(), 5);
    one.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [2, 4].into());
    let mut lane = Lane::reconcile(Some(&lane), &one, fresh("e2"));
    assert_eq!(run(&mut lane, &one, &log, 6), [2, 4, 6]);
}

#[test]
fn what_was_delivered_early_is_known_until_the_lane_is_there_or_goes_back() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    for sequence in [2, 4, 5] {
        lane.delivered_early(&event(sequence, "a"));
    }
    run(&mut lane, &before, &["a", "a", "a"], 2);
    lane.delivered_early(&event(1, "a"));
    assert_eq!(lane.had, BTreeSet::from([4, 5]), "beyond the position alone");
    assert_eq!(Lane::reconcile(Some(&lane), &before, fresh("e2")).had, BTreeSet::from([4, 5]));
    let again = asked(&[("a", "2", 1, 6, None)]);
    let anew = Lane::reconcile(Some(&lane), &again, fresh("e3"));
    assert!(!anew.has_taken(&again, &event(4, "a")), "the past is wanted again");
    assert!(anew.due(&again, &event(4, "a"), &Found::new()).is_some());
    // Row 13 of the faults found by reading: the past of another type repeats nothing of this one.
    let with_b = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 6, None)]);
    let with_past = Lane::reconcile(Some(&lane), &with_b, fresh("e3"));
    assert_eq!(with_past.position, 0);
    assert!([4, 5].iter().all(|early| with_past.has_taken(&with_b, &event(*early, "a"))));
    // A redelivery of one event repeats that one alone.
    let mut redelivered = before.clone();
    redelivered.redelivery = Redelivery::of_only("r".into(), Stamp::from_micros(9), [4].into());
    assert_eq!(Lane::reconcile(Some(&lane), &redelivered, fresh("e3")).had, BTreeSet::from([5]));
    lane.resume_after(2, "e4");
    assert_eq!(lane.had, BTreeSet::new(), "the target says that it has nothing more");
}

#[test]
fn a_dead_letter_is_counted_and_the_next_event_goes() {
    let both = asked(&[("a", "1", 1, 1, Some(2)), ("b", "2", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &both, fresh("e1"));
    assert_eq!(run(&mut lane, &both, &["a"], 1), [1]);
    let letter = Some("d".to_owned());
    lane.failed(Failure { sequence: 2, attempts: 3, error: "answered 500".into(), next_attempt: None, letter });
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    assert_eq!(lane.failure().unwrap().letter.as_deref(), Some("d"), "what is decided stays decided");
    lane.dead_lettered(&both, &event(2, "a"), &Found::new());
    assert_eq!((lane.position, lane.last_delivered, lane.state.word()), (2, 1, Word::Active));
    assert_eq!(lane.failure(), None);
    let of = |lane: &Lane, pattern: &str| lane.entries[&TypePattern::parse(pattern).unwrap()].clone();
    assert_eq!((of(&lane, "a").dead_lettered, of(&lane, "b").dead_lettered), (1, 0));
    assert_eq!((of(&lane, "a").delivered, of(&lane, "a").completed), (1, false), "it is no delivery");
    assert!(lane.due(&both, &event(2, "a"), &Found::new()).is_none());
}

#[test]
fn a_replay_that_a_crash_interrupted_goes_on_from_what_was_acknowledged() {
    let log = ["a"; 9];
    let mut one = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    assert_eq!(run(&mut lane, &one, &log, 8).len(), 8);
    let at = Stamp::from_micros(0);
    one.redelivery = Some(Redelivery {
        id: "r".into(),
        asked_at: at,
        from_sequence: 2,
        to_sequence: 8,
        from: at,
        to: None,
        only: None,
    });
    let mut written = Lane::reconcile(Some(&lane), &one, fresh("e2"));
    assert_eq!(written.position, 1);
    // 2 to 5 were delivered and acknowledged, and the dispatcher was killed before it wrote that.
    written.adopt_floor(5, Some(Mark::of(&event(5, "a"))));
    let mut lane = Lane::reconcile(Some(&written), &one, fresh("e3"));
    assert_eq!((lane.position, lane.epoch.to_string().as_str()), (5, "e2"));
    assert_eq!(run(&mut lane, &one, &log, 9), [6, 7, 8, 9]);
}

#[test]
fn wider_words_reach_back_to_where_they_were_said() {
    let before = {
        let mut asked = asked(&[("a", "1", 1, 1, None)]);
        asked.entries.values_mut().next().unwrap().attributes.transaction_id = Some("t".into());
        asked
    };
    let of = |sequence: u64, transaction: &str| {
        let at = Stamp::from_micros(i64::try_from(sequence).unwrap());
        let headers = [("ce-transactionid", transaction)];
        Event::from_message("EVENTS", "events.a", sequence, at, headers, Bytes::new()).unwrap()
    };
    let none = Found::new();
    let mut lane = Lane::reconcile(None, &before, fresh("e1"));
    lane.delivered(&before, &of(4, "t"), &none);
    // Said when the log ended with 5; before the lane hears of it, it goes on by the earlier words.
    let mut wider = asked(&[("a", "2", 6, 6, None)]);
    let entry = wider.entries.values_mut().next().unwrap();
    *entry = entry.clone().replacing(before.entries.values().next().unwrap());
    lane.delivered(&before, &of(6, "t"), &none);
    lane.passed_over(7);
    let lane = Lane::reconcile(Some(&lane), &wider, fresh("e2"));
    assert_eq!((lane.position, lane.epoch.to_string().as_str()), (5, "e2"));
    assert!(lane.due(&wider, &of(6, "t"), &none).is_none(), "it has had it");
    assert!(lane.due(&wider, &of(7, "other"), &none).is_some(), "the new words ask for it");
    assert!(lane.due(&wider, &of(8, "t"), &none).is_some());
}

#[test]
fn registering_anew_with_a_start_that_is_left_ends_a_gap_for_what_is_registered() {
    let now = Stamp::from_micros(9);
    let both = asked(&[("a", "1", 1, 1, None), ("b", "2", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &both, fresh("e1"));
    lane.take_in_beginning(&both, begins(9), now);
    let one_anew = asked(&[("a", "3", 9, 12, None), ("b", "2", 1, 1, None)]);
    assert_eq!(
        Lane::reconcile(Some(&lane), &one_anew, fresh("e2")).state.word(),
        Word::Gap,
        "the other one still lacks it"
    );
    let both_anew = asked(&[("a", "3", 9, 12, None), ("b", "4", 10, 12, None)]);
    let anew = Lane::reconcile(Some(&lane), &both_anew, fresh("e2"));
    assert_eq!((anew.state.word(), anew.position), (Word::Active, 8));
}

#[test]
fn a_paused_lane_stays_where_it_is() {
    let mut one = asked(&[("a", "1", 1, 1, None)]);
    let lane = Lane::reconcile(None, &one, fresh("e1"));
    one.paused = true;
    let paused = Lane::reconcile(Some(&lane), &one, fresh("e2"));
    assert_eq!((paused.state.word(), paused.position, paused.epoch.to_string().as_str()), (Word::Paused, 0, "e1"));
}

#[test]
fn a_count_must_be_written_and_completes_the_entry() {
    let both = asked(&[("a", "1", 1, 1, Some(2)), (">", "2", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &both, fresh("e1"));
    assert!(lane.delivered(&both, &event(1, "a"), &Found::new()));
    assert!(!lane.delivered(&both, &event(2, "b"), &Found::new()));
    assert!(lane.delivered(&both, &event(3, "a"), &Found::new()));
    assert!(lane.entries.values().next_back().unwrap().completed);
    assert!(!lane.delivered(&both, &event(4, "a"), &Found::new()));
}

#[test]
fn an_event_that_several_entries_want_is_due_once_and_live_if_it_is_for_one() {
    let both = asked(&[("a", "1", 1, 5, None), ("*", "2", 1, 3, None)]);
    let lane = Lane::reconcile(None, &both, fresh("e1"));
    assert_eq!(lane.due(&both, &event(2, "a"), &Found::new()).map(|due| due.is_replay), Some(true));
    assert_eq!(lane.due(&both, &event(4, "a"), &Found::new()).map(|due| due.is_replay), Some(false));
    assert_eq!(lane.due(&both, &event(4, "b.c"), &Found::new()), None);
}

#[test]
fn what_is_required_is_filled_in_or_the_event_is_skipped_for_who_requires_it() {
    let mut both = asked(&[("a", "1", 1, 1, None), ("*", "2", 1, 1, None)]);
    let requiring = both.entries.get_mut(&TypePattern::parse("a").unwrap()).unwrap();
    requiring.attributes.required_data = vec!["k".into(), "l".into()];
    requiring.attributes.listener_data = Some(Value::from(7));
    requiring.attributes.priority = 3.0;
    let at = Stamp::from_micros(0);
    let event = |sequence, data: &'static str| {
        Event::from_message("EVENTS", "events.a", sequence, at, [], Bytes::from(data)).unwrap()
    };
    let mut lane = Lane::reconcile(None, &both, fresh("e1"));
    let first = event(1, r#"{"l":0}"#);
    assert_eq!(lane.lacks(&both, &first), BTreeSet::from(["k".to_owned()]));

    // Not found: the other entry gets it as it is.
    let due = lane.due(&both, &first, &Found::new()).unwrap();
    assert_eq!((due.priority, due.listener_data, &due.data[..]), (100.0, None, &br#"{"l":0}"#[..]));
    lane.delivered(&both, &first, &Found::new());
    let progress = |lane: &Lane| lane.entries.values().map(|p| (p.delivered, p.skipped)).collect::<Vec<_>>();
    assert_eq!(progress(&lane), [(1, 0), (0, 1)]);

    // Found: filled in.
    let found = Found::from([("k".to_owned(), "[1]".to_owned())]);
    let due = lane.due(&both, &event(2, r#"{"l":0}"#), &found).unwrap();
    assert_eq!((due.priority, due.listener_data), (3.0, Some(Value::from(7))));
    assert_eq!(&due.data[..], br#"{"l":0,"k":[1]}"#);

    // Alone, and not found: not due at all.
    both.entries.remove(&TypePattern::parse("*").unwrap());
    let mut lane = Lane::reconcile(None, &both, fresh("e2"));
    assert_eq!(lane.due(&both, &first, &Found::new()), None);
    lane.skipped(&both, &first);
    assert_eq!((progress(&lane), lane.position), (vec![(0, 1)], 1));
}

#[test]
fn a_redelivery_at_or_below_the_position_is_not_due() {
    let one = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    lane.delivered(&one, &event(4, "a"), &Found::new());
    assert_eq!(lane.due(&one, &event(4, "a"), &Found::new()), None);
    assert_eq!(lane.due(&one, &event(3, "a"), &Found::new()), None);
    assert!(lane.due(&one, &event(5, "a"), &Found::new()).is_some());
}

#[test]
fn a_log_that_was_rolled_back_is_followed() {
    let one = asked(&[("a", "1", 9, 9, None)]);
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    lane.delivered(&one, &event(9, "a"), &Found::new());
    assert!(!lane.follow_log_back(9, "e2"));
    assert!(lane.follow_log_back(4, "e2"));
    assert_eq!(lane.epoch, fresh("e2"));
    assert!(lane.due(&one, &event(5, "a"), &Found::new()).is_some());
}

#[test]
fn an_end_that_is_over_completes_its_entry() {
    let mut one = asked(&[("a", "1", 1, 1, None)]);
    for entry in one.entries.values_mut() {
        entry.attributes.datetime_end = Some(Stamp::from_micros(10_000_000));
    }
    let mut lane = Lane::reconcile(None, &one, fresh("e1"));
    let over = lane.next_over(&one).unwrap();
    assert!(!lane.complete_over(&one, 5, over));
    assert!(lane.complete_over(&one, 5, over.plus_micros(1)));
    assert!(!lane.complete_over(&one, 5, over.plus_micros(1)));
    assert_eq!(lane.next_over(&one), None);
    assert_eq!(Lane::reconcile(Some(&lane), &one, fresh("e2")).state.word(), Word::Completed);
}

/// The same spec with an entry replaced by another registration of the pair, without a past start.
fn replaced(earlier: &Subscription, pattern: &str, name: &str, from: u64, attributes: Attributes) -> Subscription {
    let mut spec = earlier.clone();
    let pattern = TypePattern::parse(pattern).unwrap();
    let before = &earlier.entries[&pattern];
    let entry = Entry {
        registration: name.to_owned(),
        registered_at: Stamp::from_micros(0),
        from_sequence: from,
        live_from: from,
        continues: None,
        after_redelivery: None,
        lacks_to: None,
        attributes,
    };
    spec.entries.insert(pattern, entry.replacing(before));
    spec
}

proptest! {
    /// However registrations and deliveries alternate, and however late the lane hears of a registration, each line
    /// of registrations gets exactly the events it is owed, from its start on, each once; and what is delivered
    /// between two changes is in the log's order.
    #[test]
    fn every_registration_gets_each_of_its_events_exactly_once(
        log in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 64),
        steps in prop::collection::vec(
            (0usize..3, prop::option::of(1u64..61), 1u64..10, 0u64..=100, any::<bool>(), 0u64..=100), 1..8,
        ),
    ) {
        let patterns = ["a", "b", "c"];
        let mut asked = asked(&[]);
        // The lane, and what it has heard of.
        let mut lane: Option<(Lane, Subscription)> = None;
        let mut accepted = 0;
        // Where each line begins, and what it has had.
        let mut lines: BTreeMap<String, (&str, u64)> = BTreeMap::new();
        let mut had: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut deliver = |(lane, asked): &mut (Lane, Subscription), until: u64| {
            let delivered = run(lane, asked, &log, until);
            for sequence in &delivered {
                let event_type = TypePattern::parse(log[usize::try_from(*sequence).unwrap() - 1]).unwrap();
                had.entry(asked.entries[&event_type].line().to_owned()).or_default().push(*sequence);
            }
            delivered.is_sorted()
        };
        let steps = steps.into_iter().map(Some).chain([None]);
        for (number, step) in steps.enumerate() {
            let (hears, before, after) = if let Some((which, past, more, before, hears, after)) = step {
                let pattern = TypePattern::parse(patterns[which]).unwrap();
                let live_from = accepted + 1;
                let entry = Entry {
                    registration: format!("r{number}"),
                    registered_at: Stamp::from_micros(0),
                    from_sequence: past.map_or(live_from, |past| past.min(live_from)),
                    live_from,
                    continues: None,
            after_redelivery: None,
            lacks_to: None,
                    attributes: Attributes::default(),
                };
                let entry = match asked.entries.get(&pattern) {
                    Some(earlier) => entry.replacing(earlier),
                    None => entry,
                };
                lines.entry(entry.line().to_owned()).or_insert((patterns[which], entry.from_sequence));
                // A line that is replaced from the past ends here.
                if let Some(earlier) = asked.entries.insert(pattern, entry.clone()) && earlier.line() != entry.line() {
                    lines.remove(earlier.line());
                }
                accepted += more;
                (hears, before, after)
            } else {
                (true, 0, 100)
            };
            if let Some(lane) = &mut lane {
                prop_assert!(deliver(lane, accepted * before / 100));
            }
            if hears {
                let now = Lane::reconcile(lane.as_ref().map(|(lane, _)| lane), &asked, fresh(&format!("e{number}")));
                let now = lane.insert((now, asked.clone()));
                prop_assert!(deliver(now, accepted * after / 100));
            }
        }
        for (line, (pattern, from)) in &lines {
            let expected: Vec<u64> =
                (*from..=accepted).filter(|s| log[usize::try_from(*s).unwrap() - 1] == *pattern).collect();
            let mut got = had.remove(line).unwrap_or_default();
            got.sort_unstable();
            prop_assert_eq!(got, expected);
        }
    }
}
