//! What becomes of the lane when events are settled.

use bytes::Bytes;
use domain::lane::{Epoch, Lane, Phase, Word};
use domain::required_data::Found;
use domain::{Attributes, Event, Stamp, TypePattern};
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, spec, status};

#[test]
fn what_was_settled_is_counted() {
    let mut bench = Bench::plain();
    assert_eq!(bench.session.settled(), 0);
    (1..=3).for_each(|sequence| bench.deliver(sequence));
    bench.read_of("b", 4, 5);
    assert_eq!(bench.session.settled(), 4);
}

#[test]
fn deliveries_are_live_from_the_first_event_that_came_after_the_registration() {
    let mut subscription = spec(json!({}), Attributes::default());
    subscription.entries.values_mut().for_each(|entry| entry.live_from = 3);
    let lane = Lane::reconcile(None, &subscription, Epoch::WithoutConsumer("e".into()));
    let mut bench = Bench::with(subscription, lane, Reads::Tail, TargetState::default());
    for (sequence, phase) in [(1, Phase::Replaying), (2, Phase::Replaying), (3, Phase::Live)] {
        bench.deliver(sequence);
        assert_eq!(bench.session.lane().phase, phase, "{sequence}");
    }
}

#[test]
fn the_position_is_written_when_512_events_were_passed_over() {
    let mut bench = Bench::plain();
    for sequence in 1..512 {
        assert_eq!(bench.read_of("b", sequence, 5), [], "{sequence}");
    }
    assert_eq!(bench.read_of("b", 512, 5), [Did::Wrote(512, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), [Did::Acknowledged(512)]);
}

#[test]
fn what_was_passed_over_before_a_delivery_is_acknowledged_with_it_alone() {
    let mut bench = Bench::plain();
    bench.read_of("b", 1, 5);
    bench.deliver(2);
    assert_eq!(bench.wait(10), [Did::Acknowledged(2)]);
    assert_eq!(bench.wait(5_000), [Did::Wrote(2, Word::Active)]);
    assert_eq!(bench.tell(Input::Written), []);
}

/// An event that one entry has had, and that counts for another one which is new: it is passed over, and counted.
#[test]
fn a_count_is_written_though_the_event_that_counts_is_not_sent() {
    let before = spec(json!({}), Attributes::default());
    let mut lane = Lane::reconcile(None, &before, Epoch::WithoutConsumer("e".into()));
    for sequence in 1..=5 {
        let event =
            Event::from_message("EVENTS", "events.a", sequence, Stamp::from_micros(0), [], Bytes::new()).unwrap();
        lane.delivered(&before, &event, &Found::new());
    }
    let mut both = before.clone();
    let mut counted = before.entries.values().next().unwrap().clone();
    counted.registration = "2".into();
    (counted.from_sequence, counted.live_from, counted.attributes.count) = (3, 3, Some(9));
    both.entries.insert(TypePattern::parse(">").unwrap(), counted);
    let lane = Lane::reconcile(Some(&lane), &both, Epoch::WithoutConsumer("f".into()));
    let mut bench = Bench::with(both, lane, Reads::Tail, TargetState::default());
    assert_eq!(bench.read(3), [Did::Wrote(3, Word::Active)]);
    let counts: Vec<u64> = bench.session.lane().entries.values().map(|progress| progress.delivered).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5 + 1);
    bench.tell(Input::Written);
    assert_eq!(bench.read(6), [Did::Sent(vec![6])]);
    bench.land(&[6], status(204));
}
