"""A full disk: a small file system (tmpfs) of its own is filled and freed under a running mer, again and again."""

import collections
import fcntl
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import time

import checker
import mounts
from world import Mer, Senders, Target, until

HELP = "a small disk is filled and freed under mer (needs root: it mounts a tmpfs in a mount namespace of its own)"
# What happens while the disk is full.
KINDS = [
    "filled",
    "filled slowly",
    "kept full",
    "nats-server killed",
    "kept full, nats-server killed",
    "mer killed",
    "kept full, mer killed",
    "mer stopped",
    "read-only at the start",
    "read-only after an error",
    "shut down after an error",
]
# Of ext4, and what ends it without the writing of anything that is still to be written.
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
# How long mer may take to accept again once there is room.
PATIENCE = 30


def arguments(parser):
    parser.set_defaults(rounds=len(KINDS))
    parser.add_argument("--megabytes", type=int, default=400, help="the size of the disk (default: %(default)s)")
    parser.add_argument("--full-secs", type=float, default=15, help="how long it stays full (default: %(default)s)")
    parser.add_argument("--kind", choices=KINDS, help="one kind of round only (default: each in turn)")
    parser.add_argument("--keep", action="store_true", help="keep the folders with mer's logs")


def main(options):
    if not mounts.is_inside():
        return mounts.enter_namespace("disk")
    random_ = random.Random(options.seed)
    passed = 0
    for number in range(options.rounds):
        kind = options.kind or KINDS[number % len(KINDS)]
        faults, told = one_round(kind, random_.getrandbits(32), options)
        passed += not faults
        print(f"round {number + 1} ({kind}): {'; '.join(told)}", flush=True)
        for fault in faults[:10]:
            print(f"  FAULT: {fault}", flush=True)
    print(f"disk: {passed} of {options.rounds} rounds passed", flush=True)
    return passed == options.rounds


class Disk:
    """A small file system, and a ballast that fills it. A tmpfs; ext4 in a file where it is to have an error."""

    def __init__(self, work, megabytes, has_errors):
        self.folder, self.image = work / "disk", work / "image"
        self.folder.mkdir()
        self.ballast, self.keeper, self.is_freed = self.folder / "ballast", None, threading.Event()
        if has_errors:
            with self.image.open("wb") as image:
                image.truncate(megabytes << 20)
            subprocess.run(["mkfs.ext4", "-q", str(self.image)], check=True)
            self.mount_image()
        else:
            self.mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none")

    def mount_image(self):
        self.mount("-o", "loop,errors=remount-ro", str(self.image))

    def has_an_error(self):
        """The kernel takes it for damaged, and lets nothing be written any more."""
        found = subprocess.run(["findmnt", "-no", "SOURCE", str(self.folder)], capture_output=True, text=True, check=True)
        trigger = pathlib.Path("/sys/fs/ext4") / pathlib.Path(found.stdout.strip()).name / "trigger_fs_error"
        trigger.write_text("1")

    def is_shut_down(self):
        """The kernel answers whatever is read or written with an error."""
        folder = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(folder)

    def mend(self):
        """As an operator does; nothing may have it open."""
        subprocess.run(["umount", str(self.folder)], check=True)
        subprocess.run(["fsck.ext4", "-p", "-f", str(self.image)], capture_output=True)
        self.mount_image()

    def mount(self, *arguments):
        subprocess.run(["mount", *arguments, str(self.folder)], check=True)

    def free(self):
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def fill(self, leave=0, pause=0.0):
        """Writes until nothing more fits."""
        with self.ballast.open("ab", buffering=0) as file:
            while (room := self.free() - leave) > 0:
                try:
                    file.write(bytes(min(room, 1 << 20)))
                except OSError:
                    break
                time.sleep(pause)

    def keep_full(self):
        """Takes whatever others give up, until there is to be room."""

        def keep():
            while not self.is_freed.is_set():
                self.fill()
                time.sleep(0.02)

        self.keeper = threading.Thread(target=keep, daemon=True)
        self.keeper.start()

    def give_room(self):
        self.is_freed.set()
        if self.keeper:
            self.keeper.join()
        self.ballast.unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


def one_round(kind, seed, options):
    random_ = random.Random(seed)
    work = pathlib.Path(tempfile.mkdtemp(prefix="mer-campaign-disk-"))
    disk = Disk(work, options.megabytes, kind.endswith("after an error"))
    mer, target = Mer(disk.folder / "data", work / "mer.log", MER_LOG="info"), Target()
    senders, paths = None, ["/a", "/b", "/c"]
    faults, told = [], []
    try:
        mer.launch()
        if mer.until_ready() is None:
            return ["mer was not ready within a minute of its first start"], told
        urls = [{"url": target.url(path)} for path in paths]
        body = {"events_to_register": [{"event": "campaign", "urls_to_register": urls}]}
        answer = mer.ask("POST", "/register_for_events/", body)
        if not answer or answer[0] != 200:
            return [f"the registration was answered {answer}"], told
        senders = Senders([mer], 4, 0.01, random_.choice([100, 2_000, 20_000]))
        time.sleep(random_.uniform(2, 4))
        be_full(kind, disk, mer, senders, random_, options.full_secs, faults, told)
        freed = time.monotonic()
        disk.give_room()
        accepts = until(lambda: senders.accepted_since(freed), PATIENCE + 90)
        told.append(f"accepting again after {'never' if accepts is None else f'{accepts:.1f} s'}")
        if accepts is None or accepts > PATIENCE:
            faults.append(f"it did not accept within {PATIENCE} s after there was room")
        ready = mer.until_ready(PATIENCE)
        if ready is None:
            faults.append("/readyz did not say 200 after there was room")
        time.sleep(2)
        senders.stop()
        judge(senders, target, paths, faults, told)
    finally:
        if senders:
            senders.stop()
        mer.stop()
        target.close()
        disk.close()
        if faults or options.keep:
            told.append(f"see {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return faults, told


def be_full(kind, disk, mer, senders, random_, full_secs, faults, told):
    """Fills the disk, does what the kind of round says, and looks at what mer answers meanwhile."""
    if kind == "read-only at the start":
        mer.stop()
        disk.mount("-o", "remount,ro")
        mer.launch()
    elif kind == "read-only after an error":
        disk.has_an_error()
    elif kind == "shut down after an error":
        disk.is_shut_down()
    elif kind == "filled slowly":
        disk.fill(leave=random_.randrange(1 << 20), pause=0.02)
    else:
        disk.fill()
    if kind.startswith("kept full"):
        disk.keep_full()
    began = time.monotonic()
    time.sleep(full_secs / 3)
    if "nats-server killed" in kind:
        mer.kill_nats_server()
    if "mer killed" in kind or kind == "mer stopped":
        mer.stop() if kind == "mer stopped" else mer.kill()
        mer.launch()
    details, ready = collections.Counter(), []
    while time.monotonic() - began < full_secs:
        answer = mer.ask("GET", "/readyz")
        if answer:
            ready.append(answer[0])
            details[str(json.loads(answer[2]).get("detail"))[:160]] += 1
        time.sleep(0.5)
    if kind == "read-only at the start":
        disk.mount("-o", "remount,rw")
    if kind.endswith("after an error"):
        # It cannot be mended while anybody has it open: so this kind of round is not about what mer does by itself.
        mer.stop()
        disk.mend()
        mer.launch()
    told.append(f"/readyz while it was so: {dict(collections.Counter(ready))}, {details.most_common(1)[0][0] if details else ''}")
    if not ready or ready[-1] != 503:
        faults.append("/readyz did not say 503 while nothing could be written")
    cause = "read-only" if "read-only" in kind else "disk error" if "shut down" in kind else "disk full"
    if not any(cause in detail for detail in details):
        faults.append(f"/readyz did not name the cause ({cause}): {dict(details)}")
    with senders.lock:
        refused = [(status, text, headers) for at, status, text, headers in senders.refused if at >= began]
    told.append(f"refused {len(refused)} meanwhile")
    named = [text for status, text, headers in refused if status == 503 and cause in text and headers["Retry-After"]]
    answered = [one for one in refused if one[0] is not None]
    if len(named) < 0.9 * len(answered):
        others = [one[:2] for one in answered if cause not in one[1]]
        faults.append(f"{len(named)} of {len(answered)} refusals were 503 with the cause ({cause}); another: {others[:1]}")


def judge(senders, target, paths, faults, told):
    acknowledged = {one.sequence for one in senders.acknowledged}
    until(lambda: all(acknowledged <= {one.sequence for one in target.of(path)} for path in paths), 60, 0.5)
    for path in paths:
        history = checker.History(senders.sent, senders.acknowledged, target.of(path))
        faults.extend(f"{path}: {fault}" for fault in checker.faults(history))
    repeated = sum(len(checker.duplicates(target.of(path))) for path in paths)
    told.append(f"{len(acknowledged)} acknowledged, {repeated} duplicates at {len(paths)} targets")
