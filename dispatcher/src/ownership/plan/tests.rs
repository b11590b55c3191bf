use super::*;

const TTL: Duration = Duration::from_secs(6);

fn shard() -> Shard {
    Shard::all().next().unwrap()
}

/// One shard, as `me` sees it.
struct Scene {
    revision: u64,
    owner: Option<&'static str>,
    held: Option<(u64, Stage)>,
    preferred: Option<&'static str>,
    /// Those whose keys are not there, and whether their shards may be taken already.
    gone: &'static [(&'static str, bool)],
    is_alive: bool,
    is_busy: bool,
    readiness: Ready,
    /// How long ago its lanes were told to end.
    ended_ago: Option<Duration>,
    unclear: Option<Holder>,
    is_long_unclear: bool,
    is_alone: bool,
}

#[derive(Clone, Copy)]
enum Ready {
    Yes,
    /// The last listing began before the shard was taken, and none has succeeded for so many seconds.
    FailingFor(u64),
    /// A listing has succeeded since the shard was taken.
    FailingThoughServed,
    No,
    NoThoughServed,
    Leaving,
}

/// A shard that is somebody else's, and that `me` is to have.
const SCENE: Scene = Scene {
    revision: 7,
    owner: Some("a"),
    held: None,
    preferred: Some("me"),
    gone: &[],
    is_alive: true,
    is_busy: false,
    readiness: Ready::Yes,
    ended_ago: None,
    unclear: None,
    is_long_unclear: false,
    is_alone: false,
};

impl Scene {
    fn plan(&self) -> Vec<Step> {
        let now = Instant::now() + 100 * TTL;
        let taken_at = now - 50 * TTL;
        let holder = self.unclear.clone().unwrap_or_else(|| ShardRecord::of(0, self.owner).holder);
        let record = ShardRecord { revision: self.revision, holder };
        let records = Records::with([(shard(), record)]);
        let takeable_at = |is_takeable| if is_takeable { now } else { now + Duration::from_millis(1) };
        let gone = self.gone.iter().map(|(name, is)| ((*name).to_owned(), takeable_at(*is))).collect();
        let preferred = |_| self.preferred;
        let only = |is: bool| if is { BTreeSet::from([shard()]) } else { BTreeSet::new() };
        let long_unclear = only(self.is_long_unclear);
        let dispatchers = Dispatchers {
            preferred: &preferred,
            has_others: !self.is_alone,
            is_alone: self.is_alone,
            long_unclear: &long_unclear,
            gone: &gone,
        };
        let ended_at = self.ended_ago.map(|ago| now - ago);
        let held = self.held.map(|(revision, stage)| {
            (shard(), Held { revision, takeover: Takeover::Clean, stage, taken_at, ended_at })
        });
        let busy = only(self.is_busy);
        let readiness = match self.readiness {
            Ready::Yes => Readiness::Ready { listed_at: now },
            Ready::FailingFor(secs) => {
                Readiness::Failing { listed_at: taken_at - TTL, since: now - Duration::from_secs(secs) }
            }
            Ready::FailingThoughServed => Readiness::Failing { listed_at: taken_at + TTL, since: now - 2 * TTL },
            Ready::No => Readiness::Withdrawn { listed_at: None },
            Ready::NoThoughServed => Readiness::Withdrawn { listed_at: Some(taken_at + TTL) },
            Ready::Leaving => Readiness::Leaving,
        };
        let me = Me { name: "me", revision: self.is_alive.then_some(3), ttl: TTL, readiness, busy: &busy };
        plan(&records, &dispatchers, &held.into_iter().collect(), &me, now)
    }
}

#[track_caller]
fn check(table: Vec<(&str, Scene, Option<Step>)>) {
    for (what, scene, step) in table {
        assert_eq!(scene.plan(), Vec::from_iter(step), "{what}");
    }
}

fn take(takeover: Takeover) -> Option<Step> {
    Some(Step::Take { shard: shard(), revision: 7, takeover })
}

fn fenced(from: &str) -> Takeover {
    Takeover::Fenced { from: Some(from.to_owned()) }
}

#[test]
fn a_shard_is_taken_that_nobody_works_on() {
    check(vec![
        ("it was given back", Scene { owner: None, ..SCENE }, take(Takeover::Clean)),
        ("the owner lives, as far as anyone has said", SCENE, None),
        ("the owner is gone", Scene { gone: &[("a", true)], ..SCENE }, take(fenced("a"))),
        (
            "nobody has ever written it, or the bucket was lost",
            Scene { revision: 0, owner: None, ..SCENE },
            Some(Step::Take { shard: shard(), revision: 0, takeover: Takeover::Fenced { from: None } }),
        ),
        ("it may come back", Scene { gone: &[("a", false)], ..SCENE }, None),
        ("another one is gone", Scene { gone: &[("b", true)], ..SCENE }, None),
        ("it is to be another's", Scene { owner: None, preferred: Some("b"), ..SCENE }, None),
        (
            "it is to be another's, of one who is gone",
            Scene { gone: &[("a", true)], preferred: Some("b"), ..SCENE },
            None,
        ),
        ("the own key is not there", Scene { owner: None, is_alive: false, ..SCENE }, None),
        ("lanes that were lost still run", Scene { owner: None, is_busy: true, ..SCENE }, None),
    ]);
}

#[test]
fn a_shard_that_names_this_dispatcher_and_is_not_held_is_taken_or_given_back() {
    let mine = Scene { owner: Some("me"), ..SCENE };
    check(vec![
        ("an answer got lost", Scene { ..mine }, take(fenced("me"))),
        ("its lanes still run", Scene { owner: Some("me"), is_busy: true, ..SCENE }, None),
        (
            "it is to be another's",
            Scene { owner: Some("me"), preferred: Some("b"), ..SCENE },
            Some(Step::GiveBack { shard: shard(), revision: 7 }),
        ),
        ("the own key is not there", Scene { owner: Some("me"), is_alive: false, ..SCENE }, None),
    ]);
}

#[test]
fn a_held_shard_is_kept_ended_and_given_back() {
    let held = |stage, preferred, is_busy| Scene {
        owner: Some("me"),
        held: Some((7, stage)),
        preferred: Some(preferred),
        is_busy,
        ..SCENE
    };
    check(vec![
        ("all is well", held(Stage::Working, "me", true), None),
        ("it is to be another's", held(Stage::Working, "b", true), Some(Step::End(shard()))),
        ("it was to be another's", held(Stage::Ending, "me", true), Some(Step::KeepOn(shard()))),
        ("its lanes still run", Scene { ended_ago: Some(Duration::ZERO), ..held(Stage::Ending, "b", true) }, None),
        (
            "its lanes run for long",
            Scene { ended_ago: Some(ENDING_PATIENCE), ..held(Stage::Ending, "b", true) },
            Some(Step::KeepOn(shard())),
        ),
        (
            "its lanes did not end, a moment ago",
            Scene { ended_ago: Some(ENDING_PATIENCE), ..held(Stage::Working, "b", true) },
            None,
        ),
        (
            "its lanes did not end, some time ago",
            Scene { ended_ago: Some(ENDING_PATIENCE + ENDING_RETRY), ..held(Stage::Working, "b", true) },
            Some(Step::End(shard())),
        ),
        ("its lanes have ended", held(Stage::Ending, "b", false), Some(Step::GiveBack { shard: shard(), revision: 7 })),
        (
            "the own key was lost, and is there again",
            held(Stage::Unconfirmed, "me", true),
            Some(Step::Confirm { shard: shard(), revision: 7 }),
        ),
        ("the own key is lost", Scene { is_alive: false, ..held(Stage::Unconfirmed, "me", true) }, None),
    ]);
}

#[test]
fn what_is_held_is_compared_with_the_record() {
    let stop = || Some(Step::StopWorking(shard()));
    for stage in [Stage::Working, Stage::Unconfirmed, Stage::Ending] {
        let held = |revision, owner| Scene { revision, owner, held: Some((7, stage)), is_alive: false, ..SCENE };
        check(vec![
            ("another one has it", held(8, Some("a")), stop()),
            ("nobody has it", held(8, None), stop()),
            ("somebody has written this dispatcher's name", held(8, Some("me")), stop()),
            ("the listing is old", held(6, Some("a")), None),
            ("the listing lacks it", held(0, None), None),
        ]);
    }
}

#[test]
fn nothing_is_taken_by_one_that_cannot_list_the_subscriptions() {
    let free = |readiness| Scene { owner: None, readiness, ..SCENE };
    let unserved = |readiness| Scene { owner: Some("me"), held: Some((7, Stage::Working)), readiness, ..SCENE };
    check(vec![
        ("it can", free(Ready::Yes), take(Takeover::Clean)),
        ("for a moment it cannot", free(Ready::FailingFor(5)), None),
        ("for a lease it cannot: another one can", free(Ready::FailingFor(6)), Some(Step::Withdraw)),
        ("a shard is held and not served", unserved(Ready::FailingFor(6)), Some(Step::Withdraw)),
        ("it may soon be", unserved(Ready::FailingFor(5)), None),
        ("its lanes run", unserved(Ready::FailingThoughServed), None),
        (
            "it has withdrawn, and holds a shard",
            Scene { preferred: Some("b"), ..unserved(Ready::No) },
            Some(Step::End(shard())),
        ),
        (
            "it has withdrawn, and has lost its key",
            Scene { held: Some((7, Stage::Unconfirmed)), preferred: Some("b"), is_alive: false, ..unserved(Ready::No) },
            Some(Step::StopWorking(shard())),
        ),
        (
            "it has withdrawn, and its lanes run",
            Scene { preferred: Some("b"), ..unserved(Ready::NoThoughServed) },
            None,
        ),
        (
            "it has withdrawn, its lanes run, and its key was lost and is there again",
            Scene { held: Some((7, Stage::Unconfirmed)), preferred: Some("b"), ..unserved(Ready::NoThoughServed) },
            Some(Step::Confirm { shard: shard(), revision: 7 }),
        ),
        (
            "it holds nothing any more",
            Scene { preferred: Some("b"), ..free(Ready::No) },
            Some(Step::Leave { revision: 3 }),
        ),
    ]);
}

#[test]
fn the_only_dispatcher_never_withdraws() {
    let now = Instant::now() + TTL;
    let records = Records::with([(shard(), ShardRecord::default())]);
    let gone = BTreeMap::new();
    let (preferred, none) = (|_| Some("me"), BTreeSet::new());
    let dispatchers =
        Dispatchers { preferred: &preferred, has_others: false, is_alone: true, long_unclear: &none, gone: &gone };
    let readiness = Readiness::Failing { listed_at: now - TTL, since: now - TTL };
    let me = Me { name: "me", revision: Some(3), ttl: TTL, readiness, busy: &BTreeSet::new() };
    assert_eq!(plan(&records, &dispatchers, &BTreeMap::new(), &me, now), []);
}

#[test]
fn one_that_leaves_gives_up_what_its_lanes_are_done_with() {
    let held = |stage, is_busy| Scene {
        owner: Some("me"),
        held: Some((7, stage)),
        preferred: Some("b"),
        is_busy,
        readiness: Ready::Leaving,
        ended_ago: Some(ENDING_PATIENCE),
        ..SCENE
    };
    check(vec![
        ("it works", held(Stage::Working, true), Some(Step::End(shard()))),
        ("a target hangs", held(Stage::Ending, true), None),
        ("its lanes have ended", held(Stage::Ending, false), Some(Step::GiveBack { shard: shard(), revision: 7 })),
        ("nobody is to have it", Scene { preferred: None, ..held(Stage::Working, true) }, Some(Step::End(shard()))),
        (
            "it holds nothing any more",
            Scene { held: None, owner: None, ..held(Stage::Working, false) },
            Some(Step::Leave { revision: 3 }),
        ),
    ]);
}

#[test]
fn a_shard_whose_record_cannot_be_read_counts_as_held_until_nobody_can_hold_it() {
    let unreadable =
        |is_long_unclear, is_alone| Scene { unclear: Some(Holder::Unknown), is_long_unclear, is_alone, ..SCENE };
    check(vec![
        ("another dispatcher lives", unreadable(true, false), None),
        ("one may have died a moment ago", unreadable(false, true), None),
        ("nobody else has lived for a lease", unreadable(true, true), take(Takeover::Fenced { from: None })),
        ("it was removed a moment ago", Scene { unclear: Some(Holder::Removed), ..unreadable(false, true) }, None),
        (
            "it was removed, and who held it has seen that",
            Scene { unclear: Some(Holder::Removed), ..unreadable(true, false) },
            take(Takeover::Fenced { from: None }),
        ),
        (
            "it is held, and somebody has written over it",
            Scene { revision: 8, held: Some((7, Stage::Working)), ..unreadable(true, true) },
            Some(Step::StopWorking(shard())),
        ),
    ]);
}
