//! The rules of delivery, one by one: each a short history, and what it leads to.

use std::sync::Arc;

use bytes::Bytes;
use domain::lane::{Epoch, Failure, Lane, Word};
use domain::{Attributes, Event, Stamp};
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, resume_after, spec, status};
use crate::push::verdict::{Answer, PushOutcome};

#[test]
fn an_event_goes_when_the_one_before_it_is_taken() {
    let mut bench = Bench::plain();
    assert!(bench.session.wants_message());
    assert_eq!(bench.read(1), [Did::Sent(vec![1])]);
    assert!(!bench.session.wants_message(), "one at a time");
    assert_eq!(bench.land(&[1], status(204)), []);
    assert_eq!((bench.session.lane().position, bench.session.wants_message()), (1, true));
}

#[test]
fn what_was_taken_is_acknowledged_after_32_events_or_10_milliseconds_or_where_nothing_waits() {
    let mut bench = Bench::plain();
    for sequence in 1..32 {
        assert_eq!(bench.read(sequence), [Did::Sent(vec![sequence])]);
        assert_eq!(bench.land(&[sequence], status(204)), [], "{sequence}");
    }
    assert_eq!(bench.read(32), [Did::Sent(vec![32])]);
    assert_eq!(bench.land(&[32], status(204)), [Did::Acknowledged(32)]);
    bench.deliver(33);
    assert_eq!(bench.wait(9), []);
    assert_eq!(bench.wait(1), [Did::Acknowledged(33)]);
    bench.read_of("a", 34, 0);
    assert!(bench.land(&[34], status(204)).contains(&Did::Acknowledged(34)), "nothing waits behind it");
}

#[test]
fn what_comes_behind_without_being_wanted_holds_up_no_acknowledgement() {
    let mut bench = Bench::plain();
    bench.deliver(1);
    assert_eq!(bench.read_of("b", 2, 0), [], "it is not wanted, and is not acknowledged by itself");
    assert_eq!(bench.wait(10), [Did::Acknowledged(1)]);
}

#[test]
fn what_was_passed_over_is_acknowledged_behind_the_write_of_the_position() {
    let mut bench = Bench::plain();
    for sequence in 1..=3 {
        assert_eq!(bench.read_of("b", sequence, 5), []);
    }
    assert_eq!(bench.wait(5_000), [Did::Wrote(3, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(3)]);
}

#[test]
fn a_count_is_written_before_the_next_event_goes_and_before_it_is_acknowledged() {
    let mut bench = Bench::of(json!({}), Attributes { count: Some(2), ..Attributes::default() }, Reads::Consumer);
    assert_eq!(bench.read(1), [Did::Sent(vec![1])]);
    assert_eq!(bench.land(&[1], status(204)), [Did::Wrote(1, Word::Active)]);
    assert_eq!(bench.read(2), [], "not before the count is written");
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(1), Did::Sent(vec![2])]);
    assert_eq!(bench.land(&[2], status(204)), [Did::Wrote(2, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(2), Did::Ended(Leave::SetUp)], "it has had all");
}

#[test]
fn a_failure_is_tried_again_after_the_back_off_and_written_once_a_second() {
    let mut bench = Bench::plain();
    bench.read(1);
    assert_eq!(bench.land(&[1], status(500)), [Did::Wrote(0, Word::Held)]);
    bench.tell(Input::Written);
    assert_eq!(bench.wait(99), []);
    assert_eq!(bench.wait(1), [Did::Sent(vec![1])]);
    assert_eq!(bench.land(&[1], status(404)), [], "it was written within the last second");
    assert_eq!(bench.wait(199), []);
    assert_eq!(bench.wait(1), [Did::Sent(vec![1])]);
    assert_eq!(bench.land(&[1], status(200)), [Did::Wrote(1, Word::Active)], "it is held no more");
}

#[test]
fn a_retry_after_is_honoured() {
    let mut bench = Bench::plain();
    bench.read(1);
    let answer = Answer { status: 429, retry_after: Some("7".into()), ..Answer::default() };
    bench.land(&[1], PushOutcome::Answered(answer));
    bench.tell(Input::Written);
    assert!(!bench.wait(6_999).contains(&Did::Sent(vec![1])));
    assert!(bench.wait(1).contains(&Did::Sent(vec![1])));
}

#[test]
fn a_dead_letter_is_named_written_and_passed_in_this_order() {
    let settings = json!({"max_attempts": 1, "on_exhausted": "dead_letter"});
    let mut bench = Bench::of(settings, Attributes::default(), Reads::Consumer);
    bench.read(1);
    assert_eq!(bench.land(&[1], status(500)), [Did::Wrote(0, Word::Held)]);
    // The name came after that write began: it is written by the next.
    assert_eq!(bench.tell(Input::Written), [Did::Wrote(0, Word::Held)]);
    let name = |bench: &Bench| bench.session.lane().failure().unwrap().letter.clone();
    let named = name(&bench);
    assert!(named.is_some());
    assert_eq!(bench.tell(Input::Written), [Did::Buried(1, false)]);
    assert_eq!(bench.tell(Input::NotBuried { jitter: 1.0 }), []);
    assert_eq!(bench.wait(100), [Did::Buried(1, true)], "nobody knows whether it is there");
    assert_eq!(name(&bench), named);
    assert_eq!(bench.tell(Input::Buried), [Did::Wrote(1, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(1)], "behind the write");
    assert_eq!(bench.session.lane().last_delivered, 0, "it was not delivered");
}

#[test]
fn what_comes_behind_a_dead_letter_names_what_was_delivered_before() {
    let settings = json!({"mode": "batched", "batch_max_events": 2, "max_attempts": 1, "on_exhausted": "dead_letter"});
    let mut bench = Bench::of(settings, Attributes::default(), Reads::Consumer);
    assert_eq!(bench.read(1), []);
    assert_eq!(bench.read(2), [Did::Sent(vec![1, 2])]);
    let previous = |bench: &Bench, load: &[u64]| {
        let items = bench.session.window().items(load, bench.session.lane().last_delivered);
        items.iter().map(|(_, _, previous)| *previous).collect::<Vec<_>>()
    };
    assert_eq!(previous(&bench, &[1, 2]), [0, 1]);
    bench.land(&[1, 2], status(500));
    bench.tell(Input::Written);
    bench.land(&[1], status(500));
    bench.tell(Input::Written);
    bench.tell(Input::Written);
    bench.tell(Input::Buried);
    assert_eq!(previous(&bench, &[2]), [0], "1 was not delivered");
}

#[test]
fn disabled_and_gone_are_written_before_the_session_ends() {
    for (settings, answer, word) in
        [(json!({"max_attempts": 1, "on_exhausted": "disable"}), 500, Word::Paused), (json!({}), 410, Word::Gone)]
    {
        let mut bench = Bench::of(settings, Attributes::default(), Reads::Consumer);
        bench.read(1);
        let mut did = bench.land(&[1], status(answer));
        for _ in 0..2 {
            did.extend(bench.tell(Input::Written));
        }
        assert_eq!(did.last(), Some(&Did::Ended(Leave::SetUp)));
        assert!(did.contains(&Did::Wrote(0, word)), "{did:?}");
        assert!(!did.contains(&Did::Acknowledged(1)));
    }
}

#[test]
fn a_target_that_says_where_it_is_is_followed_there_and_not_beyond_the_logs_end() {
    let mut bench = Bench::plain();
    (1..=4).for_each(|sequence| bench.deliver(sequence));
    bench.read(5);
    assert_eq!(bench.land(&[5], resume_after(2)), [Did::LookedUpBounds]);
    let did = bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 });
    assert_eq!(did, [Did::Wrote(2, Word::Active)]);
    assert_eq!(
        bench.tell(Input::Written),
        [Did::Ended(Leave::SetUp)],
        "nothing of what it took before is acknowledged under the new epoch"
    );
    let (lane, _) = bench.session.into_parts();
    assert_eq!((lane.position, lane.last_delivered), (2, 2));

    let mut bench = Bench::plain();
    bench.read(1);
    bench.land(&[1], resume_after(10));
    let did = bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 });
    assert_eq!(did, [Did::Wrote(0, Word::Held)], "a failed attempt, and nothing is skipped");
    assert!(bench.session.lane().failure().unwrap().error.contains("beyond the log's end"));
}

#[test]
fn what_a_target_says_to_have_taken_of_a_batch_counts() {
    let settings = json!({"mode": "batched", "batch_max_events": 3});
    let mut bench = Bench::of(settings, Attributes { count: Some(4), ..Attributes::default() }, Reads::Consumer);
    (1..=3).for_each(|sequence| drop(bench.read(sequence)));
    bench.land(&[1, 2, 3], resume_after(2));
    bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 });
    assert_eq!(bench.session.lane().entries.values().next().unwrap().delivered, 2);
}

#[test]
fn a_target_that_goes_to_and_fro_is_given_time() {
    let mut target = TargetState::default();
    let spec = spec(json!({}), Attributes::default());
    let mut lane = Lane::reconcile(None, &spec, Epoch::Consumer("e".into()));
    for round in 0..4 {
        let mut bench = Bench::with(spec.clone(), lane, Reads::Tail, target);
        let sequence = bench.session.lane().position + 1;
        let did = bench.read(sequence);
        if round > 2 {
            assert_eq!(did, [], "it waits: it has got no further than before");
            assert!(bench.wait(30_000).contains(&Did::Sent(vec![sequence])));
        }
        if round > 0 {
            bench.land(&[sequence], status(204));
            bench.read(sequence + 1);
        }
        let at = bench.session.window().newest().unwrap();
        bench.land(&[at], resume_after(0));
        bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 });
        bench.tell(Input::Written);
        (lane, target) = bench.session.into_parts();
        assert_eq!(lane.position, 0);
    }
}

#[test]
fn what_a_consumer_skips_is_acknowledged_when_a_later_look_shows_that_nothing_was_cut() {
    let mut bench = Bench::of(json!({}), Attributes::default(), Reads::Consumer);
    bench.deliver(1);
    assert_eq!(bench.read(5), [Did::LookedUpBounds, Did::Sent(vec![5])]);
    bench.land(&[5], status(204));
    assert_eq!(bench.wait(10), [], "2 to 4 may have been cut off");
    assert_eq!(bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 }), [Did::Acknowledged(5)]);
    // Of a skip that came while it was looked up, another look tells.
    bench.read(7);
    bench.land(&[7], status(204));
    bench.read(9);
    assert_eq!(
        bench.tell(Input::Bounds { first_sequence: 1, last_sequence: 9 }),
        [Did::Acknowledged(7), Did::LookedUpBounds],
        "7 came before that skip"
    );
    assert_eq!(bench.tell(Input::Bounds { first_sequence: 9, last_sequence: 9 }), [], "the request is under way");
    assert_eq!(bench.land(&[9], status(204)), [Did::Ended(Leave::SetUp)]);
    let (lane, _) = bench.session.into_parts();
    assert_eq!((lane.position, lane.accounted_to()), (9, 7));
}

#[test]
fn the_tail_gives_everything_in_time_or_says_that_it_does_not() {
    let mut bench = Bench::plain();
    assert_eq!(bench.read(5), [Did::Sent(vec![5])], "no doubt");
    bench.land(&[5], status(204));
    bench.tell(Input::Given { to: Some(20), is_at_end: true });
    assert_eq!(bench.tell(Input::Cut { first_sequence: 21 }), [Did::Wrote(5, Word::Active)]);
    bench.tell(Input::Written);
    assert_eq!(bench.tell(Input::Cut { first_sequence: 22 }), [Did::Ended(Leave::SetUp)]);
}

#[test]
fn required_keys_are_looked_for_before_anything_is_decided() {
    let required = Attributes { required_data: vec!["k".into()], ..Attributes::default() };
    let mut bench = Bench::of(json!({}), required, Reads::Tail);
    assert_eq!(bench.read(1), [Did::Looked(vec!["k".into()])]);
    assert!(!bench.session.wants_message());
    let found = [("k".to_owned(), "1".to_owned())].into();
    assert_eq!(bench.tell(Input::Found { sequence: 1, found }), [Did::Sent(vec![1])]);
    bench.land(&[1], status(204));
    bench.read(2);
    assert_eq!(bench.tell(Input::Found { sequence: 2, found: [].into() }), [], "it is skipped");
    assert_eq!(bench.session.lane().entries.values().next().unwrap().skipped, 1);
}

#[test]
fn concurrent_requests_settle_in_the_logs_order_and_hear_what_calls_though_the_window_is_full() {
    let mut bench = Bench::of(json!({"mode": "concurrent", "concurrency": 2}), Attributes::default(), Reads::Tail);
    let transaction = |sequence: u64| format!("t{sequence}");
    for sequence in 1..=600_u64 {
        if !bench.session.wants_message() {
            break;
        }
        let at = Stamp::from_micros(0);
        let id = transaction(sequence);
        let headers = [("ce-transactionid", id.as_str())];
        let event = Event::from_message("EVENTS", "events.a", sequence, at, headers, Bytes::from("{}")).unwrap();
        bench.tell(Input::Read(Message { sequence, event: Some(Arc::new(event)), backlog: 9, token: sequence }));
    }
    assert!(!bench.session.wants_message(), "the window is full");
    bench.land(&[2], status(204));
    assert_eq!((bench.session.lane().position, bench.session.lane().had.len()), (0, 1));
    bench.land(&[1], status(204));
    assert_eq!((bench.session.lane().position, bench.session.lane().had.len()), (2, 0));
    assert_eq!(bench.tell(Input::Leave(Leave::End)), [], "two requests are under way");
    bench.land(&[3], status(204));
    let did = bench.land(&[4], status(500));
    assert!(did.contains(&Did::Acknowledged(3)) && did.contains(&Did::Wrote(3, Word::Held)), "{did:?}");
    assert_eq!(bench.tell(Input::Written), [Did::Ended(Leave::End)]);
}

#[test]
fn a_rate_lets_one_request_begin_at_a_time() {
    let mut bench = Bench::of(json!({"rate_per_second": 10}), Attributes::default(), Reads::Tail);
    assert_eq!(bench.read(1), [Did::Sent(vec![1])]);
    bench.land(&[1], status(204));
    assert_eq!(bench.read(2), []);
    assert!(bench.wait(100).contains(&Did::Sent(vec![2])));
}

#[test]
fn a_lane_that_reads_its_consumer_goes_over_to_the_tail_under_another_epoch() {
    let mut bench = Bench::of(json!({}), Attributes::default(), Reads::Consumer);
    bench.deliver(1);
    let did = bench.wait(5_000);
    assert!(did.contains(&Did::Joined(1)) && did.contains(&Did::Acknowledged(1)), "{did:?}");
    bench.tell(Input::Written);
    let did = bench.tell(Input::Joined);
    assert_eq!(did, [Did::Wrote(1, Word::Active), Did::AskedSource]);
    assert!(!bench.session.lane().epoch.has_consumer());
    bench.deliver(2);
    assert_eq!(bench.wait(10), [], "not before the epoch is written");
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(2)]);
}

#[test]
fn what_cannot_be_read_is_passed_over_when_all_before_it_is_settled() {
    let mut bench = Bench::of(json!({"mode": "concurrent"}), Attributes::default(), Reads::Tail);
    bench.read(1);
    assert_eq!(bench.tell(Input::Unread(Unread::Unreadable)), []);
    assert!(!bench.session.wants_message());
    bench.land(&[1], status(204));
    assert!(bench.session.wants_message());
    assert_eq!(bench.tell(Input::Unread(Unread::Unreadable)), [Did::Acknowledged(1), Did::Ended(Leave::SetUp)]);
}

#[test]
fn an_end_that_is_over_completes_its_entry_when_everything_was_read() {
    let over = Attributes { datetime_end: Some(Stamp::from_micros(1_000_000)), ..Attributes::default() };
    let mut bench = Bench::of(json!({}), over, Reads::Tail);
    assert_eq!(bench.wait(0).last(), Some(&Did::LookedForEnd));
    assert_eq!(bench.tell(Input::ReadToEnd(None)), []);
    assert!(bench.wait(1_000).contains(&Did::LookedForEnd));
    // This process's clock is ahead of the one by which events are stored.
    assert_eq!(bench.tell(Input::ReadToEnd(Some(ReadTo { sequence: 1, moment: Stamp::from_micros(1_000_000) }))), []);
    assert_eq!(bench.session.lane().active_entries(), 1, "what is stored in between is still owed");
    assert!(bench.wait(1_000).contains(&Did::LookedForEnd));
    assert_eq!(bench.tell(bench.read_to_end(1)), [Did::Ended(Leave::SetUp)]);
    assert_eq!(bench.session.into_parts().0.active_entries(), 0);
}

#[test]
fn a_redelivery_ends_where_the_log_does_and_not_where_the_tail_was_read_to() {
    let mut subscription = spec(json!({}), Attributes::default());
    subscription.redelivery = domain::subscription::Redelivery::of_only("r".into(), Stamp::from_micros(0), [90].into());
    let mut lane = Lane::reconcile(None, &subscription, Epoch::WithoutConsumer("e".into()));
    lane.passed_over(30);
    let mut bench = Bench::with(subscription, lane, Reads::Tail, TargetState::default());
    let next = |bench: &Bench| bench.session.lane().redelivery.as_ref().unwrap().next;
    bench.tell(Input::Given { to: Some(40), is_at_end: false });
    assert_eq!(next(&bench), 31 + 59, "it begins with the event that is asked for");
    bench.tell(Input::Given { to: Some(95), is_at_end: true });
    assert_eq!(next(&bench), 91);
}

#[test]
fn what_has_ended_deliveries_stays_though_others_are_under_way() {
    for (answer, position) in [(500, 0), (204, 1)] {
        let mut bench = Bench::of(json!({"mode": "concurrent"}), Attributes::default(), Reads::Tail);
        for sequence in [1, 2] {
            let id = format!("t{sequence}");
            let headers = [("ce-transactionid", id.as_str())];
            let at = Stamp::from_micros(0);
            let event = Event::from_message("EVENTS", "events.a", sequence, at, headers, Bytes::from("{}")).unwrap();
            bench.tell(Input::Read(Message { sequence, event: Some(Arc::new(event)), backlog: 9, token: sequence }));
        }
        bench.land(&[2], status(410));
        bench.land(&[1], status(answer));
        bench.tell(Input::Written);
        let (lane, _) = bench.session.into_parts();
        assert_eq!((lane.state.word(), lane.position), (Word::Gone, position));
    }
}

#[test]
fn that_nothing_was_missed_is_written_when_the_source_has_said_so() {
    let mut bench = Bench::plain();
    bench.session.handle_timeout(Now { at: bench.now.at + NOTE_INTERVAL, utc: bench.now.utc });
    assert!(bench.did().contains(&Did::AskedSource));
    assert_eq!(bench.tell(Input::Given { to: Some(7), is_at_end: true }), [Did::Wrote(0, Word::Active)]);
}

#[test]
fn a_wait_that_is_written_is_no_longer_than_it_was_to_be_though_a_clock_was_ahead() {
    let subscription = spec(json!({}), Attributes::default());
    let mut lane = Lane::reconcile(None, &subscription, Epoch::WithoutConsumer("e".into()));
    // Eight hours ahead of the bench's clock.
    lane.updated = Stamp::from_micros(1_000_000_000_000 + 8 * 3600 * 1_000_000);
    let next_attempt = Some(lane.updated.plus_micros(2_000_000));
    lane.failed(Failure { sequence: 1, attempts: 3, error: String::new(), next_attempt, letter: None });
    let mut bench = Bench::with(subscription, lane, Reads::Tail, TargetState::default());
    assert!(!bench.read(1).contains(&Did::Sent(vec![1])));
    assert!(bench.wait(2_000).contains(&Did::Sent(vec![1])));
}
