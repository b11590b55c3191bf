//! From the log to the targets: a lane per URL, each event pushed in order until the target has it.
//!
//! - `assembly`: the parts, put together and run. `supervisor`: which lanes there are: one per subscription, started,
//!   told of changes, and ended. `shared`: what every lane's worker shares.
//! - `worker`: one lane at work: reads from a source, pushes, and carries out what `domain::Lane` decides.
//! - `log_watch`: whether the log is the one that it was: looked at again and again, by content.
//! - `source`: where lanes read. `push`: one request to a target. `ownership`: the shards this dispatcher works on.
//! - `attempts`: what came of attempts, written once a second; `metrics`: what is counted.
//! - `failpoints`: ways to break all this, in builds for tests that show that it would be noticed.
//!
//! Only this crate writes `LANES`. It must not know the receiver, the registrar, or what an event means. What a target
//! does to one lane must never be felt by another.

mod assembly;
mod attempts;
mod failpoints;
mod log_watch;
mod metrics;
mod ownership;
mod push;

mod session;
mod shared;
mod source;
mod supervisor;
mod worker;

pub use assembly::{Dispatcher, run};
pub use metrics::Metrics;
pub use push::egress::{EgressPolicy, Guard};
pub use push::target_client::Pusher;
