//! NATS JetStream, and the only crate that names it: streams, buckets and consumers in the words of `domain`.
//!
//! - [`connection`]: one connection, kept up; whoever must know hears of each new one.
//! - `handles`: what the client library gives for it.
//! - `pulse`, `rotation`: when to leave a server of a cluster, and which one comes next.
//! - [`access`]: credentials and TLS.
//! - [`topology`]: which objects there are, and making them.
//! - [`check`]: whether all of it is as it should be, for whoever looks.
//! - [`limits`]: what bounds the log.
//! - `monitoring`: what tells the NATS CLI what to look for.
//! - [`event_log`]: the stream `EVENTS`: reading, looking up by time and by sequence.
//! - [`store`], [`batch`]: adding to it: an event, or several or none; `publish`: one message, and what JetStream says of it.
//! - [`intake`]: adding events that come in at the same time, together where that is faster (`pace`).
//! - [`subscriptions`], [`lanes`]: the two buckets: what was asked for, and what is.
//! - [`leases`]: the bucket by which dispatchers share their work.
//! - [`attempts`]: the stream `ATTEMPTS`: what came of deliveries, for whoever looks.
//! - [`dead_letters`]: the stream `DEAD_LETTERS`: events that a subscription has given up on.
//! - [`metrics`]: the connection's state, as it is seen from outside.
//! - [`feed`]: one URL's durable consumer, read gap-free and in order from a position; `pull`: asking for its messages;
//!   `acknowledgement`: what the server says of each, and how it is told that one is done.
//! - `suspicion`: whether a message that cannot be read ends the connection; `lookout`: looking at what is asked for, by `look`
//!   and `header_block`, before it is.
//! - [`tail`]: the end of the log, read once for all URLs that have caught up; [`positions`]: the stream `POSITIONS`, how
//!   far those have come; [`live`]: asking the dispatcher how far.
//!
//! Nothing here knows HTTP, targets, or what is done with an event.

pub mod access;
mod acknowledgement;
pub mod attempts;
pub mod batch;
mod bucket;
pub mod check;
pub mod connection;
pub mod dead_letters;
mod direct_get;
mod error;
pub mod event_log;
pub mod feed;
mod handles;
mod header_block;
pub mod intake;
pub mod lanes;
pub mod leases;
pub mod limits;
pub mod live;
mod look;
mod lookout;
pub mod metrics;
mod monitoring;
mod pace;
pub mod positions;
mod publish;
mod pull;
mod pulse;
mod rotation;
pub mod store;
pub mod subscriptions;
mod suspicion;
pub mod tail;
pub mod topology;

pub use access::{Credentials, Tls};
pub use connection::{Broker, Config, Link};
pub use error::Unavailable;
pub use limits::{Discard, Limits};
