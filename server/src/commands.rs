//! The commands besides `mer serve`.
//!
//! - [`events`], [`log`], [`subs`], [`dead`], [`trace`], [`status`]: ask a running mer, with [`client`]; [`named`]: which
//!   subscription is meant; [`moment`], [`table`]: what people type, and read.
//! - [`check`]: whether NATS is as mer needs it, and how to mend what is not.
//! - [`healthcheck`]: whether the mer that listens here is well.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod dead;
pub(crate) mod events;
pub(crate) mod healthcheck;
pub(crate) mod log;
pub(crate) mod moment;
pub(crate) mod named;
pub(crate) mod status;
pub(crate) mod subs;
pub(crate) mod table;
pub(crate) mod trace;
