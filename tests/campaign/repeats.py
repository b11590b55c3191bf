"""What comes twice: how many events each URL gets again after each kind of fault, on one server and on a cluster of three."""

import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import checker
import disk
import mounts
from world import Mer, Senders, Target, free_port, until

HELP = "how many events come twice, by the fault that is the cause (power cuts need root: they mount ext4 in a file)"
PATHS = ["/a", "/b", "/c"]
# Of each: where NATS runs, and what happens.
KINDS = {
    "mer stopped": ("server", "stop mer"),
    "mer killed": ("server", "kill mer"),
    "nats-server killed": ("server", "kill nats"),
    "both killed": ("server", "kill both"),
    "power cut": ("embedded", "power cut"),
    "cluster: mer killed": ("cluster", "kill mer"),
    "cluster: node killed": ("cluster", "kill node"),
    "cluster: node and mer killed": ("cluster", "kill node and mer"),
    "cluster: node wiped": ("cluster", "wipe node"),
    "cluster: node wiped, mer killed": ("cluster", "wipe node and mer"),
    "cluster: two nodes frozen": ("cluster", "freeze two"),
    "cluster: two nodes frozen, mer killed": ("cluster", "freeze two and kill mer"),
    "cluster: power cut of all": ("cluster on disks", "power cut"),
}


def arguments(parser):
    parser.set_defaults(rounds=5)
    parser.add_argument("--kind", choices=list(KINDS), help="one kind only (default: each)")
    parser.add_argument("--sync", help="sync_interval (default: always; of a cluster 100ms, unless all nodes lose their power)")


def main(options):
    kinds = [options.kind] if options.kind else list(KINDS)
    if not mounts.is_inside() and any("power cut" in kind for kind in kinds):
        return mounts.enter_namespace("repeats")
    random_ = random.Random(options.seed)
    return all([one_kind(kind, options.rounds, options.sync, random_) for kind in kinds])


class Server:
    """A nats-server, alone or as a node of a cluster."""

    def __init__(self, work, below, name, sync, ports=(), number=0):
        self.store, self.port, self.process = below / f"store-{name}", free_port(), None
        cluster = ""
        if ports:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports if port != ports[number])
            cluster = f'cluster {{ name: campaign, listen: "127.0.0.1:{ports[number]}", routes: [{routes}] }}\n'
        self.log, self.config = work / f"{name}.log", work / f"{name}.conf"
        self.config.write_text(
            f'server_name: {name}\nlisten: "127.0.0.1:{self.port}"\nmax_payload: 8MB\n'
            f'jetstream {{ store_dir: "{self.store}", sync_interval: {sync}, max_file_store: 8GB }}\n{cluster}'
        )

    def start(self):
        command = [os.environ["MER_NATS_SERVER"], "-c", str(self.config), "-l", str(self.log)]
        self.process = subprocess.Popen(command)

    def signal(self, which):
        self.process.send_signal(which)

    def kill(self):
        self.process.kill()
        self.process.wait()


class World:
    """mer, where NATS runs, and the disks under it."""

    def __init__(self, work, where, sync):
        self.servers, self.disks, self.turn = [], [], 0
        settings = {"MER_LOG": "info"}
        if where == "embedded":
            folder = self.disk(work, "0")
        elif where == "server":
            folder = work
            self.servers = [Server(work, work, "n", sync or "always")]
        else:
            folder, ports = work, [free_port() for _ in range(3)]
            for number in range(3):
                # What a cluster has not flushed is gone where all nodes lose their power: then `100ms` loses events.
                on_disks = where == "cluster on disks"
                below, default = (self.disk(work, str(number)), "always") if on_disks else (work, "100ms")
                self.servers.append(Server(work, below, f"n{number}", sync or default, ports, number))
            settings["MER_REPLICAS"] = 3
        if self.servers:
            settings["MER_NATS_URL"] = ",".join(f"nats://127.0.0.1:{server.port}" for server in self.servers)
        for server in self.servers:
            server.start()
        self.mer = Mer(folder / "data", work / "mer.log", **settings)
        time.sleep(4 if len(self.servers) > 1 else 0.5)

    def disk(self, work, name):
        below = work / f"disk-{name}"
        below.mkdir()
        self.disks.append(disk.Disk(below, 1500, True))
        return self.disks[-1].folder

    def next(self):
        """A node, each in turn, and the two others."""
        self.turn += 1
        node = self.servers[self.turn % 3]
        return node, [server for server in self.servers if server is not node]

    def suffers(self, what):
        mer, servers = self.mer, self.servers
        if what == "stop mer":
            mer.stop()
            mer.launch()
        elif what == "kill mer":
            mer.kill()
            mer.launch()
        elif what == "kill nats":
            servers[0].kill()
            servers[0].start()
        elif what == "kill both":
            mer.kill()
            servers[0].kill()
            servers[0].start()
            mer.launch()
        elif what == "power cut":
            self.power_cut()
        elif what.startswith("freeze two"):
            _, others = self.next()
            for server in others:
                server.signal(signal.SIGSTOP)
            time.sleep(7)
            if "mer" in what:
                mer.kill()
                mer.launch()
            time.sleep(8)
            for server in others:
                server.signal(signal.SIGCONT)
            time.sleep(8)
        else:
            node, _ = self.next()
            if "mer" in what:
                mer.kill()
            node.kill()
            if "wipe" in what:
                shutil.rmtree(node.store)
            if "mer" in what:
                mer.launch()
            time.sleep(2)
            node.start()
            time.sleep(10)

    def power_cut(self):
        """What is not on the disks yet is lost, and all processes end."""
        for one in self.disks:
            one.is_shut_down()
        self.mer.kill()
        for server in self.servers:
            server.kill()
        for one in self.disks:
            until(lambda: subprocess.run(["umount", str(one.folder)], capture_output=True).returncode == 0, 20)
            one.mount_image()
        for server in self.servers:
            server.start()
        time.sleep(3 if self.servers else 0)
        self.mer.launch()

    def close(self):
        self.mer.stop()
        for server in self.servers:
            server.signal(signal.SIGCONT)
            server.kill()
        for one in self.disks:
            one.close()


def one_kind(kind, rounds, sync, random_):
    where, what = KINDS[kind]
    work = pathlib.Path(tempfile.mkdtemp(prefix="mer-campaign-repeats-"))
    target, world = Target(), World(work, where, sync)
    mer, repeated, rates, senders = world.mer, [], [], None
    faults = []
    try:
        mer.launch()
        if mer.until_ready() is None:
            print(f"{kind}: mer was not ready within a minute", flush=True)
            return False
        urls = [{"url": target.url(path)} for path in PATHS]
        body = {"events_to_register": [{"event": "campaign", "urls_to_register": urls}]}
        until(lambda: (mer.ask("POST", "/register_for_events/", body) or [0])[0] == 200, 30)
        senders = Senders(mer, 3, 0.02, 100)
        for number in range(rounds):
            time.sleep(random_.uniform(5, 9))
            before, had = counts(target), len(target.taken.get(PATHS[0], []))
            time.sleep(1)
            rates.append(len(target.taken.get(PATHS[0], [])) - had)
            world.suffers(what)
            if mer.until_ready(90) is None or not all_came(senders, target):
                faults.append(f"round {number + 1}: what was acknowledged did not come within 90 s")
            repeated.append([now - then for now, then in zip(counts(target), before)])
        senders.stop()
        all_came(senders, target)
        by_sequence, wrong = checker.of_acknowledgements([(sequence, n) for _, sequence, n in senders.acknowledged])
        faults += wrong
        for path in PATHS:
            faults += checker.faults(by_sequence, senders.sent, list(target.taken.get(path, [])))
        tell(kind, repeated, statistics.median(rates), len(by_sequence), faults)
    finally:
        if senders:
            senders.stop()
        world.close()
        target.close()
        shutil.rmtree(work, ignore_errors=True)
    return not faults


def counts(target):
    return [checker.duplicates(list(target.taken.get(path, []))) for path in PATHS]


def all_came(senders, target):
    """Waits until what is acknowledged by now has come."""
    with senders.lock:
        wanted = {sequence for _, sequence, _ in senders.acknowledged}
    came = until(lambda: all(wanted <= {s for s, _, _ in list(target.taken.get(p, []))} for p in PATHS), 90, 0.3)
    return came is not None


def tell(kind, repeated, rate, events, faults):
    each = [count for counts_ in repeated for count in counts_]
    longest = 1000 * max(each) / max(rate, 1)
    print(
        f"{kind}: {len(repeated)} rounds, {events} events at {rate:.0f}/s; twice came at one URL in one round "
        f"{statistics.median(each):.0f} (median), {max(each)} (most: what came in {longest:.0f} ms)",
        flush=True,
    )
    for fault in faults[:10]:
        print(f"  FAULT: {fault}", flush=True)
