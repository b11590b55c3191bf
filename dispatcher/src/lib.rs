//! From the log to the targets: a lane per URL, each event pushed in order until the target has it.
//!
//! - [`fleet`]: which lanes there are: one per subscription, started, told of changes, and ended.
//! - `worker`: one lane: its states, each an async method; reads its feed and carries out what `domain::Lane` decides.
//! - [`push`]: one request to a target, the lane's connections, and what came of it; `parcel`: what it carries.
//! - [`signer`]: what it is signed with.
//! - [`egress`]: which addresses may be dialled: pure. `resolver`: from a name to those of its addresses.
//! - `tenure`, `process`: which shards this dispatcher works on, among several; which of them has died.
//! - `extent`: where the log begins and ends, so that what retention removes is noticed.
//! - `tail`: the end of the log, read once for all lanes that have caught up; `journal`: how far those have come;
//!   `replays`: the past, read once for lanes that want the same of it; `queue`: what waits for one of those; `recent`: what
//!   was read last; `standings`: how those stand.
//! - `attempts`: what came of attempts, collected and written once a second.
//! - [`metrics`]: what is counted, and what lanes show of themselves; `span`: what a collector of traces is told.
//! - `permits`: who goes first when deliveries wait; `transactions`: earlier events of one, for `required_data`.
//! - [`verdict`], `retry_after`, [`backoff`]: what an answer means, and how long to wait: pure.
//! - `sabotage`: ways to break all this, in builds for tests that show that it would be noticed.
//!
//! Only this crate writes `LANES`. It must not know the receiver, the registrar, or what an event means. What a target
//! does to one lane must never be felt by another.

mod attempts;
pub mod backoff;
pub mod egress;
mod extent;
pub mod fleet;
mod journal;
pub mod metrics;
pub mod parcel;
mod permits;
mod process;
pub mod push;
mod queue;
mod recent;
mod replays;
mod resolver;
mod retry_after;
mod sabotage;
pub mod signer;
mod span;
mod standings;
mod tail;
mod tenure;
mod transactions;
pub mod verdict;
mod worker;

pub use egress::{EgressPolicy, Guard};
pub use fleet::{Dispatcher, run};
pub use metrics::Metrics;
pub use push::{Courier, Pusher};
