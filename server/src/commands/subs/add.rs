//! `mer subs add`: registering a URL, with every attribute that there is.

use clap::Args;
use domain::Stamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::client::{Api, ApiAccess};
use crate::commands::moment;
use crate::commands::named::Named;

/// What a registration says beside its types.
#[derive(Debug, Args)]
pub(crate) struct Attributes {
    /// From this moment on: 1h, yesterday, 2026-01-31, a stamp, or RFC 3339
    #[arg(long, value_parser = moment::parse)]
    from: Option<String>,
    /// Behind this sequence: the last one that the target has had
    #[arg(long, conflicts_with = "from")]
    after: Option<u64>,
    /// Up to this moment
    #[arg(long, value_parser = until)]
    to: Option<String>,
    /// For so many seconds
    #[arg(long, conflicts_with = "to")]
    expire_after: Option<f64>,
    /// Complete after so many
    #[arg(long)]
    count: Option<u64>,
    /// Only events of a transaction
    #[arg(long)]
    transaction: Option<String>,
    /// Lower goes first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<f64>,
    /// A key that a delivery has to have; several times for several keys
    #[arg(long = "requires", value_name = "KEY")]
    required_data: Vec<String>,
    /// Given back with each delivery: JSON
    #[arg(long, value_parser = json_of)]
    listener_data: Option<Value>,
    /// Begin though what lies there may have been removed from the log
    #[arg(long)]
    allow_gap: bool,
}

impl Attributes {
    fn into_json(self) -> Value {
        let mut attributes = json!({
            "datetime_start": self.from, "start_after": self.after, "datetime_end": self.to, "expire_after": self.expire_after,
            "count": self.count, "transaction_id": self.transaction, "priority": self.priority, "listener_data": self.listener_data,
        });
        if let Some(object) = attributes.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        if !self.required_data.is_empty() {
            attributes["required_data"] = self.required_data.into();
        }
        if self.allow_gap {
            attributes["allow_gap"] = true.into();
        }
        attributes
    }
}

pub(super) async fn add(
    api: &Api,
    access: &ApiAccess,
    target: &str,
    types: &[String],
    attributes: Attributes,
) -> anyhow::Result<()> {
    let mut pair = attributes.into_json();
    pair["url"] = target.into();
    let events: Vec<Value> = types.iter().map(|event| json!({"event": event, "urls_to_register": [pair]})).collect();
    let request = api.request(Method::POST, "/register_for_events/").json(&json!({"events_to_register": events}));
    let answer = api.json(request).await?;
    let named = Named::find(api, target).await?;
    access.show(&answer, |_| format!("registered as {}", named.id))
}

/// An end lies ahead as a rule: only what the API takes.
fn until(text: &str) -> Result<String, String> {
    Stamp::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn json_of(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))
}
