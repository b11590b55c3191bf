//! What a request says of the events of a subscription, as it is kept: with every start pinned to a sequence.

use std::collections::BTreeMap;

use domain::attributes::StartAt;
use domain::{Attributes, Entry, FieldError, Stamp, Subscription, SubscriptionId, TypePattern, field_error};
use web::Problem;

use crate::by_id::no_such;
use crate::requests::EventWanted;
use crate::start::{About, Refused, Starts};
use crate::{Registrar, unavailable};

/// Entries by what they want.
pub(super) type Entries = BTreeMap<TypePattern, Entry>;

/// The entries of a request. 422 where one begins where the log does not reach.
pub(super) async fn pinned(
    registrar: &Registrar,
    id: &SubscriptionId,
    events: &[EventWanted],
    now: Stamp,
) -> Result<Entries, Problem> {
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let events: BTreeMap<&TypePattern, &EventWanted> = events.iter().map(|event| (&event.pattern, event)).collect();
    let current = registrar.store.get(id).await.map_err(|error| unavailable(&error))?;
    let refused = |event: &EventWanted| {
        // What is registered with the same attributes already goes on as it is, wherever it once began.
        let earlier = current.as_ref().and_then(|current| current.entries.get(&event.pattern));
        let goes_on = earlier.is_some_and(|earlier| goes_on(earlier, &event.attributes));
        let Refused { about, detail } = starts.refused(&event.attributes).filter(|_| !goes_on)?;
        Some(match about {
            About::Time => FieldError::at(field_error::push(&event.pointer, "datetime_start"), detail),
            About::Position => FieldError::at(&event.start_pointer, detail),
        })
    };
    let faults: Vec<FieldError> = events.values().filter_map(|event| refused(event)).collect();
    if !faults.is_empty() {
        return Err(Problem::unacceptable(faults));
    }
    let mut entries = Entries::new();
    for (pattern, event) in events {
        let entry = starts.entry(&event.attributes).await.map_err(|error| unavailable(&error))?;
        entries.insert(pattern.clone(), entry);
    }
    Ok(entries)
}

/// All that is registered, with the same attributes but another start.
pub(super) async fn restarted(
    registrar: &Registrar,
    id: &SubscriptionId,
    start: StartAt,
) -> Result<Vec<EventWanted>, Problem> {
    let current = registrar.store.get(id).await.map_err(|error| unavailable(&error))?;
    let entries = current.ok_or_else(|| no_such(id))?.entries;
    let wanted = |(pattern, entry): (TypePattern, Entry)| EventWanted {
        pattern,
        attributes: Attributes { start: Some(start), datetime_start: None, ..entry.attributes },
        pointer: String::new(),
        start_pointer: "/start".to_owned(),
    };
    Ok(entries.into_iter().map(wanted).collect())
}

/// Whether what is registered goes on as it is, as the same is said again. A stated position is one each time.
fn goes_on(earlier: &Entry, attributes: &Attributes) -> bool {
    earlier.attributes.say_the_same_as(attributes) && attributes.stated_position().is_none()
}

/// The entries of a request, where one that is registered with the same attributes already goes on as it is.
pub(super) fn merged(current: &Subscription, entries: &Entries) -> Entries {
    let merge = |(pattern, entry): (&TypePattern, &Entry)| {
        let entry = match current.entries.get(pattern) {
            Some(earlier) if goes_on(earlier, &entry.attributes) => earlier.said_again(entry),
            _ => current.admits(pattern, entry),
        };
        (pattern.clone(), entry)
    };
    entries.iter().map(merge).collect()
}

/// What a call that registers brings about.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Effect {
    /// Events from before it are delivered because of it.
    pub(super) replays: bool,
    /// Something was registered so already, and goes on.
    pub(super) repeats: bool,
}

impl Effect {
    /// What comes of these entries, where those `before` were registered.
    pub(super) fn of(before: &Entries, now: &Entries) -> Self {
        let goes_on = |(pattern, entry): &(&TypePattern, &Entry)| {
            before.get(*pattern).is_some_and(|earlier| earlier.registration == entry.registration)
        };
        Self {
            replays: now.iter().any(|pair| !goes_on(&pair) && pair.1.from_sequence < pair.1.live_from),
            repeats: now.iter().any(|pair| goes_on(&pair)),
        }
    }
}
