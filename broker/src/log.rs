//! The stream `EVENTS`: reading it, finding a place in it, and adding to it.

pub mod batch;
mod batching_policy;
pub mod event_log;
pub mod group_commit;
mod holes;
pub(crate) mod lookup;
pub(crate) mod message;
mod moments;
pub mod store;
