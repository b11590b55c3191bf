//! `GET /v1/subscriptions`: pages of subscriptions.

use std::sync::Arc;

use axum::extract::{RawQuery, State as Extract};
use axum::response::Json;
use domain::{Subscription, SubscriptionId};
use futures_util::{StreamExt, TryStreamExt, stream};
use web::openapi::{AccessProblems, NatsProblems, ValueProblems};
use web::{Problem, query};

use super::shown;
use crate::answers::SubscriptionPage;
use crate::{Registrar, unavailable};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// How many statuses are looked up at a time.
const LOOK_UPS: usize = 16;

/// List subscriptions with their statuses, by id
#[utoipa::path(
    get,
    operation_id = "list_subscriptions",
    path = "/v1/subscriptions",
    tag = "Subscriptions",
    params(
        ("group" = Option<String>, Query, description = "Only subscriptions of this group"),
        ("after" = Option<String>, Query, description = "Only subscriptions whose id sorts behind this one"),
        ("limit" = Option<u64>, Query, description = "How many subscriptions a page has at most; 100 where it is left out", minimum = 1, maximum = 1000),
    ),
    responses((status = 200, description = "A page of subscriptions", body = SubscriptionPage), ValueProblems, NatsProblems, AccessProblems),
)]
pub async fn list(
    Extract(registrar): Extract<Arc<Registrar>>,
    RawQuery(query): RawQuery,
) -> Result<Json<SubscriptionPage>, Problem> {
    let query = Query::parse(query.as_deref())?;
    let mut all = registrar.store.list().await.map_err(|error| unavailable(&error))?;
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut wanted: Vec<_> = all.into_iter().filter(|(id, subscription)| query.wants(id, subscription)).collect();
    let next = (wanted.len() > query.limit).then(|| wanted[query.limit - 1].0.clone());
    wanted.truncate(query.limit);
    let page = stream::iter(wanted).map(async |(id, subscription)| shown(&registrar, &id, subscription).await);
    let subscriptions = page.buffered(LOOK_UPS).try_collect().await.map_err(|error| unavailable(&error))?;
    Ok(Json(SubscriptionPage { subscriptions, next }))
}

/// Which subscriptions a request wants.
struct Query {
    group: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Query {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self { group: None, after: None, limit: DEFAULT_LIMIT };
        query::read(text, |name, value| {
            match name {
                "group" => parsed.group = Some(value.into_owned()),
                "after" => parsed.after = Some(value.into_owned()),
                "limit" => parsed.limit = query::whole_number(&value, 1..=MAX_LIMIT)?,
                _ => query::no_such_parameter()?,
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    fn wants(&self, id: &SubscriptionId, subscription: &Subscription) -> bool {
        self.group.as_ref().is_none_or(|group| subscription.group.as_ref() == Some(group))
            && self.after.as_ref().is_none_or(|after| id.as_str() > after.as_str())
    }
}
