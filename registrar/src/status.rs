//! How far a subscription has come: what the dispatcher has written of its lane, and what has been acknowledged since.

use std::collections::BTreeMap;

use broker::Unavailable;
use broker::feed::Standing;
use domain::lane::{self, Failure, Word};
use domain::subscription::Redelivery;
use domain::{Entry, Lane, Stamp, Subscription, SubscriptionId, TypePattern};

use web::HoleView;

use crate::Registrar;
use crate::answers::{Attempt, Fork, Gap, Progress, RedeliveryProgress, Status, Stopped, TestOutcome};

/// What is known of a subscription's lane at one moment.
pub struct Snapshot {
    lane: Option<Lane>,
    /// Everything up to here is acknowledged, as far as is known.
    position: u64,
    /// Events that the lane's filters let through and that are not acknowledged.
    lag: Option<u64>,
}

/// What a lane's state says, and what belongs to it.
struct Condition<'a> {
    state: Word,
    failure: Option<&'a Failure>,
    gap: Option<Gap>,
    fork: Option<Fork>,
    stopped: Option<Stopped>,
}

impl<'a> From<&'a Lane> for Condition<'a> {
    /// The one place of this crate that looks into a lane's state.
    fn from(lane: &'a Lane) -> Self {
        Self {
            state: lane.state.word(),
            failure: lane.state.failure(),
            gap: lane.state.gap().map(Gap::from),
            fork: lane.state.fork().map(Fork::from),
            stopped: lane.state.stop().map(Stopped::from),
        }
    }
}

/// Whether a lane has delivered all that its subscription wants.
pub(crate) fn is_completed(lane: &Lane) -> bool {
    Condition::from(lane).state == Word::Completed
}

impl Snapshot {
    /// Looks it up: what the dispatcher has written, and what has been acknowledged since, as the lane's consumer knows
    /// it, or the dispatcher itself where the lane follows the tail of the log.
    pub async fn read(
        registrar: &Registrar,
        id: &SubscriptionId,
        subscription: &Subscription,
    ) -> Result<Self, Unavailable> {
        let (_, lane) = registrar.lanes.get(id).await?;
        let consumer = registrar.feeds.standing(id).await?;
        let written = lane.as_ref().map_or(0, |lane| lane.position);
        let state = lane.as_ref().map(|lane| Condition::from(lane).state);
        let is_done = state == Some(Word::Completed) || subscription.entries.is_empty();
        let is_read = |consumer: &Standing| lane.as_ref().is_some_and(|lane| lane.epoch.to_string() == consumer.epoch);
        let (position, lag) = match (&consumer, state) {
            (Some(consumer), _) if is_read(consumer) => (consumer.floor, Some(consumer.undelivered)),
            (_, Some(Word::Active | Word::Held)) => {
                let live = registrar.feeds.live(id).await;
                // Where no dispatcher answers: what was to be delivered when it was last shown.
                (live.map_or(0, |live| live.position), live.map(|live| live.lag).or(shown(consumer.as_ref())))
            }
            (consumer, Some(_)) => (0, shown(consumer.as_ref())),
            (_, None) => (0, None),
        };
        Ok(Self { position: position.max(written), lag: lag.or(is_done.then_some(0)), lane })
    }

    /// Whether there is a lane, and it has delivered all that its subscription wants.
    pub fn is_completed(&self) -> bool {
        self.lane.as_ref().is_some_and(is_completed)
    }

    /// The next sequence of a redelivery request; beyond its last one when it is finished.
    pub fn next_of(&self, request: &Redelivery) -> u64 {
        let progress = self.lane.as_ref().and_then(|lane| lane.redelivery.as_ref());
        match progress.filter(|progress| progress.id == request.id) {
            None => request.from_sequence,
            Some(progress) if progress.next > request.to_sequence => progress.next,
            Some(progress) => progress.next.max(self.position + 1),
        }
    }

    /// How far each entry has come.
    fn progress_of(&self, subscription: &Subscription) -> BTreeMap<TypePattern, Progress> {
        let progress = |(pattern, entry): (&TypePattern, &Entry)| {
            let known = self.lane.as_ref().and_then(|lane| lane.entries.get(pattern));
            (pattern.clone(), Progress::of(entry, known))
        };
        subscription.entries.iter().map(progress).collect()
    }

    /// The status of the subscription, as it is answered.
    pub fn status_of(&self, subscription: &Subscription, now: Stamp) -> Status {
        let lane = self.lane.as_ref();
        let condition = lane.map(Condition::from);
        let state = match &condition {
            // A pause that the dispatcher does not know of yet is a pause, too.
            _ if subscription.paused => Word::Paused,
            Some(condition) => condition.state,
            None => Word::Active,
        };
        let failure = condition.as_ref().and_then(|condition| condition.failure);
        let waits = condition.map(|condition| (condition.gap, condition.fork, condition.stopped));
        let (gap, fork, stopped) = waits.unwrap_or_default();
        Status {
            state,
            phase: lane.map(|lane| lane.phase),
            position: self.position,
            lag: self.lag,
            last_delivered: lane.map_or(0, |lane| lane.last_delivered),
            events: self.progress_of(subscription),
            last_attempt: lane.and_then(|lane| last_attempt_of(lane, failure)),
            last_test: lane
                .and_then(|lane| lane.test.as_ref())
                .map(|test| TestOutcome::new(test.id.clone(), Some(test))),
            stopped,
            gap: gap.or_else(|| lacking(subscription)),
            fork,
            hole: lane.and_then(|lane| lane.hole.as_deref()).map(HoleView::from),
            replay: subscription
                .redelivery
                .as_ref()
                .map(|request| RedeliveryProgress::of(request, self.next_of(request), now)),
        }
    }
}

fn shown(consumer: Option<&Standing>) -> Option<u64> {
    consumer.map(|consumer| consumer.undelivered)
}

/// What had been removed of the log before a transaction was asked for as a whole.
fn lacking(subscription: &Subscription) -> Option<Gap> {
    let lacks = |entry: &Entry| {
        Some(lane::Gap { from_sequence: 1, to_sequence: entry.lacks_to?, noticed: entry.registered_at })
    };
    subscription.entries.values().filter_map(lacks).max_by_key(|gap| gap.to_sequence).map(Gap::from)
}

fn last_attempt_of(lane: &Lane, failure: Option<&Failure>) -> Option<Attempt> {
    let attempt = Attempt::from(lane.last_attempt.as_ref()?);
    Some(match failure {
        Some(failure) => attempt.with_next(failure.next_attempt),
        None => attempt,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// A value out of its stored form.
    fn stored<T: DeserializeOwned>(json: Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    fn subscription() -> Subscription {
        let sealed = "xchacha20poly1305:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let entry = |attributes: Value| json!({"registration": "r", "registered_at": "20260131093000.000000", "from_sequence": 1, "live_from": 3, "attributes": attributes});
        stored(json!({
            "url": "http://host/in", "group": "g", "paused": false,
            "entries": {
                "a": entry(json!({"priority": 100.0})),
                "b.*": entry(json!({"datetime_start": "20260131093000.000000", "datetime_end": "20270131093000.000000", "count": 3,
                    "transaction_id": "t", "priority": -0.5, "required_data": ["x", "y"], "listener_data": {"z": [1, 2.50, "é"], "a": null}, "allow_gap": true})),
            },
            "delivery": {"mode": "batched", "batch_max_events": 5, "timeout_ms": 7, "on_exhausted": "dead_letter"},
            "secrets": [
                {"type": "v1", "created": "20260131093000.000001", "expires": "99991231235959.000000", "sealed": sealed},
                {"type": "v1", "created": "20260131093000.000001", "expires": "20260131093000.000002", "sealed": sealed},
                {"type": "v1a", "created": "20260131093000.000002", "public_key": "whpk_AA==", "sealed": sealed},
            ],
            "replay": {"id": "p", "asked_at": "20200131093000.000000", "from_sequence": 2, "to_sequence": 11, "from": "20200131093000.000000", "to": null},
        }))
    }

    fn lane() -> Lane {
        stored(json!({
            "url": "http://host/in", "state": "held", "phase": "replaying", "position": 3, "last_delivered": 2, "epoch": "e",
            "filters": ["a", "b.*"], "clear_to": 0, "updated": "20260131093000.000000",
            "entries": {
                "a": {"registration": "r", "line": "r", "from_sequence": 1, "delivered": 2, "skipped": 1, "dead_lettered": 4, "completed": false},
                "b.*": {"registration": "r", "line": "r", "from_sequence": 1, "delivered": 0, "completed": true},
            },
            "failure": {"sequence": 4, "attempts": 2, "error": "answered 503", "next_attempt": "20260131093001.000000"},
            "last_attempt": {"sequence": 4, "to_sequence": 6, "at": "20260131093000.500000", "attempt": 2, "code": 503, "duration_ms": 12, "error": "answered 503", "answer": "over\"loaded"},
            "replay": {"id": "p", "next": 5},
            "test": {"id": "test", "attempt": {"sequence": 0, "at": "20260131093000.250000", "attempt": 1, "duration_ms": 3}},
        }))
    }

    /// The answer, byte for byte.
    fn shown(subscription: &Subscription, snapshot: &Snapshot) -> String {
        let id = SubscriptionId::parse("host-in_0123456789abcdef").unwrap();
        let now = Stamp::now();
        let status = snapshot.status_of(subscription, now);
        serde_json::to_string(&answers::Subscription::of(&id, subscription.clone(), status, now)).unwrap()
    }

    /// What is shown of a lane beside its state: the same in all tests that only change that.
    const EVENTS: &str = r#""events":{"a":{"delivered":2,"skipped":1,"dead_lettered":4,"completed":false,"from_sequence":1},"b.*":{"delivered":0,"skipped":0,"dead_lettered":0,"completed":true,"from_sequence":1}}"#;
    const ATTEMPT: &str = r#"{"sequence":4,"at":"2026-01-31T09:30:00.500000Z","attempt":2,"code":503,"duration_ms":12,"to_sequence":6,"error":"answered 503","answer":"over\"loaded""#;
    const TEST: &str = r#""last_test":{"id":"test","outcome":{"sequence":0,"at":"2026-01-31T09:30:00.250000Z","attempt":1,"code":null,"duration_ms":3}}"#;
    const DONE: &str =
        r#""replay":{"id":"p","from_sequence":2,"to_sequence":11,"done":10,"total":10,"is_finished":true}"#;
    const UNDER_WAY: &str = r#""replay":{"id":"p","from_sequence":2,"to_sequence":11,"done":3,"total":10,"is_finished":false,"rate_per_second":0.0}"#;

    #[test]
    fn a_subscription_without_a_lane_is_active_and_has_no_phase() {
        let subscription = stored(json!({"url": "http://host/in", "entries": {}}));
        let snapshot = Snapshot { lane: None, position: 0, lag: Some(0) };
        assert_eq!(
            shown(&subscription, &snapshot),
            r#"{"id":"host-in_0123456789abcdef","url":"http://host/in","group":null,"events":[],"delivery":{"mode":"ordered"},"secrets":[],"status":{"state":"active","phase":null,"position":0,"lag":0,"last_delivered":0,"events":{},"last_attempt":null}}"#
        );
    }

    #[test]
    fn all_that_there_is_of_a_subscription_is_shown_in_its_order() {
        let snapshot = Snapshot { lane: Some(lane()), position: 3, lag: Some(8) };
        let start = r#"{"id":"host-in_0123456789abcdef","url":"http://host/in","group":"g","events":[{"type":"a","priority":100.0},{"type":"b.*","datetime_start":"20260131093000.000000","datetime_end":"20270131093000.000000","count":3,"transaction_id":"t","priority":-0.5,"required_data":["x","y"],"listener_data":{"z":[1,2.5,"é"],"a":null},"allow_gap":true}],"delivery":{"mode":"batched","batch_max_events":5,"timeout_ms":7,"on_exhausted":"dead_letter"},"secrets":[{"type":"v1","created":"2026-01-31T09:30:00.000001Z","expires":"9999-12-31T23:59:59.000000Z"},{"type":"v1a","created":"2026-01-31T09:30:00.000002Z","expires":null,"public_key":"whpk_AA=="}],"#;
        assert_eq!(
            shown(&subscription(), &snapshot),
            format!(
                r#"{start}"status":{{"state":"held","phase":"replaying","position":3,"lag":8,"last_delivered":2,{EVENTS},"last_attempt":{ATTEMPT},"next_attempt":"2026-01-31T09:30:01.000000Z"}},{TEST},{UNDER_WAY}}}}}"#
            )
        );
    }

    #[test]
    fn an_entry_that_its_lane_does_not_know_yet_is_shown_with_where_it_begins() {
        let mut subscription = subscription();
        let mut entry = subscription.entries.pop_first().unwrap().1;
        (entry.registration, entry.from_sequence) = ("r2".into(), 7);
        subscription.entries =
            [(TypePattern::parse("c").unwrap(), entry.clone()), (TypePattern::parse("a").unwrap(), entry)].into();
        let snapshot = Snapshot { lane: Some(lane()), position: 3, lag: None };
        let shown = serde_json::to_value(snapshot.status_of(&subscription, Stamp::now())).unwrap();
        let nothing = json!({"delivered": 0, "skipped": 0, "dead_lettered": 0, "completed": false, "from_sequence": 7});
        assert_eq!(shown["events"], json!({"a": nothing, "c": nothing}));
    }

    #[test]
    fn what_waits_says_why() {
        let waits = |state: &str, more: Value| {
            let mut lane = serde_json::to_value(lane()).unwrap();
            lane["state"] = state.into();
            lane["failure"] = Value::Null;
            for (name, value) in more.as_object().unwrap() {
                lane[name] = value.clone();
            }
            let snapshot = Snapshot { lane: Some(stored(lane)), position: 11, lag: None };
            serde_json::to_string(&snapshot.status_of(&subscription(), Stamp::now())).unwrap()
        };
        let start = |state: &str| {
            format!(
                r#"{{"state":"{state}","phase":"replaying","position":11,"lag":null,"last_delivered":2,{EVENTS},"last_attempt":"#
            )
        };
        let gap = json!({"gap": {"from_sequence": 4, "to_sequence": 9, "noticed": "20260131093002.000000"}, "replay": {"id": "p", "next": 12}});
        assert_eq!(
            waits("gap", gap),
            start("gap")
                + ATTEMPT
                + "},"
                + TEST
                + r#","gap":{"from_sequence":4,"to_sequence":9,"noticed":"2026-01-31T09:30:02.000000Z"},"#
                + DONE
                + "}"
        );
        let fork = json!({
            "gap": {"from_sequence": 10, "to_sequence": 9, "noticed": "20260131093002.000000"}, "replay": {"id": "p", "next": 12},
            "forked": {"shared_to": 9, "was_at": 11, "epoch": "00c0ffee", "noticed": "20260131093002.000000"},
        });
        assert_eq!(
            waits("gap", fork),
            start("forked")
                + ATTEMPT
                + "},"
                + TEST
                + r#","fork":{"shared_to":9,"was_at":11,"epoch":"00c0ffee","noticed":"2026-01-31T09:30:02.000000Z"},"#
                + DONE
                + "}"
        );
        let hole = json!({
            "gap": {"from_sequence": 4, "to_sequence": 9, "noticed": "20260131093002.000000"}, "replay": {"id": "p", "next": 12},
            "hole": {"from_sequence": 4, "to_sequence": 9, "missing": 6, "reason": "lost", "noticed": "20260131093002.000000"},
        });
        let shown_hole = r#"{"from_sequence":4,"to_sequence":9,"missing":6,"reason":"lost","noticed":"2026-01-31T09:30:02.000000Z"}"#;
        assert!(waits("gap", hole).contains(&format!(
            r#""gap":{{"from_sequence":4,"to_sequence":9,"noticed":"2026-01-31T09:30:02.000000Z"}},"hole":{shown_hole},"replay""#
        )));
        let stopped = |why: &str| json!({"why": why, "sequence": 5, "at": "20260131093002.000000"});
        let shown_stop =
            |why: &str| format!(r#","stopped":{{"why":"{why}","sequence":5,"at":"2026-01-31T09:30:02.000000Z"}},"#);
        assert_eq!(
            waits("gone", json!({"stopped": stopped("gone"), "last_attempt": null})),
            start("gone") + "null," + TEST + &shown_stop("gone") + DONE + "}"
        );
        assert_eq!(
            waits("paused", json!({"stopped": stopped("exhausted")})),
            start("paused") + ATTEMPT + "}," + TEST + &shown_stop("exhausted") + DONE + "}"
        );
        let failure = json!({"sequence": 4, "attempts": 2, "error": "x"});
        assert_eq!(
            waits("held", json!({"failure": failure})),
            start("held") + ATTEMPT + r#","next_attempt":null},"# + TEST + "," + DONE + "}"
        );
        assert_eq!(
            waits("completed", json!({"test": {"id": "test", "attempt": null}})),
            start("completed") + ATTEMPT + r#"},"last_test":{"id":"test","outcome":null},"# + DONE + "}"
        );
    }

    #[test]
    fn a_transaction_whose_past_may_have_been_removed_is_shown_with_the_gap() {
        let mut subscription = subscription();
        subscription.entries.values_mut().for_each(|entry| entry.lacks_to = Some(7));
        let snapshot = Snapshot { lane: None, position: 0, lag: None };
        let status = serde_json::to_value(snapshot.status_of(&subscription, Stamp::now())).unwrap();
        let gap = json!({"from_sequence": 1, "to_sequence": 7, "noticed": "2026-01-31T09:30:00.000000Z"});
        assert_eq!((&status["state"], &status["gap"]), (&json!("active"), &gap));
    }

    #[test]
    fn a_pause_that_the_dispatcher_has_not_heard_of_is_shown() {
        let subscription = Subscription { paused: true, ..subscription() };
        let snapshot = Snapshot { lane: Some(lane()), position: 3, lag: None };
        let status = serde_json::to_string(&snapshot.status_of(&subscription, Stamp::now())).unwrap();
        assert!(status.starts_with(r#"{"state":"paused","phase":"replaying","position":3,"#), "{status}");
    }
}
