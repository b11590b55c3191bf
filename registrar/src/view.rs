//! A subscription as it is read by a user: what was asked for, and how far it has come.

use broker::Unavailable;
use broker::feed::Standing;
use domain::lane::{Attempt, TestOutcome, Word};
use domain::subscription::Redelivery;
use domain::{Lane, SigningSecret, Stamp, Subscription, SubscriptionId};
use serde_json::{Map, Value, json};

use crate::Registrar;

/// How a subscription stands.
pub struct Status {
    lane: Option<Lane>,
    /// Everything up to here is acknowledged, as far as is known.
    position: u64,
    /// Events that the lane's filters let through and that are not acknowledged.
    lag: Option<u64>,
}

impl Status {
    /// Looks it up: what the dispatcher has written, and what has been acknowledged since, as the lane's consumer knows
    /// it, or the dispatcher itself where the lane follows the tail of the log.
    pub async fn read(
        registrar: &Registrar,
        id: &SubscriptionId,
        subscription: &Subscription,
    ) -> Result<Self, Unavailable> {
        let (_, lane) = registrar.lanes.get(id).await?;
        let standing = registrar.feeds.standing(id).await?;
        let written = lane.as_ref().map_or(0, |lane| lane.position);
        let is_done =
            lane.as_ref().is_some_and(|lane| lane.state.word() == Word::Completed) || subscription.entries.is_empty();
        let is_read = |standing: &Standing| lane.as_ref().is_some_and(|lane| lane.epoch.to_string() == standing.epoch);
        let (position, lag) = match (&standing, &lane) {
            (Some(standing), _) if is_read(standing) => (standing.floor, Some(standing.undelivered)),
            (_, Some(lane)) if lane.state.is_at_work() => {
                let live = registrar.feeds.live(id).await;
                // Where nobody answers: what was to be delivered when it was last shown.
                (live.map_or(0, |live| live.position), live.map(|live| live.lag).or(shown(standing.as_ref())))
            }
            (standing, Some(_)) => (0, shown(standing.as_ref())),
            (_, None) => (0, None),
        };
        Ok(Self { position: position.max(written), lag: lag.or(is_done.then_some(0)), lane })
    }

    /// The lane's state, where there is a lane.
    pub fn state(&self) -> Option<Word> {
        self.lane.as_ref().map(|lane| lane.state.word())
    }

    /// The next sequence of a replay; beyond its last one when it is finished.
    pub fn next_of(&self, replay: &Redelivery) -> u64 {
        let progress = self.lane.as_ref().and_then(|lane| lane.redelivery.as_ref());
        match progress.filter(|progress| progress.id == replay.id) {
            None => replay.from_sequence,
            Some(progress) if progress.next > replay.to_sequence => progress.next,
            Some(progress) => progress.next.max(self.position + 1),
        }
    }
}

fn shown(standing: Option<&Standing>) -> Option<u64> {
    standing.map(|standing| standing.undelivered)
}

/// `{"id","url","group","events":[…],"delivery":{…},"secrets":[…],"status":{…}}`.
pub fn of(id: &SubscriptionId, subscription: &Subscription, status: &Status) -> Value {
    let events: Vec<Value> = subscription
        .entries
        .iter()
        .map(|(pattern, entry)| {
            let mut event = Map::from_iter([("type".to_owned(), Value::from(pattern.as_str()))]);
            if let Ok(Value::Object(attributes)) = serde_json::to_value(&entry.attributes) {
                event.extend(attributes);
            }
            Value::Object(event)
        })
        .collect();
    let now = Stamp::now();
    let secrets: Vec<Value> =
        subscription.secrets.iter().filter(|secret| secret.is_current(now)).map(of_secret).collect();
    json!({
        "id": id,
        "url": subscription.url,
        "group": subscription.group,
        "events": events,
        "delivery": subscription.delivery,
        "secrets": secrets,
        "status": status_of(subscription, status),
    })
}

/// `{"type","created","expires","public_key"}`; the last one where there is one. Never the secret.
fn of_secret(secret: &SigningSecret) -> Value {
    let mut view = json!({
        "type": secret.kind,
        "created": secret.created.to_rfc3339(),
        "expires": secret.expires.map(Stamp::to_rfc3339),
    });
    if let Some(public_key) = &secret.public_key {
        view["public_key"] = public_key.as_str().into();
    }
    view
}

fn status_of(subscription: &Subscription, status: &Status) -> Value {
    let lane = status.lane.as_ref();
    // A pause that the dispatcher has not heard of yet is one all the same.
    let state = if subscription.paused { Word::Paused } else { lane.map_or(Word::Active, |lane| lane.state.word()) };
    let mut view = json!({
        "state": state,
        "phase": lane.map(|lane| lane.phase),
        "position": status.position,
        "lag": status.lag,
        "last_delivered": lane.map_or(0, |lane| lane.last_delivered),
        "events": lane.map_or_else(Map::new, progress_of),
        "last_attempt": lane.and_then(last_attempt_of),
    });
    if let Some(test) = lane.and_then(|lane| lane.test.as_ref()) {
        view["last_test"] = of_test(&test.id, Some(test));
    }
    if let Some(stop) = lane.and_then(|lane| lane.state.stop()) {
        view["stopped"] = json!({"why": stop.why, "sequence": stop.sequence, "at": stop.at.to_rfc3339()});
    }
    if let Some(gap) = lane.and_then(|lane| lane.state.gap()) {
        view["gap"] = json!({
            "from_sequence": gap.from_sequence,
            "to_sequence": gap.to_sequence,
            "noticed": gap.noticed.to_rfc3339(),
        });
    }
    if let Some(replay) = &subscription.redelivery {
        let total = (replay.to_sequence + 1).saturating_sub(replay.from_sequence);
        let done = status.next_of(replay).saturating_sub(replay.from_sequence).min(total);
        let seconds = (Stamp::now().as_micros() - replay.asked_at.as_micros()).max(1) as f64 / 1e6;
        view["replay"] = json!({
            "from_sequence": replay.from_sequence,
            "to_sequence": replay.to_sequence,
            "done": done,
            "total": total,
            "is_finished": done == total,
        });
        if done < total {
            view["replay"]["rate_per_second"] = json!((done as f64 / seconds).round());
        }
    }
    view
}

fn progress_of(lane: &Lane) -> Map<String, Value> {
    let progress = lane.entries.iter().map(|(pattern, progress)| {
        let counts = json!({
            "delivered": progress.delivered,
            "skipped": progress.skipped,
            "dead_lettered": progress.dead_lettered,
            "completed": progress.completed,
        });
        (pattern.to_string(), counts)
    });
    progress.collect()
}

/// `{"id","outcome"}`: the outcome is null where nothing has come of it.
pub(crate) fn of_test(id: &str, outcome: Option<&TestOutcome>) -> Value {
    let attempt = outcome.and_then(|outcome| outcome.attempt.as_ref());
    json!({"id": id, "outcome": attempt.map(attempt_of)})
}

fn last_attempt_of(lane: &Lane) -> Option<Value> {
    let mut view = attempt_of(lane.last_attempt.as_ref()?);
    if let Some(failure) = lane.state.failure() {
        view["next_attempt"] = failure.next_attempt.map(Stamp::to_rfc3339).into();
    }
    Some(view)
}

/// `{"sequence","at","attempt","code","duration_ms","to_sequence","error","answer"}`; the last two where it failed, the one
/// before them where it was a batch.
pub(crate) fn attempt_of(attempt: &Attempt) -> Value {
    let mut view = json!({
        "sequence": attempt.sequence,
        "at": attempt.at.to_rfc3339(),
        "attempt": attempt.attempt,
        "code": attempt.code,
        "duration_ms": attempt.duration_ms,
    });
    if let Some(to_sequence) = attempt.to_sequence {
        view["to_sequence"] = to_sequence.into();
    }
    for (name, text) in [("error", &attempt.error), ("answer", &attempt.answer)] {
        if let Some(text) = text {
            view[name] = text.as_str().into();
        }
    }
    view
}
