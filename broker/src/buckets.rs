//! The buckets: subscriptions, lanes, leases, and what is recorded of the log.

pub(crate) mod entry;
pub mod lanes;
pub mod leases;
pub mod log_records;
pub mod subscriptions;
