"""A cluster of three nats-servers and two mers: nodes and mers are killed and frozen, links are cut, or let nothing pass."""

import time

import nats_nodes
import rounds
from world import Mer

HELP = "a cluster of three nats-servers and two mers: killed, frozen, cut off from each other"


def arguments(parser):
    rounds.arguments(parser)
    parser.add_argument("--sync-interval", default="100ms", help="of each node (default: %(default)s)")
    parser.add_argument("--mers", type=int, default=2, help="how many mers (default: %(default)s)")


def main(options):
    mers = "" if options.mers == 2 else f", {options.mers} mer"
    return rounds.run("cluster", Stage, f"sync_interval {options.sync_interval}{mers}", options)


class Stage:
    def __init__(self, work, random_, options):
        self.random, self.links = random_, nats_nodes.Links()
        self.nodes, self.between = nats_nodes.cluster(
            [work / f"n{at + 1}" for at in range(3)], work, options.sync_interval, self.links
        )
        self.to_nodes = [[self.links.add(node.port) for node in self.nodes] for _ in range(options.mers)]
        self.mers = []
        for at, links in enumerate(self.to_nodes):
            url = ",".join(f"nats://127.0.0.1:{link.port}" for link in links)
            self.mers.append(Mer(work / "none", work / f"mer-{at}.log", MER_LOG="info", MER_NATS_URL=url, MER_REPLICAS=3))
        self.faults = {
            "a node killed": lambda: self.kill_nodes(1),
            "two nodes killed": lambda: self.kill_nodes(2),
            "all nodes killed": lambda: self.kill_nodes(3),
            "a node frozen": self.freeze_node,
            "a node cut off from the others": self.cut_off_node,
            "a link between nodes broken": self.break_link,
            "a mer's half-open link to a node": self.half_open,
            "a mer cut off": self.cut_off_mer,
            "a mer killed": self.kill_mer,
            "a mer frozen": self.freeze_mer,
        }

    def start(self):
        for node in self.nodes:
            node.launch()
        for mer in self.mers:
            mer.launch()

    def kill_nodes(self, count):
        chosen = self.random.sample(self.nodes, count)
        for node in chosen:
            node.kill()
        time.sleep(self.random.uniform(0, 4))
        for node in chosen:
            node.launch()

    def freeze_node(self):
        node = self.random.choice(self.nodes)
        node.freeze()
        time.sleep(self.random.uniform(0.5, 6))
        node.thaw()

    def stall(self, links):
        """Nothing passes for a while, and neither end is told."""
        for link in links:
            link.stall()
        time.sleep(self.random.uniform(0.5, 6))
        for link in links:
            link.mend()

    def cut_off_node(self):
        node = self.random.randrange(3)
        self.stall([link for ends, link in self.between.items() if node in ends])

    def break_link(self):
        one, other = self.random.sample(range(3), 2)
        self.stall([self.between[one, other], self.between[other, one]])

    def half_open(self):
        self.stall([self.random.choice(self.random.choice(self.to_nodes))])

    def cut_off_mer(self):
        self.stall(self.random.choice(self.to_nodes))

    def kill_mer(self):
        mer = self.random.choice(self.mers)
        mer.kill()
        time.sleep(self.random.uniform(0, 4))
        mer.launch()

    def freeze_mer(self):
        mer = self.random.choice(self.mers)
        mer.freeze()
        time.sleep(self.random.uniform(0.5, 9))
        mer.thaw()

    def mend(self):
        for process in self.mers + self.nodes:
            if not process.is_up():
                raise RuntimeError(f"it ended by itself: {process.log}")

    def stop(self):
        for process in self.mers + self.nodes:
            if process.is_up():
                process.thaw()
                process.stop()
        self.links.close()
