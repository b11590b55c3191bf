"""One server whose machine loses power: what was not flushed is gone, and it starts again with what the disk has."""

import time

import mounts
import rounds
from nats_nodes import Nats, freeze
from world import Mer, children

HELP = "one server loses power (needs root: an ext4 of its own, shut down without a flush); --sync-interval 2m is the control"


def arguments(parser):
    rounds.arguments(parser)
    parser.add_argument(
        "--sync-interval",
        help="a nats-server of its own with this sync_interval, on which only NATS is (default: the embedded one, with mer)",
    )


def main(options):
    if not mounts.is_inside():
        return mounts.enter_namespace("power")
    label = f"sync_interval {options.sync_interval}" if options.sync_interval else "embedded"
    return rounds.run("power", Alone if options.sync_interval else Embedded, label, options)


class Embedded:
    """mer and its nats-server on one machine."""

    def __init__(self, work, random_, options):
        self.random, self.disk = random_, mounts.PowerDisk(work / "machine")
        self.mer = Mer(self.disk.folder / "data", work / "mer.log", MER_LOG="info")
        self.mers = [self.mer]
        self.faults = {"power cut": self.cut, "power cut twice": self.cut_twice}

    def start(self):
        self.mer.launch()

    def cut(self):
        both = [self.mer.process.pid, *children(self.mer.process.pid)]
        freeze(both)
        self.disk.cut()
        self.mer.kill_nats_server()
        self.mer.kill()
        self.disk.back()
        self.mer.launch()

    def cut_twice(self):
        self.cut()
        time.sleep(self.random.uniform(0, 1.5))
        self.cut()

    def mend(self):
        if not self.mer.is_up():
            raise RuntimeError("mer has ended by itself")

    def stop(self):
        self.mer.stop()
        self.disk.close()


class Alone(Embedded):
    """nats-server on a machine of its own; mer's loses power with it, or does not."""

    def __init__(self, work, random_, options):
        super().__init__(work, random_, options)
        self.nats = Nats("alone", self.disk.folder / "store", work / "nats.log", options.sync_interval)
        self.mer = Mer(work / "data", work / "mer.log", MER_LOG="info", MER_NATS_URL=f"nats://127.0.0.1:{self.nats.port}")
        self.mers = [self.mer]

    def start(self):
        self.nats.launch()
        self.mer.launch()

    def cut(self):
        with_mer = self.random.random() < 0.5
        freeze([self.nats.process.pid] + [self.mer.process.pid] * with_mer)
        self.disk.cut()
        self.nats.kill()
        if with_mer:
            self.mer.kill()
        self.disk.back()
        self.nats.launch()
        if with_mer:
            self.mer.launch()

    def stop(self):
        self.mer.stop()
        self.nats.stop()
        self.disk.close()
