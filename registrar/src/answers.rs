//! What the registrar answers: each type is serialised as it is, and describes itself for OpenAPI.
//!
//! - `registrations`: the answers of the two original calls.
//! - `subscription`: a subscription, and its secrets; `status`: how far it has come.
//! - `dead_letters`: events that were given up.

mod dead_letters;
mod registrations;
mod status;
mod subscription;

pub use dead_letters::{DeadLetter, DeadLetterPage};
pub use registrations::{Pairs, Registered, Unregistered};
pub use status::{Attempt, Attempts, Fork, Gap, Progress, RedeliveryProgress, Status, Stopped, TestOutcome};
pub use subscription::{EventShown, NewSecret, Secret, Subscription, SubscriptionPage};
