"""Three dispatchers on one nats-server: they are killed, frozen beyond their leases, stopped, and take over from each other."""

import time

import rounds
from nats_nodes import Nats
from world import Mer

HELP = "three dispatchers on one nats-server are killed, frozen and stopped"
LEASE_SECS = 2


def arguments(parser):
    rounds.arguments(parser)


def main(options):
    return rounds.run("dispatchers", Stage, "", options)


class Stage:
    def __init__(self, work, random_, options):
        self.random = random_
        self.nats = Nats("alone", work / "store", work / "nats.log", "always")
        common = {"MER_LOG": "info", "MER_NATS_URL": f"nats://127.0.0.1:{self.nats.port}", "MER_LEASE_SECS": LEASE_SECS}
        self.apis = [Mer(work / "none", work / f"api-{n}.log", MER_ROLES="receiver,registrar", **common) for n in range(2)]
        self.dispatchers = [Mer(work / "none", work / f"dispatcher-{n}.log", MER_ROLES="dispatcher", **common) for n in range(3)]
        self.mers = self.apis
        self.faults = {
            "a dispatcher killed": lambda: self.kill(self.dispatchers, 1),
            "two dispatchers killed": lambda: self.kill(self.dispatchers, 2),
            "all dispatchers killed": lambda: self.kill(self.dispatchers, 3),
            "a dispatcher frozen": lambda: self.freeze(1),
            "two dispatchers frozen": lambda: self.freeze(2),
            "a dispatcher stopped": self.stop_one,
            "an api killed": lambda: self.kill(self.apis, 1),
            "nats-server killed": self.kill_nats,
            "nats-server frozen": self.freeze_nats,
        }

    def start(self):
        self.nats.launch()
        for mer in self.apis + self.dispatchers:
            mer.launch()

    def kill(self, of, count):
        chosen = self.random.sample(of, count)
        for mer in chosen:
            mer.kill()
        # Sometimes another one takes over in between, sometimes it comes back within its lease.
        time.sleep(self.random.uniform(0, 1.5 * LEASE_SECS))
        for mer in chosen:
            mer.launch()

    def freeze(self, count):
        chosen = self.random.sample(self.dispatchers, count)
        for mer in chosen:
            mer.freeze()
        time.sleep(self.random.uniform(0.3, 2.5 * LEASE_SECS))
        for mer in chosen:
            mer.thaw()

    def stop_one(self):
        mer = self.random.choice(self.dispatchers)
        mer.stop()
        time.sleep(self.random.uniform(0, 1))
        mer.launch()

    def kill_nats(self):
        self.nats.kill()
        time.sleep(self.random.uniform(0, 2))
        self.nats.launch()

    def freeze_nats(self):
        self.nats.freeze()
        time.sleep(self.random.uniform(0.5, 4))
        self.nats.thaw()

    def mend(self):
        for mer in self.apis + self.dispatchers:
            if not mer.is_up():
                raise RuntimeError(f"mer ended by itself: {mer.log}")
        for dispatcher in self.dispatchers:
            if dispatcher.until_ready(60) is None:
                raise RuntimeError(f"a dispatcher did not become ready: {dispatcher.log}")

    def stop(self):
        for mer in self.apis + self.dispatchers:
            mer.stop()
        self.nats.stop()
