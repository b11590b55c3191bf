"""A cluster of three, of which one node loses power after another one has missed events: the two of them are a majority.

Node b is stopped; a and c acknowledge events; a loses power, c is paused; b and a go on. What a has not flushed is gone, though
the cluster had acknowledged it. Then c comes back.
"""

import time

import mounts
import nats_nodes
import rounds
from world import Mer, until

HELP = "a cluster of three: one node loses power after another one has missed events (needs root); --sync-interval 100ms is the control"


def arguments(parser):
    rounds.arguments(parser)
    parser.set_defaults(faults=1)
    parser.add_argument("--sync-interval", default="always", help="of each node (default: %(default)s)")


def main(options):
    if not mounts.is_inside():
        return mounts.enter_namespace("cluster-power")
    return rounds.run("cluster-power", Stage, f"sync_interval {options.sync_interval}", options)


class Stage:
    def __init__(self, work, random_, options):
        self.random, self.links = random_, nats_nodes.Links()
        self.disks = [mounts.PowerDisk(work / f"machine-{at + 1}", 256) for at in range(3)]
        self.nodes, _ = nats_nodes.cluster([disk.folder for disk in self.disks], work, options.sync_interval, self.links)
        url = ",".join(f"nats://127.0.0.1:{node.port}" for node in self.nodes)
        self.mer = Mer(work / "none", work / "mer.log", MER_LOG="info", MER_NATS_URL=url, MER_REPLICAS=3)
        self.mers = [self.mer]
        self.faults = {"one node loses power after another one was away": self.lose_power, "all nodes lose power": self.lose_all}
        self.senders = None

    def start(self):
        for node in self.nodes:
            node.launch()
        self.mer.launch()

    def lose_power(self):
        a, b, c = self.random.sample(range(3), 3)
        self.nodes[b].stop()
        self.until_accepted("without b")
        time.sleep(self.random.uniform(0.3, 1.5))
        # Both at the same moment: between them, a would flush what the two of them have acknowledged.
        self.cut([a], frozen_too=[c])
        for one in (a, b):
            self.nodes[one].launch()
        self.until_accepted("without c")
        time.sleep(self.random.uniform(0.2, 2))
        self.nodes[c].thaw()

    def lose_all(self):
        self.cut([0, 1, 2])
        for node in self.nodes:
            node.launch()

    def cut(self, which, frozen_too=()):
        nats_nodes.freeze([self.nodes[one].process.pid for one in [*which, *frozen_too]])
        for one in which:
            self.disks[one].cut()
        for one in which:
            self.nodes[one].kill()
            self.disks[one].back()

    def until_accepted(self, when):
        """Until senders are answered again, by a majority."""
        began = time.monotonic()
        if until(lambda: self.senders.accepted_since(began + 0.2), 60) is None:
            raise RuntimeError(f"no post was accepted {when} for a minute")

    def mend(self):
        for process in [self.mer, *self.nodes]:
            if not process.is_up():
                raise RuntimeError(f"it ended by itself: {process.log}")

    def stop(self):
        for process in [self.mer, *self.nodes]:
            if process.is_up():
                process.thaw()
                process.stop()
        for disk in self.disks:
            disk.close()
        self.links.close()
