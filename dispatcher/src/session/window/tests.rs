//! What may go when, by tables.

use super::*;
use bytes::Bytes;
use domain::Stamp;
use serde_json::json;

fn window(settings: serde_json::Value) -> Window<()> {
    Window::new(&serde_json::from_value(settings).unwrap())
}

fn slot(sequence: u64, transaction: &str, backlog: u64) -> Slot<()> {
    let headers = [("ce-transactionid", transaction)];
    let at = Stamp::from_micros(0);
    let event = Event::from_message("EVENTS", "events.a", sequence, at, headers, Bytes::from("{}")).unwrap();
    let due = Due { is_replay: false, redelivery: None, priority: 1.0, listener_data: None, data: event.data.clone() };
    let load = Load { event: Arc::new(event), found: Found::new(), due: Some(due) };
    Slot {
        sequence,
        token: (),
        backlog,
        load: Some(load),
        reached_end: false,
        stage: Stage::Waiting(None),
        attempts: 0,
        failure: None,
    }
}

fn settled(window: &mut Window<()>) -> Vec<u64> {
    std::iter::from_fn(|| window.pop_settled()).map(|slot| slot.sequence).collect()
}

#[test]
fn one_event_at_a_time_where_nothing_else_is_asked_for() {
    let (mut window, now) = (window(json!({})), Instant::now());
    assert!(window.wants_more() && window.next_load(now).is_none());
    window.add(slot(3, "t", 5), now);
    assert!(!window.wants_more());
    assert_eq!(window.next_load(now), Some(vec![3]));
    window.send(&[3]);
    assert_eq!(window.next_load(now), None);
    let later = now + Duration::from_secs(9);
    window.landed(&[3], Stage::Waiting(Some(later)));
    assert_eq!((window.next_load(now), window.next_look(now)), (None, Some(later)));
    assert_eq!(window.next_load(later), Some(vec![3]));
    window.send(&[3]);
    window.landed(&[3], Stage::Taken);
    assert_eq!(settled(&mut window), [3]);
    assert!(window.wants_more());
}

#[test]
fn a_batch_goes_when_it_is_full_or_has_waited() {
    let now = Instant::now();
    let mut window = window(json!({"mode": "batched", "batch_max_events": 3, "batch_max_wait_ms": 500}));
    window.add(slot(1, "t", 0), now);
    window.add(Slot { stage: Stage::Passed, ..slot(2, "t", 0) }, now);
    assert_eq!(window.next_load(now), None);
    assert_eq!(window.next_load(now + Duration::from_secs(2)), Some(vec![1]));
    window.add(slot(3, "t", 9), now);
    window.add(slot(4, "t", 9), now);
    assert!(!window.wants_more(), "it is full");
    assert_eq!(window.next_load(now), Some(vec![1, 3, 4]));
    window.send(&[1, 3, 4]);
    window.landed(&[1, 3, 4], Stage::Waiting(None));
    assert!(!window.wants_more(), "it comes again as it was");
    window.take_apart();
    for sequence in [1, 3, 4] {
        assert_eq!(window.next_load(now), Some(vec![sequence]));
        window.send(&[sequence]);
        window.landed(&[sequence], Stage::Taken);
        settled(&mut window);
    }
    assert!(window.is_empty() && window.wants_more());
}

#[test]
fn a_batch_waits_a_moment_for_what_the_server_has_behind_it() {
    let mut window = window(json!({"mode": "batched"}));
    let now = Instant::now();
    window.add(slot(1, "t", 7), now);
    assert_eq!(window.next_load(now), None);
    assert!(window.next_look(now).is_some_and(|at| at <= now + LINGER));
    window.add(slot(2, "t", 0), now);
    assert_eq!(window.next_load(now), Some(vec![1, 2]));
}

#[test]
fn transactions_go_side_by_side_and_each_in_order() {
    let (mut window, now) = (window(json!({"mode": "concurrent", "concurrency": 2})), Instant::now());
    for (sequence, transaction) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "b")] {
        window.add(slot(sequence, transaction, 0), now);
    }
    let begin = |window: &mut Window<()>| {
        let load = window.next_load(now);
        load.iter().for_each(|load| window.send(load));
        load
    };
    assert_eq!(begin(&mut window), Some(vec![1]));
    assert_eq!(begin(&mut window), Some(vec![3]));
    assert_eq!(begin(&mut window), None, "two are under way");
    window.landed(&[3], Stage::Taken);
    assert_eq!((settled(&mut window), begin(&mut window)), (vec![], Some(vec![4])));
    window.landed(&[1], Stage::Waiting(Some(now + Duration::from_secs(9))));
    assert_eq!(begin(&mut window), Some(vec![5]), "2 waits behind 1");
    window.landed(&[4], Stage::Taken);
    assert_eq!(begin(&mut window), None);
    window.landed(&[5], Stage::Taken);
    window.set(1, Stage::Buried);
    assert_eq!((settled(&mut window), begin(&mut window)), (vec![1], Some(vec![2])));
    window.landed(&[2], Stage::Taken);
    assert_eq!(settled(&mut window), [2, 3, 4, 5]);
}

#[test]
fn it_does_not_grow_without_bounds() {
    let (mut window, now) = (window(json!({"mode": "concurrent"})), Instant::now());
    let added = (1..).take_while(|sequence| {
        let wants_more = window.wants_more();
        window.add(slot(*sequence, "t", 1), now);
        wants_more
    });
    assert_eq!(added.count(), MAX_AHEAD);
}
