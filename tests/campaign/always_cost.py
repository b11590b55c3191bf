"""What `sync_interval: always` costs a cluster of three: events a second and how long a post takes, in turn with `100ms`.

All nodes, mer and the senders share this machine and its disk: compare the two, not the figures with those of other machines.
"""

import asyncio
import pathlib
import shutil
import statistics
import tempfile
import time

import nats_nodes
from world import Mer

HELP = "measure: what sync_interval always costs a cluster of three, in events a second and in milliseconds"


def arguments(parser):
    parser.set_defaults(rounds=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (default: %(default)s)")
    parser.add_argument("--senders", default="1,64,512", help="how many at a time (default: %(default)s)")
    parser.add_argument("--folder", help="where the nodes keep their files (default: a temporary one)")


def main(options):
    senders = [int(one) for one in options.senders.split(",")]
    measured = {}
    for number in range(options.rounds):
        for sync_interval in ["100ms", "always"] if number % 2 == 0 else ["always", "100ms"]:
            for count, figures in measure(sync_interval, senders, options).items():
                measured.setdefault((count, sync_interval), []).append(figures)
    print("| senders | sync_interval | events/s, median (each round) | a post, median and p99, ms |")
    for (count, sync_interval), rounds in sorted(measured.items()):
        rates, medians, highs = zip(*rounds)
        each = ", ".join(f"{rate:.0f}" for rate in rates)
        print(
            f"| {count} | {sync_interval} | {statistics.median(rates):.0f} ({each}) | "
            f"{statistics.median(medians):.1f}, {statistics.median(highs):.1f} |",
            flush=True,
        )
    return True


def measure(sync_interval, senders, options):
    work = pathlib.Path(tempfile.mkdtemp(prefix="mer-always-cost-", dir=options.folder))
    links = nats_nodes.Links()
    nodes, _ = nats_nodes.cluster([work / f"n{at}" for at in range(3)], work, sync_interval, links)
    url = ",".join(f"nats://127.0.0.1:{node.port}" for node in nodes)
    # Without a dispatcher: what is measured is accepting.
    mer = Mer(work / "none", work / "mer.log", MER_LOG="warn", MER_NATS_URL=url, MER_REPLICAS=3, MER_MAX_REQUESTS=2000)
    try:
        for node in nodes:
            node.launch()
        mer.launch()
        if mer.until_ready(60) is None:
            raise RuntimeError(f"mer was not ready: {mer.logged()}")
        return {count: asyncio.run(load(mer.port, count, options.seconds)) for count in senders}
    finally:
        mer.stop()
        for node in nodes:
            node.stop()
        links.close()
        shutil.rmtree(work, ignore_errors=True)


class Sender(asyncio.Protocol):
    """Posts one event after the other on its connection."""

    def __init__(self, port, times):
        body = b'{"n": 1, "padding": "' + b"x" * 230 + b'"}'
        head = f"POST /receive_event/cost HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        self.request = head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body
        self.times, self.refused, self.is_done, self.buffer = times, 0, False, b""

    def connection_made(self, transport):
        self.transport = transport
        self.post()

    def post(self):
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data):
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if head.startswith(b"HTTP/1.1 200"):
            self.times.append(time.perf_counter() - self.began)
        else:
            self.refused += 1
        if not self.is_done:
            self.post()


async def load(port, count, seconds):
    """Events a second, and the median and p99 of a post in milliseconds; the first second does not count."""
    loop, times = asyncio.get_running_loop(), []
    senders = [(await loop.create_connection(lambda: Sender(port, times), "127.0.0.1", port))[1] for _ in range(count)]
    await asyncio.sleep(1)
    times.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    counted, took = sorted(times), time.perf_counter() - began
    for sender in senders:
        sender.is_done = True
    await asyncio.sleep(0.2)
    for sender in senders:
        sender.transport.close()
    refused = sum(sender.refused for sender in senders)
    if refused:
        print(f"{refused} posts were refused", flush=True)
    return len(counted) / took, 1000 * counted[len(counted) // 2], 1000 * counted[len(counted) * 99 // 100]
