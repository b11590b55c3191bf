"""One server: mer with its embedded nats-server, each of them killed, frozen and stopped at any moment."""

import os
import signal
import time

import rounds
from world import Mer, children

HELP = "one server: mer and its embedded nats-server are killed, frozen and stopped"


def arguments(parser):
    rounds.arguments(parser)


def main(options):
    return rounds.run("one", Stage, "", options)


class Stage:
    def __init__(self, work, random_, options):
        self.random = random_
        self.mer = Mer(work / "data", work / "mer.log", MER_LOG="info")
        self.mers = [self.mer]
        self.faults = {
            "mer killed": self.kill,
            "nats-server killed": self.kill_nats,
            "both killed": self.kill_both,
            "mer killed twice": self.kill_twice,
            "mer frozen": lambda: self.freeze(self.mer.process.pid),
            "nats-server frozen": self.freeze_nats,
            "mer stopped": self.stop_mer,
        }

    def start(self):
        self.mer.launch()

    def kill(self):
        self.mer.kill()
        time.sleep(self.random.uniform(0, 0.5))
        self.mer.launch()

    def kill_nats(self):
        self.mer.kill_nats_server()

    def kill_both(self):
        self.mer.kill_nats_server()
        self.kill()

    def kill_twice(self):
        self.kill()
        time.sleep(self.random.uniform(0, 1))
        self.kill()

    def freeze(self, pid):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, 4))
        os.kill(pid, signal.SIGCONT)

    def freeze_nats(self):
        for pid in children(self.mer.process.pid)[:1]:
            self.freeze(pid)

    def stop_mer(self):
        self.mer.stop()
        self.mer.launch()

    def mend(self):
        if not self.mer.is_up():
            raise RuntimeError("mer has ended by itself")

    def stop(self):
        self.mer.stop()
