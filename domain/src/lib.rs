//! What an event, a registration and a lane are: pure values and the decisions over them.
//!
//! - [`stamp`]: a moment in microseconds, as a stamp or as RFC 3339; [`digits`]: numbers with leading zeros.
//! - [`event_type`], [`type_pattern`]: an event's name, and what a registration may ask for.
//! - [`cloud_event`]: an event as other systems send it.
//! - [`event_data`], [`header_value`], [`event`]: the payload, how an attribute travels in a header, and an event
//!   as it stands in the log.
//! - `json_object`: the members of data, whatever their keys are.
//! - [`trace_parent`], [`trace_state`]: which trace an event belongs to, and what its systems add.
//! - [`log_epoch`]: which log it is, and whether it is the continuation of the one before.
//! - [`log_holes`]: which sequences in the middle of the log hold no event.
//! - [`target_url`], [`attributes`]: where events go, and what a registration says beside; [`field_error`]: what is wrong
//!   with a request, and where.
//! - [`delivery_settings`]: how events are delivered to one URL.
//! - [`structured_event`]: an event as a delivery of many has it.
//! - [`dead_letter`]: an event that a subscription has given up on.
//! - [`required_data`]: filling in what an event lacks and a registration requires.
//! - [`shard`]: which dispatcher works on what.
//! - [`webhook_secret`], [`webhook_signature`]: what deliveries are signed with, and how.
//! - [`sealed`], [`signing_secret`]: how secrets are kept, and what rotating them does.
//! - [`subscription`], [`lane`]: what was asked for, and what is; [`lane::Lane::reconcile`] brings them together.
//!
//! This crate does no I/O and must not know tokio, NATS, HTTP servers or clients. Time comes in as a parameter.

pub mod attributes;
pub mod cloud_event;
pub mod dead_letter;
pub mod delivery_settings;
pub mod digits;
pub mod event;
pub mod event_data;
pub mod event_type;
pub mod field_error;
pub mod header_value;
mod json_object;
pub mod lane;
pub mod log_epoch;
pub mod log_holes;
pub mod required_data;
pub mod sealed;
pub mod shard;
pub mod signing_secret;
pub mod stamp;
pub mod structured_event;
pub mod subscription;
pub mod target_url;
pub mod trace_parent;
pub mod trace_state;
pub mod type_pattern;
pub mod webhook_secret;
pub mod webhook_signature;

pub use attributes::Attributes;
pub use cloud_event::CloudEvent;
pub use dead_letter::DeadLetter;
pub use event::Event;
pub use event_data::EventData;
pub use event_type::EventType;
pub use field_error::FieldError;
pub use lane::Lane;
pub use sealed::SealingKeys;
pub use shard::Shard;
pub use signing_secret::SigningSecret;
pub use stamp::{Stamp, StampClock};
pub use subscription::{Entry, Subscription};
pub use target_url::{SubscriptionId, TargetUrl};
pub use trace_parent::TraceParent;
pub use type_pattern::TypePattern;
pub use webhook_secret::{SecretType, WebhookSecret};
