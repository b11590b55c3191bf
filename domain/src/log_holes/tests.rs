use super::super::ranges_of;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const NOW: Stamp = Stamp::from_micros(7);

fn observed(first_sequence: u64, last_sequence: u64, missing: &[u64]) -> Observed {
    let missing = Missing::Ranges(ranges_of(missing.to_vec()));
    Observed { first_sequence, last_sequence, missing, not_found: Vec::new(), is_limited: false }
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
fn too_many_to_be_named_are_anywhere_and_told_once() {
    let many = |missing| Observed { missing: Missing::TooMany(missing), ..observed(1, 10_000_000, &[]) };
    let found = look(Some(&LogHoles::default()), &many(2_000_000));
    assert_eq!((found.holes.all().len(), found.holes.missing()), (1, (2_000_000, 0)));
    assert_eq!(look(Some(&found.holes), &many(2_000_000)).new, []);
    assert!(!found.holes.cover((5, 6)));
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
    assert_eq!(holes.first_behind(0).map(|hole| hole.from_sequence), Some(5));
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
