//! The commands besides `mer serve`.
//!
//! - [`events`], [`subs`], [`dead`], [`trace`]: ask a running mer, with [`client`]; [`named`]: which subscription is meant.
//! - [`check`]: whether NATS is as mer needs it, and how to mend what is not.
//! - [`healthcheck`]: whether the mer that listens here is well.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod dead;
pub(crate) mod events;
pub(crate) mod healthcheck;
pub(crate) mod named;
pub(crate) mod subs;
pub(crate) mod trace;
