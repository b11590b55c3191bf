"""File systems of a campaign's own: a mount namespace, and an ext4 on which power can be cut.

A power cut is EXT4_IOC_SHUTDOWN without a flush of its log (as in xfstests): from that moment nothing more reaches the file
system's device. What the kernel had in memory only, in the page cache or in the journal's open transaction, is gone when it
is mounted again. What it is not: a disk that loses what it has said to be written, or that reorders or tears writes.
"""

import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

# Set where a campaign has started itself again, in a namespace of its own.
INSIDE = "MER_CAMPAIGN_INSIDE"
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSH = 2


def is_inside():
    return os.environ.get(INSIDE) == "1"


def enter_namespace(campaign):
    """The same again in a mount namespace: what is mounted there is gone with it."""
    problem = None
    if os.geteuid() != 0:
        problem = f"it is run by user {os.geteuid()}, and only root may mount"
    elif not shutil.which("unshare"):
        problem = "there is no `unshare` (util-linux)"
    elif subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        problem = "this root may not mount (a container without CAP_SYS_ADMIN?)"
    if problem:
        print(f"campaign {campaign} cannot run: {problem}. Run it as root on a machine, or in a privileged container")
        return False
    again = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
    return subprocess.run(again, env={**os.environ, INSIDE: "1"}).returncode == 0


class PowerDisk:
    """An ext4 in a file in memory, whose power can be cut."""

    def __init__(self, work, megabytes=512):
        self.folder, self.image = pathlib.Path(work) / "disk", pathlib.Path(work) / "image"
        self.folder.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self.image)], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)

    def cut(self):
        """The power is gone. Whoever writes there must be frozen already, and is to be killed next."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(folder)

    def back(self):
        """The machine starts again."""
        # A process of those that were killed may take a moment to let go of its files.
        for _ in range(200):
            if not subprocess.run(["umount", str(self.folder)], capture_output=True).returncode:
                return self.mount()
            time.sleep(0.02)
        raise RuntimeError(f"{self.folder} is still in use")

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)


def in_memory(work):
    """A folder whose files are in memory: what is flushed there costs no disk, and nobody else's time."""
    work = pathlib.Path(work)
    work.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6g", "none", str(work)], check=True)
    return work


def unmount(work):
    subprocess.run(["umount", "--lazy", str(work)], check=False, capture_output=True)
