"""The Standard Webhooks library for Python against a running mer: it verifies what mer delivers, with every secret that is
current and with no other; PyNaCl verifies the ed25519 signatures, which the library does not know.

Usage: signatures.py URL, with mer listening there, and `MER_SECRET_KEY` set for it.
"""

import base64
import json
import sys

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from standardwebhooks import Webhook, WebhookVerificationError

from cloud_events import Target, post

JSON = {"content-type": "application/json"}
DATA = [{"n": 1, "text": "größe"}, "just a text", [], None, 1.5e300, {"long": "x" * 100_000}]


def verified(secret, headers, body):
    """Whether the library accepts a delivery."""
    try:
        return Webhook(secret).verify(body, headers) == json.loads(body)
    except WebhookVerificationError:
        return False


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


def check_events(url, target, secrets, public_key):
    count = len(target.received)
    for data in DATA:
        status, answer = post(f"{url}/v1/events/signed", JSON, json.dumps(data).encode())
        assert status == 201, answer
    target.wait_for(count + len(DATA))
    ids = set()
    for data, (headers, body) in zip(DATA, target.received[count:], strict=True):
        assert json.loads(body) == data
        for secret in secrets:
            assert verified(secret, headers, body), (secret, headers)
            assert not verified(secret, headers, body + b" "), "of another body"
            assert not verified(secret, {**headers, "webhook-id": "msg_1"}, body), "of another id"
        assert verified_by_key(public_key, headers, body), headers
        assert not verified_by_key(public_key, headers, body + b" "), "of another body"
        ids |= {value for name, value in headers.items() if name.lower() == "webhook-id"}
    assert len(ids) == len(DATA), ids
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
    count += check_events(url, target, [newest], public_key)
    target.server.shutdown()
    return count


if __name__ == "__main__":
    print(f"the Standard Webhooks library: {check(sys.argv[1])} signed events verified")
