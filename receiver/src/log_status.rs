//! `GET /v1/log`: which log it is, and how much of it there is; and naming it anew by hand.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use broker::Unavailable;
use broker::event_log::LogStatus;
use broker::log_records::Current;
use bytes::Bytes;
use domain::log_epoch::{Epoch, LogEpoch, LogRecord, MAX_REASON_BYTES};
use domain::log_holes::LogHoles;
use domain::{FieldError, Stamp};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use uuid::Uuid;
use web::openapi::{AccessProblems, BodyProblems, NatsProblems, ValueProblems};
use web::{HoleView, Problem};

use crate::Receiver;
use crate::answers::{EpochOfLog, LogLimits, LogView};
use crate::requests::NewEpoch;

/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 4096;
/// How often an epoch is declared again, as somebody else wrote meanwhile.
const MAX_TURNS: usize = 5;

/// Which log it is, and how much of it there is
///
/// A log that is not the continuation of the one before (restored from an older copy, removed and made again, cut off by a
/// lost node) has another epoch. A hole is a part in its middle that holds no events: mer removes none there.
#[utoipa::path(
    get,
    operation_id = "get_log",
    path = "/v1/log",
    tag = "Log",
    responses((status = 200, description = "The log", body = LogView), NatsProblems, AccessProblems),
)]
pub async fn get(State(receiver): State<Arc<Receiver>>) -> Result<Response, Problem> {
    let record = receiver.records.get().await.map_err(unavailable)?.and_then(|current| current.record);
    let holes = receiver.records.holes().await.map_err(unavailable)?.and_then(|current| current.holes);
    let status = receiver.log.status().await.map_err(unavailable)?;
    Ok(Json(LogView::of(record.as_ref(), holes.as_ref(), &status)).into_response())
}

/// Declare another epoch
///
/// For one who knows that the log is another one and does not want to wait until mer finds out, or that mer cannot find out.
/// What is in the log now is taken for shared; what comes is of the new epoch.
#[utoipa::path(
    post,
    operation_id = "new_epoch",
    path = "/v1/log/epochs",
    tag = "Log",
    request_body(content = NewEpoch, description = "Why"),
    responses(
        (status = 201, description = "The epoch", body = EpochOfLog),
        BodyProblems, ValueProblems, NatsProblems, AccessProblems,
    ),
)]
pub async fn new_epoch(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = web::body::read_json(&headers, body, MAX_BODY_BYTES).await?;
    let reason = reason_of(&body)?;
    for _ in 0..MAX_TURNS {
        let Some(Current { revision, record }) = receiver.records.get().await.map_err(unavailable)? else { break };
        let Some(mut record) = record else { break };
        let LogStatus { last_sequence, .. } = receiver.log.status().await.map_err(unavailable)?;
        let epoch = Epoch {
            epoch: fresh_epoch(),
            from_sequence: last_sequence + 1,
            at: Stamp::now(),
            reason: reason.clone(),
            is_fork: false,
        };
        record.declare(epoch.clone());
        if receiver.records.put(&record, revision).await.map_err(unavailable)?.is_some() {
            tracing::warn!(epoch = %epoch.epoch, reason, "log.epoch_declared");
            return Ok((StatusCode::CREATED, Json(EpochOfLog::from(&epoch))).into_response());
        }
    }
    Err(unavailable(Unavailable::new("declaring an epoch", "the bucket LOG holds no record that can be changed now")))
}

/// An epoch that no log has had: of the random part of a UUID.
fn fresh_epoch() -> LogEpoch {
    let bytes = Uuid::now_v7().into_bytes();
    LogEpoch::of(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]))
}

fn reason_of(body: &Bytes) -> Result<String, Problem> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not JSON: send {\"reason\": \"…\"}"))?;
    match value["reason"].as_str() {
        Some(reason) if !reason.trim().is_empty() && reason.len() <= MAX_REASON_BYTES => Ok(reason.to_owned()),
        _ => {
            let detail = format!("it must be a text of 1 to {MAX_REASON_BYTES} bytes");
            Err(Problem::unacceptable(vec![FieldError::at("/reason", detail)]))
        }
    }
}

fn unavailable(error: Unavailable) -> Problem {
    Problem::unavailable(error, crate::error::RETRY_AFTER_SECS)
}

impl LogView {
    fn of(record: Option<&LogRecord>, holes: Option<&LogHoles>, status: &LogStatus) -> Self {
        let epochs = record.map(LogRecord::epochs).unwrap_or_default();
        Self {
            epoch: record.and_then(LogRecord::current).map(|epoch| epoch.epoch.to_string()),
            epochs: epochs.iter().map(EpochOfLog::from).collect(),
            first_sequence: status.first_sequence,
            last_sequence: status.last_sequence,
            first_time: status.first_stored_at.map(Stamp::to_rfc3339),
            last_time: status.last_stored_at.map(Stamp::to_rfc3339),
            events: status.events,
            bytes: status.bytes,
            limits: LogLimits {
                max_age_secs: status.max_age.map(|age| age.as_secs()),
                max_bytes: status.max_bytes,
                max_events: status.max_events,
                discard: if status.discards_old { "old" } else { "new" },
            },
            missing: status.missing,
            holes: holes.map(LogHoles::all).unwrap_or_default().iter().map(HoleView::from).collect(),
        }
    }
}

impl From<&Epoch> for EpochOfLog {
    fn from(epoch: &Epoch) -> Self {
        let Epoch { epoch, from_sequence, at, reason, .. } = epoch;
        Self { epoch: epoch.to_string(), from_sequence: *from_sequence, at: at.to_rfc3339(), reason: reason.clone() }
    }
}
