//! What mer sends to targets, as OpenAPI's `webhooks` have it: headers, bodies, and what a target may answer.

use serde_json::{Value, json};

/// The webhooks of the description.
pub(super) fn webhooks() -> Value {
    json!({"delivery": {"post": {
        "tags": ["Deliveries"],
        "operationId": "delivery",
        "summary": "What a registered URL gets for each event",
        "description": "A CloudEvent in binary mode: the body is the event's data, byte for byte as stored, with its content type \
            if its sender gave one, and the attributes are headers. With `delivery.mode` `batched`: a batch of events in JSON. \
            Events come in the log's order. The next one comes when the target has answered 2xx",
        "parameters": headers(),
        "requestBody": {
            "description": "The data of the event, or a batch of events",
            "content": {
                "application/json": {"schema": {"description": "The data, where its content type is this one"}},
                "application/cloudevents-batch+json": {"schema": batch()},
                "*/*": {"schema": {"description": "The data, of any content type, or of none"}},
            },
        },
        "responses": answers(),
    }}})
}

/// A header that each delivery of one event has, or may have.
fn header(name: &str, is_always: bool, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "required": is_always, "description": description, "schema": schema})
}

fn headers() -> Vec<Value> {
    let text = json!({"type": "string"});
    let digits = json!({"type": "string", "pattern": "^[0-9]{20}$"});
    let moment = json!({"type": "string", "format": "date-time"});
    vec![
        header("ce-specversion", false, "The version of CloudEvents; not with a batch", &json!({"const": "1.0"})),
        header("ce-id", false, "With `ce-source`, the name of the event; not with a batch", &text),
        header("ce-source", false, "Who has sent the event; not with a batch", &text),
        header("ce-type", false, "The event's type; not with a batch", &text),
        header("ce-time", false, "When it happened; not with a batch", &moment),
        header("ce-transactionid", false, "The transaction that it belongs to; not with a batch", &text),
        header("ce-sequence", false, "Its place in the log; not with a batch", &digits),
        header(
            "ce-previoussequence",
            false,
            "The sequence that this URL got before it, zeros for none: if it is the last one that the target took, the target has \
             missed nothing. Not with a batch",
            &digits,
        ),
        header(
            "ce-logepoch",
            false,
            "The name of the log: sequences of two names are not comparable. Not with a batch",
            &json!({"type": "string", "pattern": "^[0-9a-f]{8}$"}),
        ),
        header(
            "ce-replay",
            false,
            "Whether the event is from before the registration; not with a batch",
            &json!({"enum": ["true", "false"]}),
        ),
        header(
            "ce-redelivery",
            false,
            "The id of the replay or redrive that asked for this delivery, if one did",
            &text,
        ),
        header("ce-listenerdata", false, "The registration's `listener_data`, as JSON, if there is some", &text),
        header("traceparent", false, "The trace that the event belongs to, if there is one (W3C Trace Context)", &text),
        header(
            "webhook-id",
            false,
            "Where the URL has a secret: what is signed, with time and body (Standard Webhooks)",
            &text,
        ),
        header("webhook-timestamp", false, "Where the URL has a secret: when this was sent, in seconds", &text),
        header("webhook-signature", false, "Where the URL has a secret: the signatures, divided by spaces", &text),
    ]
}

fn batch() -> Value {
    let digits = json!({"type": "string", "pattern": "^[0-9]{20}$"});
    json!({
        "type": "array",
        "description": "The events in the log's order, each as JSON (CloudEvents, JSON Batch Format). Other attributes of the sender \
            are members too",
        "items": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "transactionid", "sequence", "previoussequence", "replay"],
            "properties": {
                "specversion": {"const": "1.0", "description": "The version of CloudEvents"},
                "id": {"type": "string", "description": "With `source`, the name of the event"},
                "source": {"type": "string", "description": "Who has sent the event"},
                "type": {"type": "string", "description": "The event's type"},
                "time": {"type": "string", "format": "date-time", "description": "When it happened"},
                "transactionid": {"type": "string", "description": "The transaction that it belongs to"},
                "sequence": with_description(digits.clone(), "Its place in the log"),
                "previoussequence": with_description(digits, "The sequence that this URL got before it; zeros for none"),
                "logepoch": {"type": "string", "description": "The name of the log"},
                "replay": {"type": "boolean", "description": "Whether the event is from before the registration"},
                "redelivery": {"type": "string", "description": "The id of the replay or redrive that asked for it, if one did"},
                "listenerdata": {"type": "string", "description": "The registration's `listener_data`, as JSON"},
                "datacontenttype": {"type": "string", "description": "The content type of the data, where its sender gave one"},
                "data": {"description": "The data, where it is JSON or text"},
                "data_base64": {"type": "string", "contentEncoding": "base64", "description": "Other data"},
            },
        },
    })
}

fn with_description(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

fn answers() -> Value {
    json!({
        "2XX": {"description": "The target has the event, or all events of the batch: the next one comes"},
        "409": {
            "description": "With `Resume-After`: the target has everything up to that sequence. Deliveries go on with the first event \
                behind it that the registered types want, further on or further back. Without: as any other status",
            "headers": {"Resume-After": {
                "description": "The sequence of the last event that the target has, 0 for none",
                "schema": {"type": "integer", "format": "int64", "minimum": 0},
            }},
        },
        "410": {"description": "The target wants nothing any more, until it is registered again or resumed"},
        "413": {"description": "Of a batch with several events: they come again in smaller ones, at once"},
        "default": {
            "description": "The same event comes again, after 100 ms to 30 s",
            "headers": {"Retry-After": {
                "description": "The earliest time of the next attempt: seconds, or an HTTP date; at most an hour",
                "schema": {"type": "string"},
            }},
        },
    })
}
