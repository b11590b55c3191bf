//! The three buckets: subscriptions, lanes and leases.

mod entry;
pub mod lanes;
pub mod leases;
pub mod subscriptions;
