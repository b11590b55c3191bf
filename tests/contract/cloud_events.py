"""The CloudEvents SDK for Python against a running mer: mer takes what the SDK sends in every mode, the SDK reads what mer
delivers, and events that the specification calls valid or invalid are answered 2xx or 400.

Usage: cloud_events.py URL, with mer listening there.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

DEADLINE_S = 20
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

# What every event must have; a case below changes it. `...` takes a member away.
MINIMAL = {"specversion": "1.0", "id": "spec", "type": "io.cloudevents.test", "source": "https://cloudevents.io"}

# The JSON event format, sections 2.2 and 3, and the core specification's constraints on attributes.
VALID = [
    {},
    {"datacontenttype": None, "dataschema": None, "subject": None, "time": None},
    {"datacontenttype": "text/plain", "dataschema": "https://cloudevents.io/schema", "subject": "tests", "time": "2018-04-05T17:31:00Z"},
    {"time": "2018-04-05T17:31:00.000000000Z"},
    {"time": "2018-04-05T18:31:00+01:00"},
    {"time": "2018-04-05T16:31:00-01:00"},
    {"source": "#fragment"},
    {"source": "/mycontext", "subject": "larger-context"},
    {"datacontenttype": "text/plain", "data": "plain text"},
    {"datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>", "unsetextension": None},
    {"datacontenttype": "application/json", "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True}},
    {"data": "I'm just a string", "comexampleextension1": "value", "comexampleothervalue": 5},
    {"data": None},
    {"datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "TWE="},
    {"extinteger": -10, "extboolean": True, "exturi": "https://cloudevents.io", "exttimestamp": "2023-03-31T15:12:00Z"},
]
INVALID = [
    *({name: ...} for name in MINIMAL),
    *({name: ""} for name in MINIMAL),
    *({name: ""} for name in ("datacontenttype", "dataschema", "subject", "time")),
    *({"time": time} for time in ("lunchtime", "2018-04-05T18:31Z", "2018-04-05T18:31:00X", "2018-04-05T18:31:00+25:00",
                                  "2018-04-05T18:31:00+xx:00", "2018-04-05T18:31:00+05")),
    {"specversion": "0.9"},
    {"datacontenttype": "xyz"},
    {"id": 25},
    {"id": {"xyz": "abc"}},
    {"type": False},
    {"MyExtension": "bad"},
    {"my.extension": "bad"},
    {"myextension": 1.5},
    {"myextension": 2**31},
    {"data": "text", "data_base64": "TWE="},
    {"data_base64": "not base64"},
]


def changed(case, event_id):
    event = {**MINIMAL, "id": event_id, **case}
    return {name: value for name, value in event.items() if value is not ...}


class Target:
    """An HTTP target that keeps what it gets."""

    def __init__(self):
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append((dict(self.headers.items()), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count):
        deadline = time.monotonic() + DEADLINE_S
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} events came"
            time.sleep(0.01)


def post(url, headers, body, method="POST"):
    """The status and the body of the answer."""
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check_examples(url):
    def answered(content_type, value):
        return post(f"{url}/v1/events", {"content-type": content_type}, json.dumps(value).encode())

    for n, case in enumerate(VALID):
        status, answer = answered(STRUCTURED, changed(case, f"valid-{n}"))
        assert status == 201, (case, status, answer)
    for n, case in enumerate(INVALID):
        event = changed(case, case.get("id", f"invalid-{n}"))
        for content_type, value in [(STRUCTURED, event), (BATCH, [changed({}, f"good-{n}"), event])]:
            status, answer = answered(content_type, value)
            assert status == 400, (content_type, case, status, answer)
            assert answer["errors"], (case, answer)
    # A batch with a bad event is not stored in part.
    status, answer = answered(BATCH, [changed({}, f"good-{n}") for n in range(len(INVALID))])
    sequences = [event["sequence"] for event in answer["events"]]
    assert status == 201 and sequences == list(range(sequences[0], sequences[0] + len(INVALID))), answer
    assert answered(BATCH, [])[0] == 201
    assert answered(BATCH, ["not an object", changed({}, "x")])[0] == 400
    assert answered(BATCH, changed({}, "x"))[0] == 400
    return len(VALID) + 2 * len(INVALID) + 4


def sdk_events():
    at = datetime(2018, 4, 5, 17, 31, tzinfo=timezone.utc)
    common = {"specversion": "1.0", "source": "/sdk", "time": at, "subject": "Euro € 50 %", "comexampleextension": "\"grün\""}
    return [
        CloudEvent({**common, "id": "json €", "type": "sdk.json", "datacontenttype": "application/json"}, {"n": 1, "text": "größe"}),
        CloudEvent({**common, "id": "text", "type": "sdk.text", "datacontenttype": "text/plain"}, "plain"),
        CloudEvent({**common, "id": "bytes", "type": "sdk.bytes", "datacontenttype": "application/octet-stream"}, bytes(range(256))),
    ]


def check_sdk(url):
    target = Target()
    body = {"events_to_register": [{"event": "sdk.*", "urls_to_register": [{"url": target.url}]}]}
    status, _ = post(f"{url}/register_for_events/", {"content-type": "application/json"}, json.dumps(body).encode())
    assert status == 200
    sent = []
    for mode in (to_binary_event, to_structured_event):
        for event in sdk_events():
            attributes = {**event.get_attributes(), "source": f"/{mode.__name__}"}
            event = CloudEvent(attributes, event.get_data())
            message = mode(event)
            message_body = message.body.encode() if isinstance(message.body, str) else message.body
            status, answer = post(f"{url}/v1/events", dict(message.headers), message_body)
            assert status == 201, (mode, answer)
            sent.append(event)
    structured = [JSONFormat().write(event) for event in sdk_events()]
    batch = b"[" + b",".join(one if isinstance(one, bytes) else one.encode() for one in structured) + b"]"
    status, answer = post(f"{url}/v1/events", {"content-type": BATCH}, batch)
    assert status == 201, answer
    sent += sdk_events()
    target.wait_for(len(sent))
    for event, (headers, body) in zip(sent, target.received, strict=True):
        got = from_http_event(HTTPMessage(headers={name.lower(): value for name, value in headers.items()}, body=body))
        for name, value in event.get_attributes().items():
            assert got.get_attributes()[name] == value, (name, value, got.get_attributes())
        data = got.get_data()
        data = data.decode() if isinstance(event.get_data(), str) and isinstance(data, bytes) else data
        assert data == event.get_data(), (event.get_attributes(), data)
        assert got.get_extension("sequence").isdigit() and got.get_extension("replay") == "false"
    target.server.shutdown()
    return len(sent)


if __name__ == "__main__":
    base = sys.argv[1]
    print(f"examples of the specification: {check_examples(base)} answered as they must be")
    print(f"the CloudEvents SDK: {check_sdk(base)} events sent, delivered and read")
