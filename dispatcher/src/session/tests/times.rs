//! What a session does by the clock.

use domain::Attributes;
use domain::lane::Word;
use serde_json::json;

use super::super::*;
use super::bench::{Bench, Did, status};

fn of(reads: Reads) -> Bench {
    Bench::of(json!({}), Attributes::default(), reads)
}

#[test]
fn a_lane_shows_where_it_is_where_its_consumer_is_not_read() {
    for (reads, shows) in [(Reads::Tail, true), (Reads::Past, true), (Reads::Consumer, false)] {
        let mut bench = of(reads);
        bench.deliver(1);
        assert!(!bench.pass(14_999).contains(&Did::Showed), "{reads:?}");
        assert_eq!(bench.pass(1).contains(&Did::Showed), shows, "{reads:?}");
    }
}

#[test]
fn the_deadline_is_the_next_moment_at_which_something_is_due() {
    let mut bench = Bench::plain();
    bench.tell(Input::Given { to: Some(0), is_at_end: true });
    bench.tell(Input::Written);
    bench.pass(50);
    bench.read(1);
    bench.land(&[1], status(500));
    assert_eq!(bench.session.deadline(), Some(bench.now.at + Duration::from_millis(100)));
}

#[test]
fn what_a_lane_had_is_compared_with_the_log_every_half_minute_and_once() {
    let mut bench = of(Reads::Consumer);
    bench.deliver(1);
    assert!(!bench.pass(29_999).contains(&Did::Compared(1)));
    assert!(bench.pass(1).contains(&Did::Compared(1)));
    bench.tell(Input::Compared { is_in: true });
    assert!(!bench.pass(30_000).contains(&Did::Compared(1)), "it was compared");
    bench.deliver(2);
    assert!(bench.pass(30_000).contains(&Did::Compared(2)));

    let mut bench = of(Reads::Tail);
    bench.deliver(1);
    assert!(!bench.pass(30_000).contains(&Did::Compared(1)), "the log watch compares the tail");
}

#[test]
fn a_lane_asks_for_the_tail_once_at_a_time_and_not_when_it_is_left() {
    let mut bench = of(Reads::Consumer);
    assert!(bench.pass(5_000).contains(&Did::Joined(0)));
    assert!(!bench.pass(5_000).contains(&Did::Joined(0)), "it has not been answered");
    bench.tell(Input::NotJoined);
    assert!(bench.pass(5_000).contains(&Did::Joined(0)));
    bench.tell(Input::NotJoined);
    bench.read(1);
    bench.tell(Input::Leave(Leave::SetUp));
    assert!(!bench.pass(5_000).contains(&Did::Joined(1)));
}

#[test]
fn a_lane_that_has_had_the_last_message_of_its_consumer_asks_for_the_tail_at_once() {
    let mut bench = of(Reads::Consumer);
    bench.read_of("a", 1, 0);
    bench.land(&[1], status(204));
    assert!(bench.pass(0).contains(&Did::Joined(1)));
}

#[test]
fn a_lane_among_the_past_asks_the_tail_every_50_milliseconds_whether_it_has_caught_up() {
    let mut bench = Bench::plain();
    assert_eq!(bench.pass(49), []);
    assert_eq!(bench.pass(1), [Did::AskedSource]);
    assert_eq!(bench.pass(50), [Did::AskedSource]);
    bench.tell(Input::Given { to: Some(0), is_at_end: true });
    bench.tell(Input::Written);
    // The look that was due already is the last one.
    bench.pass(50);
    assert_eq!(bench.pass(50), []);
}

#[test]
fn nothing_is_written_where_nothing_is_news() {
    let mut bench = Bench::plain();
    let given = |to, is_at_end| Input::Given { to: Some(to), is_at_end };
    assert_eq!(bench.tell(given(0, true)), [Did::Wrote(0, Word::Active)], "it has caught up: that is written at once");
    bench.tell(Input::Written);
    assert_eq!(bench.tell(given(5, true)), [], "that can wait");
    assert!(bench.pass(600_000).contains(&Did::AskedSource));
    assert_eq!(bench.tell(given(5, true)), [Did::Wrote(0, Word::Active)], "now and then it is noted");
    bench.tell(Input::Written);
    assert!(bench.pass(600_000).contains(&Did::AskedSource));
    assert_eq!(bench.tell(given(5, true)), [], "it is written already");
}

#[test]
fn a_batch_that_waits_for_a_write_has_no_deadline_that_has_passed() {
    let delivery = json!({"mode": "batched", "batch_max_wait_ms": 100});
    let mut bench = Bench::of(delivery, Attributes { count: Some(9), ..Attributes::default() }, Reads::Tail);
    bench.read_of("a", 1, 0);
    assert!(bench.pass(100).contains(&Did::Sent(vec![1])));
    bench.land(&[1], status(204));
    bench.read_of("a", 2, 0);
    assert!(!bench.pass(100).contains(&Did::Sent(vec![2])), "the count is being written");
    assert!(bench.session.deadline().is_none_or(|deadline| deadline > bench.now.at));
    assert!(bench.tell(Input::Written).contains(&Did::Sent(vec![2])));
}
