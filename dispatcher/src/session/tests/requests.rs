//! What is sent, and what is remembered of it.

use domain::Attributes;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, resume_after, status};
use crate::push::verdict::{Answer, PushOutcome};

#[test]
fn the_last_attempt_says_what_went_wrong_and_nothing_where_nothing_did() {
    let mut bench = Bench::plain();
    bench.read(1);
    let answer = Answer { status: 500, body: "no disk".into(), ..Answer::default() };
    bench.land(&[1], PushOutcome::Answered(answer));
    let last = |bench: &Bench| bench.session.lane().last_attempt.clone().unwrap();
    let failed = last(&bench);
    assert_eq!((failed.sequence, failed.to_sequence, failed.attempt, failed.code), (1, None, 1, Some(500)));
    assert_eq!((failed.answer.as_deref(), failed.duration_ms), (Some("no disk"), 1));
    assert!(failed.error.is_some_and(|error| error.contains("500")));
    bench.tell(Input::Written);
    bench.wait(100);
    let answer = Answer { status: 200, body: "thanks".into(), ..Answer::default() };
    bench.land(&[1], PushOutcome::Answered(answer));
    let taken = last(&bench);
    assert_eq!((taken.attempt, taken.code, taken.error, taken.answer), (2, Some(200), None, None));
}

#[test]
fn the_last_attempt_names_the_first_and_the_last_event_of_a_batch() {
    let settings = json!({"mode": "batched", "batch_max_events": 2});
    let mut bench = Bench::of(settings, Attributes::default(), Reads::Tail);
    bench.read(1);
    bench.read(4);
    bench.land(&[1, 4], status(204));
    let last = bench.session.lane().last_attempt.clone().unwrap();
    assert_eq!((last.sequence, last.to_sequence), (1, Some(4)));
}

#[test]
fn nothing_is_sent_while_the_target_may_be_elsewhere() {
    let mut bench = Bench::concurrent(&[("concurrency", json!(1))]);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    assert_eq!(bench.land(&[1], resume_after(20)), [Did::LookedUpBounds]);
    assert!(!bench.session.wants_message());
    assert!(bench.bounds().contains(&Did::Sent(vec![2])), "it is not: the log does not reach that far");
}

#[test]
fn a_session_whose_dispatcher_may_not_push_ends() {
    let mut bench = Bench::plain();
    bench.read(1);
    let (at, duration) = (bench.now.utc, Duration::from_millis(1));
    let landed = Landed { load: vec![1], attempt: 1, outcome: None, at, duration, jitter: 1.0 };
    assert_eq!(bench.tell(Input::Landed(landed)), [Did::Ended(Leave::End)]);
    assert_eq!((bench.session.lane().position, bench.session.lane().last_attempt.is_none()), (0, true));
}

#[test]
fn a_batch_that_is_too_large_comes_in_smaller_ones_at_once_and_nothing_counts_as_tried() {
    let settings = json!({"mode": "batched", "batch_max_events": 8, "max_attempts": 1, "on_exhausted": "dead_letter"});
    let mut bench = Bench::of(settings, Attributes::default(), Reads::Tail);
    let mut sent = Vec::new();
    (1..=8).for_each(|sequence| sent = bench.read(sequence));
    assert_eq!(sent, [Did::Sent((1..=8).collect())]);
    assert!(bench.land(&(1..=8).collect::<Vec<_>>(), status(413)).contains(&Did::Sent(vec![1, 2, 3, 4])));
    assert!(bench.land(&[1, 2, 3, 4], status(413)).contains(&Did::Sent(vec![1, 2])));
    assert!(bench.land(&[1, 2], status(204)).contains(&Did::Sent(vec![3, 4])));
    assert!(bench.land(&[3, 4], status(204)).contains(&Did::Sent(vec![5, 6])));
    assert!(bench.land(&[5, 6], status(413)).contains(&Did::Sent(vec![5])));
    bench.land(&[5], status(413));
    let mut did = (0..3).flat_map(|_| bench.tell(Input::Written)).collect::<Vec<_>>().into_iter();
    assert!(did.any(|did| did == Did::Buried(5, false)), "alone, it has been tried");
}

#[test]
fn a_batch_has_as_much_data_as_was_asked_for_at_most_and_one_event_at_least() {
    // Each event has two bytes.
    for (most, sent) in [(5, vec![1, 2]), (4, vec![1, 2]), (3, vec![1]), (1, vec![1])] {
        let settings = json!({"mode": "batched", "batch_max_events": 3, "batch_max_bytes": most});
        let mut bench = Bench::of(settings, Attributes::default(), Reads::Tail);
        let did: Vec<Did> = (1..=3).flat_map(|sequence| bench.read(sequence)).collect();
        assert_eq!(did.iter().find(|did| matches!(did, Did::Sent(_))), Some(&Did::Sent(sent)), "{most}");
    }
}
