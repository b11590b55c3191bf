//! The names of streams and buckets, and what their subjects start with. They are part of the contract: nothing here changes.

/// The stream that every event is in.
pub const EVENTS: &str = "EVENTS";
/// The stream of events that a subscription has given up on.
pub const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// The stream of what came of the last attempts to deliver.
pub const ATTEMPTS: &str = "ATTEMPTS";
/// The stream of how far lanes have come, moment by moment.
pub const POSITIONS: &str = "POSITIONS";

/// The bucket of subscriptions: what each URL is registered for. Only the registrar writes it.
pub const SUBSCRIPTIONS: &str = "SUBSCRIPTIONS";
/// The bucket of lanes: how far each URL's deliveries have come. Only the dispatcher writes it.
pub const LANES: &str = "LANES";
/// The bucket of the log's names, checkpoints and holes. Only dispatchers write it.
pub const LOG: &str = "LOG";
/// The bucket of leases, by which dispatchers share their work.
pub const LEASES: &str = "LEASES";

/// The key of `LOG` that the log's names and checkpoints are under.
pub(crate) const RECORD: &str = "record";
/// The key of `LOG` that the log's holes are under.
pub(crate) const HOLES: &str = "holes";
/// What every subject of `ATTEMPTS` starts with; the subscription's id follows.
pub(crate) const ATTEMPTS_PREFIX: &str = "attempts.";
/// What every subject of `POSITIONS` starts with; the dispatcher's name follows.
pub(crate) const POSITIONS_PREFIX: &str = "positions.";
