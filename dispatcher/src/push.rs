//! One request to a target: what it carries, whether it may go, how it goes, and what its answer means.
//!
//! - `delivery_request`: the headers and body of an event, a batch or a test; `signer`: what they are signed with;
//!   `span`: what a collector of traces is told.
//! - `permits`: which delivery goes first where many wait.
//! - `target_client`: the requests to one target, over its own connections.
//! - `egress`: which addresses may be dialled, pure; `resolver`: from a name to those of its addresses.
//! - `verdict`, `retry_after`, `backoff`: what an answer means, and how long to wait, pure.
//!
//! It knows nothing of lanes and their positions, of the log, or of NATS.

pub(crate) mod backoff;
pub(crate) mod delivery_request;
pub(crate) mod egress;
pub(crate) mod permits;
mod resolver;
pub(crate) mod retry_after;
pub(crate) mod signer;
pub(crate) mod span;
pub(crate) mod target_client;
pub(crate) mod verdict;
