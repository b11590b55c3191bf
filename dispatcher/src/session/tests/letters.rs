//! What becomes of events that were tried as often as was asked for.

use domain::Attributes;
use domain::lane::{Epoch, Failure, Lane, Word};
use serde_json::{Value, json};

use super::super::*;
use super::bench::{Bench, Did, spec, status};

/// A lane whose first event has failed so often.
fn failed(delivery: Value, attempts: u32, letter: Option<&str>) -> Bench {
    let spec = spec(delivery, Attributes::default());
    let mut lane = Lane::reconcile(None, &spec, Epoch::WithoutConsumer("e".into()));
    let letter = letter.map(str::to_owned);
    lane.failed(Failure { sequence: 1, attempts, error: "answered 500".into(), next_attempt: None, letter });
    Bench::with(spec, lane, Reads::Tail, TargetState::default())
}

fn letters(settings: Value) -> Bench {
    Bench::of(settings, Attributes::default(), Reads::Tail)
}

#[test]
fn a_letter_that_is_decided_is_written_whatever_the_settings_say_since() {
    for delivery in [json!({}), json!({"max_attempts": 9, "on_exhausted": "disable"})] {
        let mut bench = failed(delivery, 1, Some("d"));
        assert_eq!(bench.read(1), [Did::Wrote(0, Word::Held)]);
        assert_eq!(bench.tell(Input::Written), [Did::Buried(1, true)]);
        assert_eq!(bench.session.lane().failure().unwrap().letter.as_deref(), Some("d"));
    }
}

#[test]
fn an_event_has_no_more_attempts_than_were_asked_for_though_sessions_change() {
    for (attempts, goes) in [(2, true), (3, false), (4, false)] {
        let mut bench = failed(json!({"max_attempts": 3, "on_exhausted": "hold"}), attempts, None);
        assert_eq!(bench.read(1).contains(&Did::Sent(vec![1])), goes, "{attempts}");
    }
}

#[test]
fn an_event_that_is_held_does_not_go_by_itself() {
    let mut bench = letters(json!({"max_attempts": 1, "on_exhausted": "hold"}));
    bench.read(1);
    bench.land(&[1], status(500));
    assert_eq!(bench.session.lane().failure().unwrap().next_attempt, None);
    bench.tell(Input::Written);
    bench.tell(Input::Written);
    assert!(!bench.wait(60_000).contains(&Did::Sent(vec![1])));
}

#[test]
fn letters_are_written_in_the_logs_order() {
    let mut bench = Bench::concurrent(&[("max_attempts", json!(1)), ("on_exhausted", json!("dead_letter"))]);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    assert_eq!(bench.land(&[2], status(500)), [Did::Wrote(0, Word::Held)]);
    assert_eq!(bench.tell(Input::Written), [], "1 is under way");
    assert!(bench.land(&[1], status(204)).contains(&Did::Wrote(1, Word::Held)));
    assert!(bench.tell(Input::Written).contains(&Did::Buried(2, false)));
}

#[test]
fn a_letter_says_what_the_target_answered_to_this_event() {
    for (answers_meanwhile, code) in [(false, Some(500)), (true, None)] {
        let mut bench = Bench::concurrent(&[("max_attempts", json!(1)), ("on_exhausted", json!("dead_letter"))]);
        (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
        bench.land(&[1], status(500));
        bench.tell(Input::Written);
        if answers_meanwhile {
            bench.land(&[2], status(204));
        }
        bench.session.handle(Input::Written, bench.now);
        let letter = std::iter::from_fn(|| bench.session.next_action()).find_map(|action| match action {
            Action::Bury(letter) => Some(letter),
            _ => None,
        });
        let letter = letter.unwrap();
        assert_eq!((letter.event.sequence, letter.attempts, letter.code), (1, 1, code));
        assert_eq!(letter.error, "answered 500");
    }
}

#[test]
fn a_letter_that_cannot_be_written_is_tried_again_after_longer_and_longer() {
    let mut bench = letters(json!({"max_attempts": 1, "on_exhausted": "dead_letter"}));
    bench.read(1);
    bench.land(&[1], status(500));
    bench.tell(Input::Written);
    bench.tell(Input::Written);
    for millis in [100, 200, 400, 800] {
        bench.tell(Input::NotBuried { jitter: 1.0 });
        assert_eq!(bench.wait(millis - 1), [], "{millis}");
        assert_eq!(bench.wait(1), [Did::Buried(1, true)], "{millis}");
    }
}

#[test]
fn nothing_goes_any_more_when_deliveries_are_switched_off() {
    let settings = [("concurrency", json!(1)), ("max_attempts", json!(1)), ("on_exhausted", json!("disable"))];
    let mut bench = Bench::concurrent(&settings);
    (1..=2).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    assert!(!bench.land(&[1], status(500)).contains(&Did::Sent(vec![2])));
}

#[test]
fn the_failure_that_is_shown_is_of_an_event_that_is_not_taken() {
    let mut bench = Bench::concurrent(&[]);
    (1..=3).for_each(|sequence| drop(bench.read_alone(sequence, 0)));
    bench.land(&[2], status(500));
    bench.tell(Input::Written);
    assert!(bench.wait(100).contains(&Did::Sent(vec![2])));
    bench.land(&[2], status(204));
    bench.land(&[3], status(500));
    assert_eq!(bench.session.lane().failure().map(|failure| failure.sequence), Some(3));
}

#[test]
fn a_batch_that_was_tried_as_often_as_was_asked_for_goes_one_by_one_at_once() {
    let settings = json!({"mode": "batched", "batch_max_events": 2, "max_attempts": 1, "on_exhausted": "hold"});
    let mut bench = letters(settings);
    (1..=2).for_each(|sequence| drop(bench.read(sequence)));
    assert!(bench.land(&[1, 2], status(500)).contains(&Did::Sent(vec![1])));
    assert!(bench.land(&[1], status(204)).contains(&Did::Sent(vec![2])));
}
