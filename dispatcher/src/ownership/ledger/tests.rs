use super::*;
use crate::ownership::owned::Takeover;
use crate::ownership::process::Process;
use crate::ownership::record::{Holder, Owner, OwnerRecord, ShardRecord};

const TTL: Duration = Duration::from_secs(6);
const SECOND: Duration = Duration::from_secs(1);

fn shard() -> Shard {
    Shard::all().next().unwrap()
}

fn stamp(secs: i64) -> Stamp {
    Stamp::from_micros(secs * 1_000_000)
}

/// One that lives, and can list the subscriptions.
fn alive(now: Instant) -> Ledger {
    let mut ledger = Ledger::new("me".to_owned(), TTL);
    assert_eq!(ledger.renewal(now), Renewal::None, "the subscriptions were not listed yet");
    ledger.subscriptions(Some(now), None);
    assert_eq!(ledger.renewal(now), Renewal::Put { revision: 0 });
    ledger.renewal_sent(stamp(0));
    assert!(ledger.renewed(now, 1));
    ledger
}

/// The shard, which an owner has at revision 9, and the keys of other dispatchers, each with its revision.
fn records(owner: Option<&str>, others: &[(&str, u64, bool)]) -> Records {
    let mut records = Records::with([(shard(), ShardRecord::of(9, owner))]);
    for (name, revision, is_readable) in others {
        let owner = is_readable.then(|| Owner { process: Process::unknown(), since: stamp(0), takes_nothing: false });
        records.owners.insert((*name).to_owned(), OwnerRecord { revision: *revision, owner });
    }
    records
}

/// A turn in which the leader says that no dispatcher's key is there that it is asked about.
fn turn(ledger: &mut Ledger, records: Records, now: Instant) -> (BTreeSet<String>, Vec<Step>) {
    let mut turn = ledger.listed(records, &BTreeSet::new(), now);
    let questions = turn.questions.clone();
    questions.iter().for_each(|name| ledger.answered(&mut turn, name, false, now));
    let steps = ledger.plan(&turn, &BTreeSet::new(), now);
    (questions, steps)
}

fn take_at_9(ledger: &mut Ledger, now: Instant) {
    let step = Step::Take { shard: shard(), revision: 8, takeover: Takeover::Clean };
    let losses = ledger.begin(&step, now);
    ledger.written(&step, losses, Written::Ok(9), now);
    assert_eq!(ledger.lease(), (Some(now + TTL - MARGIN), BTreeSet::from([shard()])));
}

fn fenced_from_a() -> Takeover {
    Takeover::Fenced { from: Some("a".to_owned()) }
}

#[test]
fn a_dead_owner_is_waited_for_once_however_many_renewals_are_missed() {
    let began = Instant::now();
    let mut ledger = alive(began);
    ledger.renewal_missed(began);
    for secs in 1..6 {
        let (questions, steps) = turn(&mut ledger, records(Some("a"), &[]), began + secs * SECOND);
        assert_eq!((questions, steps), (BTreeSet::from(["a".to_owned()]), vec![]), "{secs}");
        ledger.renewal_missed(began + secs * SECOND);
    }
    let (_, steps) = turn(&mut ledger, records(Some("a"), &[]), began + TTL);
    assert_eq!(steps, [Step::Take { shard: shard(), revision: 9, takeover: fenced_from_a() }]);
}

#[test]
fn an_owner_is_taken_from_at_once_where_no_renewal_was_missed_and_never_unasked() {
    let now = Instant::now();
    let mut ledger = alive(now);
    let unasked = ledger.listed(records(Some("a"), &[]), &BTreeSet::new(), now);
    assert_eq!(ledger.plan(&unasked, &BTreeSet::new(), now), []);
    let (_, steps) = turn(&mut ledger, records(Some("a"), &[]), now);
    assert_eq!(steps, [Step::Take { shard: shard(), revision: 9, takeover: fenced_from_a() }]);
    // What was true in the turn before says nothing of what was listed since.
    let unasked = ledger.listed(records(Some("a"), &[]), &BTreeSet::new(), now + SECOND);
    assert_eq!(ledger.plan(&unasked, &BTreeSet::new(), now + SECOND), []);
}

#[test]
fn a_key_that_cannot_be_read_counts_as_long_as_it_is_renewed() {
    let began = Instant::now();
    let name = (0..).map(|n| n.to_string()).find(|name| shard().preferred(["me", name]) == Some(name)).unwrap();
    let mut ledger = alive(began);
    let mut steps = |revision, secs: u32| {
        let now = began + secs * SECOND;
        let mut turn = ledger.listed(records(None, &[(&name, revision, false)]), &BTreeSet::new(), now);
        turn.questions.clone().iter().for_each(|name| ledger.answered(&mut turn, name, true, now));
        ledger.plan(&turn, &BTreeSet::new(), now)
    };
    assert_eq!((steps(5, 0), steps(5, 5), steps(6, 6), steps(6, 11)), (vec![], vec![], vec![], vec![]));
    assert_eq!(steps(6, 12), [Step::Take { shard: shard(), revision: 9, takeover: Takeover::Clean }]);
}

#[test]
fn a_key_is_lost_unless_what_stands_there_is_what_was_written_over_it() {
    for (what, revision, found, is_lost) in [
        ("as it was", 1, Some(stamp(0)), false),
        ("the write that went unanswered", 7, Some(stamp(2)), false),
        ("a late write from before it was first there", 7, Some(stamp(1)), true),
        ("what cannot be read", 7, None, true),
        ("nothing", 0, None, true),
    ] {
        let now = Instant::now();
        let mut ledger = alive(now);
        take_at_9(&mut ledger, now);
        ledger.renewal_sent(stamp(2));
        assert_eq!(ledger.renewal(now), Renewal::LookUp);
        assert_eq!(ledger.looked_up(revision, found), is_lost, "{what}");
        assert_eq!(ledger.renewal(now + TTL / 3), Renewal::Put { revision }, "{what}");
    }
}

#[test]
fn after_the_own_key_was_lost_a_shard_is_worked_on_once_it_is_written_again() {
    let now = Instant::now();
    let again = |written: Written| {
        let mut ledger = alive(now);
        take_at_9(&mut ledger, now);
        ledger.renewal_sent(stamp(2));
        assert!(ledger.looked_up(0, None));
        assert_eq!((ledger.lease(), ledger.confirmations()), ((None, BTreeSet::new()), vec![]));
        assert!(ledger.renewed(now, 10));
        assert_eq!(ledger.lease(), (Some(now + TTL - MARGIN), BTreeSet::new()));
        assert_eq!(ledger.owned().len(), 1, "its lanes stay");
        let confirmations = ledger.confirmations();
        assert_eq!(confirmations, [Step::Confirm { shard: shard(), revision: 9 }]);
        let losses = ledger.begin(&confirmations[0], now);
        ledger.written(&confirmations[0], losses, written, now);
        (ledger.lease().1.len(), ledger.owned().len())
    };
    assert_eq!(again(Written::Ok(11)), (1, 1));
    assert_eq!(again(Written::Conflict), (0, 0));
    assert_eq!(again(Written::Unanswered), (0, 0), "nobody knows whether it was written");
}

#[test]
fn a_write_from_before_the_own_key_was_there_does_not_count_as_its_renewal() {
    let now = Instant::now();
    let mut ledger = Ledger::new("me".to_owned(), TTL);
    ledger.subscriptions(Some(now), None);
    // It expects that the key is not there, goes unanswered, and is on its way.
    ledger.renewal_sent(stamp(1));
    assert!(!ledger.looked_up(0, None));
    ledger.renewal_sent(stamp(2));
    assert!(ledger.renewed(now, 1));
    take_at_9(&mut ledger, now);
    // The key has expired, and so has its marker: the first write arrives, and makes it anew.
    ledger.renewal_sent(stamp(3));
    assert!(ledger.looked_up(20, Some(stamp(1))));
    assert_eq!(ledger.lease(), (None, BTreeSet::new()));
}

#[test]
fn one_that_leaves_says_so_at_once_and_others_take_what_it_gives_up() {
    let now = Instant::now();
    let mut ledger = alive(now);
    take_at_9(&mut ledger, now);
    assert_eq!(ledger.renewal(now), Renewal::At(now + TTL / 3));
    ledger.leaves();
    ledger.subscriptions(Some(now), None);
    assert_eq!(ledger.renewal(now), Renewal::Put { revision: 1 });
    ledger.renewal_sent(stamp(2));
    ledger.renewed(now, 10);
    assert_eq!(ledger.renewal(now), Renewal::At(now + TTL / 3), "once");
    assert_eq!(turn(&mut ledger, records(Some("me"), &[]), now).1, [Step::End(shard())]);

    let name = (0..).map(|n| n.to_string()).find(|name| shard().preferred(["me", name]) == Some(name)).unwrap();
    let mut other = alive(now);
    let mut takes = |takes_nothing| {
        let mut records = records(None, &[]);
        let owner = Some(Owner { process: Process::unknown(), since: stamp(0), takes_nothing });
        records.owners.insert(name.clone(), OwnerRecord { revision: 5, owner });
        turn(&mut other, records, now).1
    };
    assert_eq!(takes(false), []);
    assert_eq!(takes(true), [Step::Take { shard: shard(), revision: 9, takeover: Takeover::Clean }]);
}

#[test]
fn a_shard_that_cannot_be_read_is_taken_after_a_lease_without_others() {
    let began = Instant::now();
    let mut ledger = alive(began);
    let mut steps = |revision, owners: &[(&str, u64, bool)], secs: u32| {
        let mut records = records(None, owners);
        records.set(shard(), ShardRecord { revision, holder: Holder::Unknown });
        let mut turn = ledger.listed(records, &BTreeSet::new(), began + secs * SECOND);
        turn.questions.clone().iter().for_each(|name| ledger.answered(&mut turn, name, true, began + secs * SECOND));
        ledger.plan(&turn, &BTreeSet::new(), began + secs * SECOND)
    };
    let other = [("b", 5, true)];
    assert_eq!(
        (steps(4, &[], 0), steps(4, &[], 5), steps(7, &[], 6), steps(7, &other, 12)),
        (vec![], vec![], vec![], vec![])
    );
    let takeover = Takeover::Fenced { from: None };
    assert_eq!(steps(7, &[], 12), [Step::Take { shard: shard(), revision: 7, takeover }]);
}

#[test]
fn one_that_cannot_list_says_that_it_takes_nothing_until_it_can_and_goes_on_with_what_runs() {
    let began = Instant::now();
    let mut ledger = alive(began);
    take_at_9(&mut ledger, began);
    let later = began + TTL;
    ledger.subscriptions(Some(later), None);
    // It takes another one, and cannot list since.
    let free = Shard::all().nth(1).unwrap();
    let step = Step::Take { shard: free, revision: 3, takeover: Takeover::Clean };
    let losses = ledger.begin(&step, later);
    ledger.written(&step, losses, Written::Ok(10), later + SECOND);
    ledger.subscriptions(Some(later), Some(later + SECOND));
    let now = later + SECOND + TTL;
    let mut records = records(Some("me"), &[("b", 5, true)]);
    records.set(free, ShardRecord::of(10, Some("me")));
    let turn = |ledger: &mut Ledger| {
        let turn = ledger.listed(records.clone(), &BTreeSet::new(), now);
        ledger.plan(&turn, &BTreeSet::from([shard(), free]), now)
    };
    assert!(turn(&mut ledger).contains(&Step::Withdraw));
    ledger.begin(&Step::Withdraw, now);
    ledger.subscriptions(Some(later), Some(later + SECOND));
    assert_eq!(ledger.renewal(now), Renewal::Put { revision: 1 });
    assert!(ledger.takes_nothing());
    assert_eq!(turn(&mut ledger), [Step::End(free)]);
    ledger.subscriptions(Some(now), None);
    assert!(!ledger.takes_nothing());
}

#[test]
fn a_shard_that_goes_on_after_all_is_served_once_it_is_listed_again() {
    let now = Instant::now();
    let mut ledger = alive(now);
    take_at_9(&mut ledger, now);
    ledger.subscriptions(Some(now + SECOND), None);
    // Another one comes, and a target hangs: its neighbours' lanes have ended, and nothing says yet which they are.
    ledger.begin(&Step::End(shard()), now + 2 * SECOND);
    ledger.begin(&Step::KeepOn(shard()), now + 3 * SECOND);
    ledger.subscriptions(Some(now + SECOND), Some(now + 3 * SECOND));
    let turn = ledger.listed(records(Some("me"), &[("b", 5, true)]), &BTreeSet::new(), now + 3 * SECOND + TTL);
    let steps = ledger.plan(&turn, &BTreeSet::from([shard()]), now + 3 * SECOND + TTL);
    assert!(steps.contains(&Step::Withdraw), "{steps:?}");
}

#[test]
fn a_name_whose_key_is_refused_for_a_lease_is_given_up_and_not_for_less() {
    let began = Instant::now();
    let mut ledger = alive(began);
    // As it was changed meanwhile: the leader is asked at once.
    let (mut now, mut revision) = (began + 2 * SECOND, 1);
    let mut refuse = |ledger: &mut Ledger, now: Instant| {
        assert_eq!(ledger.renewal(now), Renewal::Put { revision });
        ledger.renewal_sent(stamp(1));
        let is_again = ledger.renewal_refused(now);
        revision += 1;
        ledger.looked_up(revision, None);
        is_again
    };
    assert!(!refuse(&mut ledger, now));
    assert_eq!(ledger.renewal(now), Renewal::Put { revision: 2 }, "what the leader has said");
    // Something else in between: what was refused is forgotten.
    ledger.renewal_missed(now);
    assert!(!refuse(&mut ledger, now));
    // A lease without any answer: it is another matter.
    now += TTL;
    assert!(!refuse(&mut ledger, now));
    for _ in 0..6 {
        now += SECOND;
        assert!(refuse(&mut ledger, now));
    }
    assert_eq!(ledger.renewal(now), Renewal::BeginAnew);
}

#[test]
fn a_replica_is_not_believed_whose_listing_was_refused_twice_in_a_row() {
    let now = Instant::now();
    let mut ledger = alive(now);
    let step = Step::Take { shard: shard(), revision: 8, takeover: Takeover::Clean };
    let conflict = |ledger: &mut Ledger| {
        let losses = ledger.begin(&step, now);
        ledger.written(&step, losses, Written::Conflict, now);
        ledger.distrusts_replicas()
    };
    assert!(!ledger.distrusts_replicas());
    assert!(!conflict(&mut ledger) && conflict(&mut ledger) && conflict(&mut ledger));
    assert!(!ledger.distrusts_replicas(), "the leader's listing was written over");
    assert!(!conflict(&mut ledger));
}
