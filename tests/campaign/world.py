"""mer as a process, a target, and senders."""

import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Mer:
    """`mer serve` with the embedded nats-server. Its log goes to a file beside the data folder, not into it."""

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

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, patience=30):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill_nats_server(self):
        """Kills the nats-server that mer has started."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)

    def ask(self, method, path, body=None, timeout=10):
        """Status, headers and text; None where there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"content-type": "application/json"})
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
    """A replica: takes everything, and notes what came in which order."""

    def __init__(self):
        self.taken = {}
        taken, lock = self.taken, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                data = json.loads(self.rfile.read(int(self.headers["content-length"])))
                came = int(self.headers["ce-sequence"]), int(self.headers["ce-previoussequence"]), data["n"]
                with lock:
                    taken.setdefault(self.path, []).append(came)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Senders:
    """Threads that post one event after the other, and note what was acknowledged and what was refused, and when."""

    def __init__(self, mer, count, pause, bytes_each):
        self.mer, self.pause, self.padding = mer, pause, "x" * bytes_each
        self.sent, self.acknowledged, self.refused = set(), [], []
        self.end, self.lock, self.next = threading.Event(), threading.Lock(), 0
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        while not self.end.wait(self.pause):
            with self.lock:
                self.next += 1
                number = self.next
                self.sent.add(number)
            answer = self.mer.ask("POST", "/receive_event/campaign", {"n": number, "padding": self.padding})
            now = time.monotonic()
            with self.lock:
                if answer and answer[0] == 200:
                    self.acknowledged.append((now, int(answer[1]["Event-Sequence"]), number))
                else:
                    self.refused.append((now, answer and answer[0], answer[2] if answer else "", answer and answer[1]))

    def accepted_since(self, moment):
        with self.lock:
            return next((at for at, _, _ in self.acknowledged if at >= moment), None)

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
