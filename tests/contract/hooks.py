"""What mer's OpenAPI description cannot say: rules between fields. Generated cases are brought in line with them, so that
"what the description allows is accepted" can be checked for everything else."""

import json
import re

import schemathesis
from schemathesis.core import NOT_SET

STAMP = re.compile("[0-9]{6}(29|30|31)")
PLAIN_URL = re.compile("https?://[a-z][a-z0-9-]{0,20}(:[1-9][0-9]{0,3})?(/[A-Za-z0-9_./-]{0,40})?")
BYTES = {"type": 200, "event": 200, "transaction_id": 256, "transactionid": 256, "group": 100, "id": 1024, "source": 1024}
BATCHES = ("application/x-ndjson", "application/cloudevents-batch+json")
EVENT = {"specversion": "1.0", "id": "ndjson", "source": "/contract", "type": "contract.lines"}


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    """A line is a CloudEvent; the description calls the whole a string."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def map_case(context, case):
    if is_positive(case):
        if case.media_type == "application/x-ndjson":
            case.body = json.dumps(EVENT) + "\n"
        else:
            case.body = consistent(case.body)
        # It is for single events, and what it says would hardly ever be so.
        if case.headers and (case.media_type in BATCHES or case.headers.get("Expected-Last-Sequence") != "0"):
            case.headers.pop("Expected-Last-Sequence", None)
        if isinstance(case.query, dict):
            for name in ("from", "to"):
                if STAMP.match(str(case.query.get(name))):
                    case.query[name] = "20260101000000"
        for name in ("type", "key"):
            if isinstance((case.path_parameters or {}).get(name), str):
                case.path_parameters[name] = short(case.path_parameters[name], BYTES["type"])
    return case


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what is called wrong and is not: what is no URL by the description may be one all the same; a request
    with only some of its optional headers, or with one that is not described (HTTP has a server ignore what it does not
    know); and one without a body that may be left out."""
    description = getattr(case.meta.phase.data, "description", None) or "" if case.meta else ""
    if "all required properties and optional" in description.lower():
        return False
    if any(name.lower().startswith("x-schemathesis-unknown") for name in case.headers or {}):
        return False
    return is_positive(case) or not (has_url(case.body) or is_without_optional_body(case) or has_null_of_event(case))


def has_null_of_event(case):
    """In a merge patch null takes away: it is as good as leaving out."""
    events = case.body.get("events") if case.method == "PATCH" and isinstance(case.body, dict) else None
    return isinstance(events, list) and any(None in event.values() for event in events if isinstance(event, dict))


def is_without_optional_body(case):
    return case.operation.path.endswith("/rotate-secret") and case.body is NOT_SET


def has_url(value):
    """Whether there is a URL that may be one, though it does not match the pattern."""
    if isinstance(value, dict):
        return any(has_url(item) or (name == "url" and may_be_a_url(item)) for name, item in value.items())
    return isinstance(value, list) and any(has_url(item) for item in value)


def may_be_a_url(value):
    return isinstance(value, str) and value.startswith("http") and not PLAIN_URL.fullmatch(value)


def is_positive(case):
    mode = case.meta.generation.mode if case.meta else None
    return mode is None or mode.value == "positive"


def consistent(value):
    """The same without what contradicts itself."""
    if isinstance(value, (int, float)) and abs(value) >= 1 << 63:
        # A registration's whole numbers have 64 bits.
        return 0
    if isinstance(value, float) and value.is_integer():
        # JSON Schema calls 5.0 an integer, the CloudEvents JSON format does not.
        return int(value)
    if isinstance(value, list):
        return [consistent(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {name: consistent(item) for name, item in value.items()}
    if isinstance(value.get("url"), str) and not PLAIN_URL.fullmatch(value["url"]):
        # What a URL is, a pattern cannot say; nor should these be ones that somebody has.
        value["url"] = "http://a" + format(sum(value["url"].encode("utf-8", "surrogatepass")) % 97, "d")
    if isinstance(value.get("redirect_url"), str) and value["redirect_url"]:
        value["redirect_url"] = "http://a/"
    for name in ("datetime_start", "datetime_end"):
        if isinstance(value.get(name), str) and STAMP.match(value[name]):
            value[name] = "20400101000000"
    for name, limit in BYTES.items():
        if isinstance(value.get(name), str):
            value[name] = short(value[name], limit)
    if "datetime_end" in value:
        # One end is enough, and what ends before it starts is refused.
        value.pop("expire_after", None)
        value.pop("datetime_start", None)
    if "expire_after" in value:
        value.pop("datetime_start", None)
    if "start_after" in value:
        # How far the log reaches, a description does not know.
        value["start_after"] = 0
        value.pop("datetime_start", None)
    if isinstance(value.get("start"), dict):
        value["start"] = {"after": 0}
        value.pop("datetime_start", None)
    if "data" in value and "specversion" in value:
        value.pop("data_base64", None)
    if "from" in value:
        value.pop("to", None)
        value["from"] = "20200101000000.0"
    for name, key in [("urls_to_register", "url"), ("urls_to_unregister", "url"), ("events", "type"),
                      ("events_to_register", "event"), ("events_to_unregister", "event")]:
        if isinstance(value.get(name), list):
            value[name] = different(value[name], key)
    return value


def short(text, limit):
    """Texts are limited in bytes, which a description cannot count."""
    return text if len(text.encode("utf-8", "surrogatepass")) <= limit else "short"


def different(items, key):
    """One item for each value of the key: a request names nothing twice."""
    kept = {}
    for item in items:
        if not isinstance(item, dict):
            return items
        kept.setdefault(str(item.get(key)), item)
    return list(kept.values())
