//! A log that becomes another one.

use std::collections::BTreeMap;

use super::*;
use crate::delivery_settings::OnFork;
use crate::lane::fork::{FoundLog, Standing};
use crate::log_epoch::{self, Evidence, LogEpoch, LogRecord, Mark};

/// An event of another log, at the same place.
fn another(sequence: u64, event_type: &str) -> Event {
    Event { stored_at: Stamp::from_micros(1), ..event(sequence, event_type) }
}

fn epoch(number: u32) -> LogEpoch {
    LogEpoch::of(number)
}

/// The record of a log that has forked behind these places, one after the other.
fn record(forks: &[u64]) -> LogRecord {
    let at = Stamp::from_micros(0);
    let mut record = LogRecord::begin(epoch(0), at);
    for (number, shared_to) in (1..).zip(forks) {
        let from_sequence = shared_to + 1;
        record.declare(log_epoch::Epoch {
            epoch: epoch(number),
            from_sequence,
            at,
            reason: String::new(),
            is_fork: true,
        });
    }
    record
}

/// A log from 1 to `last` that is another one behind `fork`, as a look at these marks finds it.
fn log(last: u64, fork: u64, marks: &[u64]) -> Evidence {
    let found = marks.iter().filter(|sequence| **sequence <= last).map(|sequence| {
        let event = if *sequence <= fork { event(*sequence, "a") } else { another(*sequence, "a") };
        (*sequence, Some(Mark::of(&event)))
    });
    Evidence { first_sequence: 1, last_sequence: last, found: BTreeMap::from_iter(found) }
}

/// A lane that has had all up to a place of the first log.
fn lane_at(asked: &Subscription, position: u64) -> Lane {
    let mut lane = Lane { log_epoch: Some(epoch(0)), ..Lane::reconcile(None, asked, fresh("e1")) };
    for sequence in 1..=position {
        lane.delivered(asked, &event(sequence, "a"), &Found::new());
    }
    lane
}

fn found(epoch: &LogEpoch, shared_to: u64) -> FoundLog<'_> {
    FoundLog { epoch: Some(epoch), shared_to, at: Stamp::from_micros(9) }
}

#[test]
fn how_a_lane_stands_to_a_log() {
    let lane = lane_at(&asked(&[("a", "1", 1, 1, None)]), 20);
    let mark = lane.mark.clone().unwrap();
    assert_eq!(mark, Mark::of(&event(20, "a")));
    let (shares_to, news) = (Standing::SharesTo, || Standing::IsNews(mark.clone()));
    for (what, record, evidence, expected) in [
        ("it goes on", record(&[]), log(25, 25, &[20]), shares_to(25)),
        ("its end was lost, and nobody has said so", record(&[]), log(19, 19, &[20]), news()),
        ("it has grown again since", record(&[]), log(25, 19, &[20]), news()),
        ("the fork was declared", record(&[15]), log(25, 19, &[20]), shares_to(15)),
        ("it was declared, and the log ends before it", record(&[15]), log(12, 12, &[20]), shares_to(12)),
        ("it was declared, and lies behind the lane", record(&[22]), log(25, 22, &[20]), shares_to(22)),
        (
            "the event is there, and those before it may not have been had",
            record(&[15]),
            log(25, 22, &[20]),
            shares_to(15),
        ),
        ("what was said to be shared is not", record(&[22]), log(25, 19, &[20]), news()),
        ("another fork further back", record(&[15, 18, 7]), log(25, 7, &[20]), shares_to(7)),
        ("its place was removed", record(&[]), Evidence { first_sequence: 21, ..log(25, 25, &[]) }, shares_to(25)),
        ("its place is a hole", record(&[]), log(25, 25, &[]), shares_to(25)),
        ("its place is a hole, and the log has forked", record(&[15]), log(25, 25, &[]), shares_to(15)),
    ] {
        assert_eq!(lane.stands(Some(&record), &evidence), expected, "{what}");
    }
    assert_eq!(lane.stands(None, &log(15, 3, &[20])), shares_to(15), "without names only the end tells");
    let stranger = Lane { log_epoch: Some(epoch(99)), ..lane.clone() };
    assert_eq!(stranger.stands(Some(&record(&[])), &log(25, 25, &[20])), shares_to(20), "by its event");
    assert_eq!(
        stranger.stands(Some(&record(&[])), &log(25, 19, &[20])),
        shares_to(0),
        "a duplicate is better than a hole"
    );
    let old = Lane { log_epoch: None, mark: None, ..lane };
    assert_eq!(old.stands(Some(&record(&[])), &log(25, 19, &[])), shares_to(25), "what an earlier build wrote");
}

#[test]
fn a_lane_goes_back_to_what_both_logs_share_and_wants_what_lies_behind() {
    let spec = asked(&[("a", "1", 1, 1, None), ("b", "2", 18, 18, None)]);
    let mut lane = lane_at(&spec, 20);
    lane.is_clear_to(30);
    assert_eq!(lane.follow_log(&spec, found(&epoch(1), 15), "e2"), Some(20));
    assert_eq!((lane.position, lane.clear_to, lane.last_delivered), (15, 15, 15));
    assert_eq!((lane.log_epoch.clone(), lane.epoch.clone(), lane.mark.clone()), (Some(epoch(1)), fresh("e2"), None));
    assert_eq!(lane.state, State::Active);
    for of in ["a", "b"] {
        assert!(lane.due(&spec, &another(16, of), &Found::new()).is_some(), "{of}");
    }
    // One that is not further than the fork goes on where it is.
    let mut behind = lane_at(&spec, 15);
    behind.is_clear_to(30);
    assert_eq!(behind.follow_log(&spec, found(&epoch(1), 15), "e2"), None);
    assert_eq!((behind.position, behind.clear_to, behind.epoch.clone()), (15, 15, fresh("e1")));
    assert!(behind.due(&spec, &another(16, "b"), &Found::new()).is_some(), "it was registered in the log of before");
}

#[test]
fn a_lane_that_goes_on_while_no_name_is_known_is_still_of_the_log_that_it_knew() {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = lane_at(&spec, 20);
    // The log forked behind 15 and has grown to 25; the bucket of names does not answer.
    let nameless = FoundLog { epoch: None, shared_to: 25, at: Stamp::from_micros(9) };
    assert_eq!(lane.follow_log(&spec, nameless, "e2"), None);
    lane.delivered(&spec, &another(21, "a"), &Found::new());
    // It answers, and the fork is declared: the newest event is in the log, and 16 to 20 are not had.
    let mut evidence = log(25, 15, &[]);
    evidence.found.insert(21, Some(Mark::of(&another(21, "a"))));
    assert_eq!(lane.stands(Some(&record(&[15])), &evidence), Standing::SharesTo(15));
    assert_eq!(lane.follow_log(&spec, found(&epoch(1), 15), "e3"), Some(21));
    assert!(lane.due(&spec, &another(16, "a"), &Found::new()).is_some());
}

#[test]
fn what_was_taken_early_in_the_log_of_before_is_not_taken_in_this_one() {
    let spec = asked(&[("a", "1", 1, 1, None)]);
    let mut lane = lane_at(&spec, 4);
    for sequence in [6, 9] {
        lane.delivered_early(&event(sequence, "a"));
    }
    let standing = lane.stands(Some(&record(&[])), &log(25, 7, &[9]));
    assert!(matches!(standing, Standing::IsNews(mark) if mark.sequence == 9));
    assert_eq!(lane.follow_log(&spec, found(&epoch(1), 7), "e2"), Some(9));
    assert_eq!((lane.position, lane.had.iter().copied().collect::<Vec<_>>()), (4, vec![6]));
    assert!(lane.has_taken(&spec, &event(6, "a")) && !lane.has_taken(&spec, &another(9, "a")));
    assert_eq!(lane.mark, None);
}

#[test]
fn what_a_lane_had_before_it_went_back_for_another_type_is_not_had_in_another_log() {
    let before = asked(&[("a", "1", 1, 1, None)]);
    let lane = lane_at(&before, 20);
    let both = asked(&[("a", "1", 1, 1, None), ("b", "2", 3, 21, None)]);
    let mut lane = Lane::reconcile(Some(&lane), &both, fresh("e2"));
    lane.delivered(&both, &event(3, "b"), &Found::new());
    assert_eq!((lane.position, lane.due(&both, &event(20, "a"), &Found::new())), (3, None));
    let standing = lane.stands(Some(&record(&[])), &log(25, 18, &[20]));
    assert!(matches!(standing, Standing::IsNews(mark) if mark.sequence == 20));
    assert_eq!(lane.follow_log(&both, found(&epoch(1), 17), "e3"), Some(20));
    assert_eq!((lane.position, lane.mark.clone()), (3, None));
    assert_eq!(lane.due(&both, &event(17, "a"), &Found::new()), None, "both logs have it");
    assert!(lane.due(&both, &another(18, "a"), &Found::new()).is_some());
}

#[test]
fn one_that_is_to_wait_waits_until_it_is_resumed() {
    let mut spec = asked(&[("a", "1", 1, 1, None)]);
    spec.delivery.on_fork = OnFork::Wait;
    let mut lane = lane_at(&spec, 20);
    lane.follow_log(&spec, found(&epoch(1), 15), "e2");
    let fork = lane.state.fork().unwrap().clone();
    assert_eq!((fork.shared_to, fork.was_at, lane.position, lane.state.word()), (15, 20, 15, Word::Forked));
    // It forks again while it waits: what was noticed first stays.
    lane.follow_log(&spec, found(&epoch(2), 12), "e3");
    let fork = lane.state.fork().unwrap().clone();
    assert_eq!((fork.shared_to, fork.was_at, fork.epoch.clone(), lane.position), (12, 20, epoch(2), 12));
    // Over a restart, and while it is paused.
    let lane: Lane = serde_json::from_slice(&serde_json::to_vec(&lane).unwrap()).unwrap();
    assert_eq!(Lane::reconcile(Some(&lane), &spec, fresh("e4")).state.word(), Word::Forked);
    spec.paused = true;
    let paused = Lane::reconcile(Some(&lane), &spec, fresh("e4"));
    assert_eq!((paused.state.word(), paused.state.fork()), (Word::Paused, Some(&fork)));
    let resumed = Subscription { paused: false, resumption: Some("r".into()), ..spec.clone() };
    let lane = Lane::reconcile(Some(&paused), &resumed, fresh("e4"));
    assert_eq!((lane.state.word(), lane.position), (Word::Active, 12));
    assert!(lane.due(&resumed, &another(13, "a"), &Found::new()).is_some());
}
