//! NATS JetStream, and the only crate that names it: streams, buckets and consumers in the words of `domain`.
//!
//! The rooms, the lowest first; a room uses only those above it in this list, but for what is said of `poison`:
//!
//! - [`Unavailable`]: the error; [`Reminder`]: how often to tell of what lasts; [`names`]: streams, buckets and subjects; [`settings`]: how to reach NATS.
//! - `topology`: which streams and buckets there are, with what settings, and making them.
//! - [`connection`]: one connection, kept up; asking JetStream over it.
//! - [`log`]: the stream `EVENTS`: reading it, finding a place in it, adding to it.
//! - `poison`: messages that the client library cannot read. `connection` notes how often it is lost in `poison::detection`,
//!   and `log` reads headers by `poison::header_block`; these two use no other room.
//! - [`consumer`]: one URL's durable consumer, and readers of the log for many lanes.
//! - [`buckets`]: subscriptions, lanes, leases, and what is recorded of the log.
//! - [`streams`]: the streams beside the log: dead letters, attempts and positions.
//! - [`check`]: whether NATS is as mer needs it, for `mer check`.
//!
//! The crate must not know HTTP, targets, or what is done with an event. Other crates name a file without its room:
//! `broker::lanes`, `broker::feed`.

pub mod buckets;
pub mod check;
pub mod connection;
pub mod consumer;
mod error;
pub mod log;
pub mod names;
mod poison;
mod reminder;
pub mod settings;
pub mod streams;
mod topology;

pub use buckets::{lanes, leases, log_records, subscriptions};
pub use connection::{Broker, Cause, Disk, DiskState, Failure, Link, LogGate, Storage, metrics};
pub use consumer::{feed, live, log_reader, log_scan};
pub use error::Unavailable;
pub use log::{batch, event_log, group_commit, store};
pub use reminder::Reminder;
pub use settings::credentials::{Credentials, Tls};
pub use settings::limits::{Discard, Limits};
pub use settings::{BadConfig, Config};
pub use streams::{attempts, dead_letters, positions};
