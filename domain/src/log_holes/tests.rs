use super::super::ranges_of;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const NOW: Stamp = Stamp::from_micros(7);

fn observed(first_sequence: u64, last_sequence: u64, missing: &[u64]) -> Observed {
    let missing = Missing::Ranges(ranges_of(missing.to_vec()));
    Observed { first_sequence, last_sequence, missing, looked_at: Vec::new(), not_found: Vec::new(), is_limited: false }
}

fn look(known: Option<&LogHoles>, observed: &Observed) -> Findings {
    LogHoles::after(known, observed, None, NOW)
}

/// Each hole's bounds, and whether it is a loss.
fn shape(holes: &[Hole]) -> Vec<(u64, u64, bool)> {
    holes.iter().map(|hole| (hole.from_sequence, hole.to_sequence, hole.is_lost())).collect()
}

#[test]
fn what_is_missing_at_the_first_look_is_reported_and_what_comes_later_is_lost() {
    let first = look(None, &observed(1, 20, &[5, 6]));
    assert_eq!((shape(&first.new), shape(first.holes.all())), (vec![(5, 6, false)], vec![(5, 6, false)]));
    for (what, seen, holes, new, closed) in [
        ("the same again", observed(1, 30, &[5, 6]), vec![(5, 6, false)], vec![], 0),
        (
            "more is missing",
            observed(1, 30, &[5, 6, 7, 20]),
            vec![(5, 6, false), (7, 7, true), (20, 20, true)],
            vec![(7, 7, true), (20, 20, true)],
            0,
        ),
        ("the beginning comes nearer", observed(6, 30, &[6]), vec![(6, 6, false)], vec![], 0),
        ("the beginning has passed it", observed(7, 30, &[]), vec![], vec![], 0),
        ("the events are there again", observed(1, 30, &[]), vec![], vec![], 1),
        ("the log was emptied", observed(31, 30, &[]), vec![], vec![], 0),
        ("the end was lost", observed(1, 4, &[]), vec![], vec![], 0),
        ("the log ends within it", observed(1, 5, &[5]), vec![(5, 5, false)], vec![], 0),
    ] {
        let found = look(Some(&first.holes), &seen);
        assert_eq!((shape(found.holes.all()), shape(&found.new), found.closed.len()), (holes, new, closed), "{what}");
    }
    assert_eq!(look(Some(&LogHoles::default()), &observed(1, 9, &[3])).holes.missing(), (1, 0));
}

#[test]
fn holes_that_a_limit_for_each_type_makes_are_never_losses() {
    let limited = |missing: &[u64]| Observed { is_limited: true, ..observed(1, 20, missing) };
    let lost = look(Some(&LogHoles::default()), &observed(1, 20, &[3])).holes;
    let while_limited = look(Some(&lost), &limited(&[3, 4, 5]));
    assert_eq!((shape(while_limited.holes.all()), while_limited.new), (vec![(3, 3, true)], vec![]));
    let after = look(Some(&while_limited.holes), &observed(1, 20, &[3, 4, 5]));
    assert!(while_limited.holes.is_limited() && !after.holes.is_limited());
    assert_eq!(shape(after.holes.all()), [(3, 3, true), (4, 5, false)]);
    assert_eq!(shape(&look(Some(&after.holes), &observed(1, 20, &[3, 4, 5, 9])).new), [(9, 9, true)]);
}

#[test]
fn what_a_reader_did_not_find_is_a_hole_though_nats_server_counts_it() {
    let read = Observed { not_found: vec![(7, 9), (19, 40)], ..observed(1, 20, &[8]) };
    let found = look(Some(&LogHoles::default()), &read);
    assert_eq!(shape(found.holes.all()), [(7, 7, true), (8, 8, true), (9, 9, true), (19, 20, true)]);
    // It stays, though the next look does not see it: until the log is another one.
    let next = look(Some(&found.holes), &observed(1, 20, &[8]));
    assert_eq!((next.holes.all(), next.new.len()), (found.holes.all(), 0));
    let epoch = LogEpoch::of(9);
    let other = LogHoles::after(Some(&next.holes), &observed(1, 20, &[8]), Some(&epoch), NOW);
    assert_eq!((shape(other.holes.all()), other.closed.len()), (vec![(8, 8, true)], 3));
    assert!(found.holes.cover((7, 9)) && !found.holes.cover((6, 9)) && found.holes.cover((19, 19)));
}

#[test]
fn what_a_reader_did_not_find_stays_a_hole_while_nobody_knows_which_log_it_is() {
    let (epoch, other) = (LogEpoch::of(9), LogEpoch::of(10));
    let read = Observed { not_found: vec![(7, 7)], ..observed(1, 20, &[]) };
    let known = LogHoles::after(Some(&LogHoles::default()), &read, Some(&epoch), NOW).holes;
    for (what, epoch, closed) in
        [("not yet", None, 0), ("it is this one", Some(&epoch), 0), ("another one", Some(&other), 1)]
    {
        let found = LogHoles::after(Some(&known), &observed(1, 20, &[]), epoch, NOW);
        assert_eq!((found.closed.len(), found.holes == known), (closed, closed == 0), "{what}");
    }
    // Nor does it end where too many others are missing to be named.
    let limited = Observed { missing: Missing::TooMany(3), is_limited: true, ..observed(1, 20, &[]) };
    let limited = LogHoles::after(Some(&known), &limited, Some(&epoch), NOW);
    assert_eq!(LogHoles::after(Some(&limited.holes), &observed(1, 20, &[]), Some(&epoch), NOW).holes, known);
}

#[test]
fn what_a_reader_did_not_find_among_holes_that_were_taken_together_is_told_once_and_lost() {
    // Twice as many as are remembered, before anybody looked.
    let earlier: Vec<u64> = (1..=2 * MAX_HOLES as u64).map(|n| n * 10).collect();
    let first = look(None, &observed(1, 9_999, &earlier)).holes;
    let together = first.all().iter().find(|hole| hole.missing > 1).unwrap();
    let (from, to) = together.range();
    let seen = |range: Range| Observed { not_found: vec![range], ..observed(1, 9_999, &earlier) };
    let found = look(Some(&first), &seen((from, from + 1)));
    assert_eq!((shape(&found.new), found.new[0].missing), (vec![(from, to, true)], together.missing + 1));
    let mut known = found.holes;
    for seen in [observed(1, 9_999, &earlier), seen((from + 1, from + 1)), observed(1, 9_999, &earlier)] {
        let found = look(Some(&known), &seen);
        assert!(found.new.is_empty() && found.closed.is_empty() && found.holes == known);
        known = found.holes;
    }
    // When nats-server has counted it, it is one like the others.
    let counted: Vec<u64> = earlier.into_iter().chain([from + 1]).collect();
    let found = look(Some(&known), &observed(1, 9_999, &counted));
    assert!(found.new.is_empty() && found.holes.all().iter().all(|hole| !hole.is_read));
}

#[test]
fn too_many_to_be_named_are_anywhere_and_told_once() {
    let many = |missing| Observed { missing: Missing::TooMany(missing), ..observed(1, 10_000_000, &[]) };
    let found = look(Some(&LogHoles::default()), &many(2_000_000));
    assert_eq!((found.holes.all().len(), found.holes.missing()), (1, (2_000_000, 0)));
    assert_eq!(look(Some(&found.holes), &many(2_000_000)).new, []);
    assert!(!found.holes.cover((5, 6)));
}

#[test]
fn what_a_reader_did_not_find_is_one_no_more_when_all_of_it_is_looked_at_and_found() {
    let seen = |looked_at: &[Range], not_found: &[Range], missing: &[u64]| {
        let (looked_at, not_found) = (looked_at.to_vec(), not_found.to_vec());
        Observed { looked_at, not_found, ..observed(1, 20, missing) }
    };
    let known = look(Some(&LogHoles::default()), &seen(&[(7, 9)], &[(7, 9)], &[])).holes;
    assert_eq!(known.read().collect::<Vec<_>>(), [(7, 9)]);
    for (what, seen, missing, closed) in [
        ("nobody has looked", seen(&[], &[], &[]), 3, 0),
        ("a part is found", seen(&[(7, 9)], &[(8, 8)], &[]), 1, 0),
        ("only a part was looked at", seen(&[(7, 8)], &[], &[]), 3, 0),
        ("all is found", seen(&[(1, 20)], &[], &[]), 0, 1),
        ("nats-server counts it by now", seen(&[(7, 9)], &[(7, 9)], &[7, 8, 9]), 3, 0),
    ] {
        let found = look(Some(&known), &seen);
        assert_eq!((found.holes.missing(), found.closed.len(), found.new.len()), ((missing, 0), closed, 0), "{what}");
    }
}

#[test]
fn of_too_many_those_are_new_that_were_not_counted_before() {
    let read = Observed { not_found: vec![(7, 7)], ..observed(1, 20, &[3, 4]) };
    let known = look(Some(&LogHoles::default()), &read).holes;
    let many = Observed { missing: Missing::TooMany(5), ..observed(1, 20, &[]) };
    let found = look(Some(&known), &many);
    let new: Vec<_> = found.new.iter().map(|hole| (hole.from_sequence, hole.to_sequence, hole.missing)).collect();
    // Of three, each part has what may be in there, and one at least.
    assert_eq!(new, [(1, 2, 1), (5, 6, 1), (8, 20, 3)]);
    assert_eq!(look(Some(&known), &Observed { missing: Missing::TooMany(2), ..many }).new, []);
}

#[test]
fn where_there_are_too_many_the_nearest_neighbours_are_taken_together() {
    let mut missing: Vec<u64> = (1..=MAX_HOLES as u64).map(|n| n * 10).collect();
    missing.push(502);
    let read = Observed { not_found: vec![(902, 902)], ..observed(1, 9_999, &missing) };
    let found = look(Some(&LogHoles::default()), &read).holes;
    let together: Vec<_> = found.all().iter().filter(|hole| hole.missing > 1).collect();
    let shown: Vec<_> =
        together.iter().map(|hole| (hole.from_sequence, hole.to_sequence, hole.missing, hole.is_read)).collect();
    assert_eq!((found.all().len(), shown), (MAX_HOLES, vec![(500, 502, 2, false), (900, 902, 2, true)]));
}

#[test]
fn a_lane_is_asked_about_the_first_loss_in_its_range() {
    let first = look(None, &observed(1, 99, &[5])).holes;
    let holes = look(Some(&first), &observed(1, 99, &[5, 10, 11, 12, 50])).holes;
    let lost = |after, to| holes.lost_within(after, to).map(|hole| hole.from_sequence);
    for (after, to, expected) in [
        (0, 9, None),
        (0, 10, Some(10)),
        (0, 99, Some(10)),
        (11, 40, Some(10)),
        (12, 49, None),
        (12, 50, Some(50)),
        (50, 99, None),
    ] {
        assert_eq!(lost(after, to), expected, "behind {after}, to {to}");
    }
    for (after, expected) in [(0, Some(5)), (4, Some(5)), (5, Some(10)), (11, Some(10)), (12, Some(50)), (50, None)] {
        assert_eq!(holes.first_behind(after).map(|hole| hole.from_sequence), expected, "behind {after}");
    }
    assert_eq!(holes.missing(), (4, 1));
}

#[test]
fn what_is_written_reads_back() {
    let holes = look(Some(&LogHoles::default()), &observed(1, 20, &[5, 6])).holes;
    let written = serde_json::to_string(&holes).unwrap();
    assert_eq!(
        written,
        r#"{"holes":[{"from_sequence":5,"to_sequence":6,"missing":2,"reason":"lost","noticed":"19700101000000.000007"}]}"#
    );
    assert_eq!(serde_json::from_str::<LogHoles>(&written).unwrap(), holes);
}

proptest! {
    /// Looks one after the other, with more and more missing, and the beginning cut off.
    #[test]
    fn nothing_that_is_lost_is_overlooked_and_nothing_is_told_twice(
        looks in prop::collection::vec((prop::collection::btree_set(1u64..600, 0..150), 1u64..200), 1..5),
    ) {
        let (mut known, mut gone, mut told, mut first): (Option<LogHoles>, BTreeSet<u64>, u64, u64) = (None, BTreeSet::new(), 0, 1);
        for (more, cut) in looks {
            first = first.max(cut);
            gone.extend(more);
            gone = gone.split_off(&first);
            // The first event of the log is there.
            gone.remove(&first);
            let had_told = told;
            let all: Vec<u64> = gone.iter().copied().collect();
            let found = look(known.as_ref(), &observed(first, 600, &all));
            told += found.new.len() as u64;
            let again = look(Some(&found.holes), &observed(first, 600, &all));
            prop_assert!(again.new.is_empty() && again.closed.is_empty() && again.holes == found.holes);
            prop_assert!(found.holes.all().len() <= MAX_HOLES);
            let in_order = found.holes.all().windows(2).all(|two| two[0].to_sequence < two[1].from_sequence);
            prop_assert!(in_order);
            let is_in = |s: &u64| found.holes.all().iter().any(|hole| (hole.from_sequence..=hole.to_sequence).contains(s));
            prop_assert!(gone.iter().all(is_in));
            let (lost, reported) = found.holes.missing();
            prop_assert_eq!(lost + reported, gone.len() as u64);
            prop_assert!(known.is_some() || lost == 0);
            prop_assert!(told >= had_told);
            known = Some(found.holes);
        }
    }
}
