//! The checker's own tests: histories made by hand, each with a fault that it must find, beside sound ones in which it must
//! find nothing.

mod bad;
mod good;
mod script;

use std::collections::BTreeSet;

use self::bad::BAD;
use self::good::GOOD;
use self::script::{Script, TAKEN, begun, begun_as, delivery, words};
use crate::checker::check;
use crate::facts::LATE;
use crate::fault::Kind;
use crate::history::{Ask, Delivery, Mode};

fn found(write: fn(&mut Script), begin: fn() -> Script) -> BTreeSet<Kind> {
    let mut script = begin();
    write(&mut script);
    check(&script.lines).into_iter().map(|fault| fault.kind).collect()
}

#[test]
fn each_doctored_history_is_found_to_be_bad() {
    assert!(BAD.len() >= 25);
    for (name, kind, write) in BAD {
        let found = found(*write, begun);
        assert!(found.contains(kind), "{name}: {found:?}");
    }
}

#[test]
fn what_the_contract_permits_is_found_to_be_good() {
    for (name, write) in GOOD {
        assert_eq!(found(*write, begun), BTreeSet::new(), "{name}");
    }
}

#[test]
fn batches_and_requests_side_by_side_have_rules_of_their_own() {
    let batched: fn() -> Script = || begun_as(Delivery { batch_max_events: Some(2), ..delivery(Mode::Batched) });
    let concurrent: fn() -> Script = || begun_as(delivery(Mode::Concurrent));
    let in_one = |s: &mut Script, of: &[(u64, u64)]| {
        let items = of.iter().map(|(sequence, previous)| s.item(*sequence, *previous)).collect();
        s.request(0, items, TAKEN);
    };
    let found = |begin: fn() -> Script, of: &[&[(u64, u64)]]| {
        let mut script = begin();
        of.iter().for_each(|of| in_one(&mut script, of));
        check(&script.lines).into_iter().map(|fault| fault.kind).collect::<Vec<Kind>>()
    };
    assert_eq!(found(batched, &[&[(1, 0), (2, 1)], &[(3, 2), (4, 3)]]), []);
    assert_eq!(found(batched, &[&[(1, 0), (2, 0)]]), [Kind::WrongPrevious]);
    assert_eq!(found(batched, &[&[(1, 0), (2, 1), (3, 2)]]), [Kind::WrongBatch]);
    assert_eq!(found(batched, &[&[(1, 0), (3, 1)], &[(4, 3)]]), [Kind::Overtook]);
    // All of one transaction: that one is in order here too.
    assert!(found(concurrent, &[&[(1, 0)], &[(2, 1)]]).is_empty());
    let mut script = concurrent();
    script.wait(2 * LATE);
    in_one(&mut script, &[(2, 0)]);
    let found: Vec<Kind> = check(&script.lines).into_iter().map(|fault| fault.kind).collect();
    assert_eq!(found, [Kind::Overtook, Kind::WrongPrevious]);
}

#[test]
fn what_is_named_as_the_one_before_hides_nothing_where_requests_go_side_by_side() {
    // The events' transactions, and the deliveries: each with the one that it names.
    let found = |transactions: &[&str], deliveries: &[(u64, u64)]| {
        let mut script = Script::default();
        script.ask(0, Ask::Put(vec![("a.x".into(), words())], delivery(Mode::Concurrent)));
        for transaction in transactions {
            script.event("a.x", transaction, true);
        }
        script.event("b.x", "t", true);
        script.wait(2 * LATE);
        for (sequence, previous) in deliveries {
            script.take(0, *sequence, *previous);
        }
        check(&script.lines).into_iter().map(|fault| fault.kind).collect::<Vec<Kind>>()
    };
    let three = ["t1", "t2", "t3"];
    assert_eq!(found(&three, &[(1, 0), (3, 2), (2, 1)]), []);
    assert_eq!(found(&three, &[(2, 1), (3, 2), (1, 0)]), []);
    assert_eq!(found(&three, &[(1, 0), (3, 1), (2, 1)]), [Kind::WrongPrevious], "2 is to come between");
    assert_eq!(found(&three, &[(1, 0), (2, 0)]), [Kind::WrongPrevious], "1 was taken");
    assert_eq!(found(&three, &[(1, 2)]), [Kind::WrongPrevious], "that comes behind it");
    assert_eq!(found(&three, &[(1, 4)]), [Kind::WrongPrevious], "that is another URL's");
}
