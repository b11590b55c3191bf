"""mer as a process, a target, and senders."""

import hashlib
import http.client
import http.server
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time

import checker


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def children(pid):
    """The processes that it has started, and that run."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except FileNotFoundError:
            # The thread has ended.
            continue
    return found


class Mer:
    """`mer serve`, with the embedded nats-server unless it is given another one. Its log goes to a file beside the data folder,
    not into it."""

    def __init__(self, data, log, **settings):
        self.port, self.data, self.log = free_port(), data, pathlib.Path(log)
        self.environment = {
            "PATH": os.environ["PATH"],
            "MER_NATS_SERVER": os.environ["MER_NATS_SERVER"],
            "MER_LISTEN": f"127.0.0.1:{self.port}",
            "MER_DATA_DIR": str(data),
            **{name: str(value) for name, value in settings.items()},
        }
        self.process = None

    def launch(self):
        with self.log.open("ab") as log:
            command = [os.environ["MER_TESTED_BIN"], "serve"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL
            )

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def freeze(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self, patience=30):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill_nats_server(self):
        """Kills the nats-server that mer has started."""
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)

    def ask(self, method, path, body=None, timeout=10, headers=None):
        """Status, headers and text; None where there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def status(self, path):
        answer = self.ask("GET", path)
        return answer and answer[0]

    def until_ready(self, patience=60):
        return until(lambda: self.status("/readyz") == 200, patience)

    def logged(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Target:
    """A replica: takes everything, and notes what came in which order. A path that begins with /flaky refuses some of it."""

    def __init__(self):
        self.taken, self.refused = {}, 0
        target, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                data = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path.startswith("/flaky") and random.random() < 0.02:
                    target.refused += 1
                    return self.answer(503)
                came = checker.Delivery(
                    sequence=int(self.headers["ce-sequence"]),
                    previous=int(self.headers["ce-previoussequence"]),
                    number=data["n"],
                    type=self.headers["ce-type"],
                    id=self.headers["ce-id"],
                    epoch=self.headers["ce-logepoch"] or "",
                    body=digest(data),
                    at=time.monotonic(),
                )
                with lock:
                    target.taken.setdefault(self.path, []).append(came)
                self.answer(204)

            def answer(self, status):
                self.send_response(status)
                if status != 204:
                    self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                """A killed mer leaves its connections."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def of(self, path):
        return list(self.taken.get(path, []))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def digest(data):
    """What stands for an event's data. `transaction_id` is mer's."""
    kept = {name: value for name, value in data.items() if name != "transaction_id"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


class Senders:
    """Threads that post one event after the other, and note what was acknowledged and what was refused, and when."""

    def __init__(self, mers, count, pause, bytes_each, types=("campaign",)):
        self.mers, self.pause, self.padding, self.types = mers, pause, "x" * bytes_each, types
        self.sent, self.acknowledged, self.refused = {}, [], []
        self.end, self.lock, self.next = threading.Event(), threading.Lock(), 0
        self.threads = [threading.Thread(target=self._send, args=(one,), daemon=True) for one in range(count)]
        for thread in self.threads:
            thread.start()

    def _send(self, turn):
        while not self.end.wait(self.pause):
            with self.lock:
                self.next += 1
                number = self.next
                type_ = self.types[number % len(self.types)]
                data = {"n": number, "padding": self.padding}
                self.sent[number] = checker.Sent(type_, digest(data))
            began = time.monotonic()
            mer = self.mers[turn % len(self.mers)]
            answer = mer.ask("POST", f"/receive_event/{type_}", data)
            now = time.monotonic()
            with self.lock:
                if answer and answer[0] == 200:
                    self.acknowledged.append(self._acknowledged(number, answer, began, now))
                else:
                    # The next one goes to another process, if there is one.
                    turn += 1
                    self.refused.append((now, answer and answer[0], answer[2] if answer else "", answer and answer[1]))

    @staticmethod
    def _acknowledged(number, answer, began, now):
        epoch, _, sequence = (answer[1]["Consistency-Token"] or ".").partition(".")
        if sequence and sequence != answer[1]["Event-Sequence"]:
            raise RuntimeError(f"the token {answer[1]['Consistency-Token']} is not of {answer[1]['Event-Sequence']}")
        return checker.Acknowledged(int(answer[1]["Event-Sequence"]), number, answer[1]["Event-Id"], epoch, began, now)

    def accepted_since(self, moment):
        with self.lock:
            return next((one.at for one in self.acknowledged if one.at >= moment), None)

    def longest_refusal(self):
        """The longest time between two acknowledgements, and when it ended."""
        times = sorted(one.at for one in self.acknowledged)
        return max(((after - before, after) for before, after in zip(times, times[1:])), default=(0.0, 0.0))

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join()


def until(condition, patience, pause=0.05):
    """Waits for a condition; answers the seconds that it took, or None."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        if condition():
            return time.monotonic() - began
        time.sleep(pause)
    return None
