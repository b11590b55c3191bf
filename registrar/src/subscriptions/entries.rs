//! What a request says of the events of a subscription, as it is kept: with every start pinned to a sequence.

use std::collections::BTreeMap;

use domain::{Attributes, Entry, FieldError, Stamp, Subscription, SubscriptionId, TypePattern, field_error};
use web::Problem;

use crate::requests::EventWanted;
use crate::start::Starts;
use crate::{Registrar, unavailable};

/// Entries by what they want.
type Entries = BTreeMap<TypePattern, Entry>;

/// The entries of a request. 422 where one begins where the log has been cut.
pub(super) async fn pinned(
    registrar: &Registrar,
    id: &SubscriptionId,
    events: &[EventWanted],
    now: Stamp,
) -> Result<Entries, Problem> {
    let mut starts = Starts::pin(&registrar.log, now).await.map_err(|error| unavailable(&error))?;
    let events: BTreeMap<&TypePattern, &EventWanted> = events.iter().map(|event| (&event.pattern, event)).collect();
    let current = registrar.store.get(id).await.map_err(|error| unavailable(&error))?;
    let gap = |event: &EventWanted| {
        // What is registered with the same attributes already goes on as it is, wherever it once began.
        let goes_on = current.as_ref().is_some_and(|current| is_in(current, &event.pattern, &event.attributes));
        let detail = starts.gap(&event.attributes).filter(|_| !goes_on)?;
        Some(FieldError::at(field_error::push(&event.pointer, "datetime_start"), detail))
    };
    let gaps: Vec<FieldError> = events.values().filter_map(|event| gap(event)).collect();
    if !gaps.is_empty() {
        return Err(Problem::unacceptable(gaps));
    }
    let mut entries = Entries::new();
    for (pattern, event) in events {
        let entry = starts.entry(&event.attributes).await.map_err(|error| unavailable(&error))?;
        entries.insert(pattern.clone(), entry);
    }
    Ok(entries)
}

fn is_in(current: &Subscription, pattern: &TypePattern, attributes: &Attributes) -> bool {
    current.entries.get(pattern).is_some_and(|entry| entry.attributes == *attributes)
}

/// The entries of a request, where one that is registered with the same attributes already goes on as it is.
pub(super) fn merged(current: &Subscription, entries: &Entries) -> Entries {
    let merge = |(pattern, entry): (&TypePattern, &Entry)| {
        let entry = match current.entries.get(pattern) {
            Some(earlier) if earlier.attributes == entry.attributes => earlier.clone(),
            _ => current.admits(pattern, entry),
        };
        (pattern.clone(), entry)
    };
    entries.iter().map(merge).collect()
}
