"""nats-server as a process, one or a cluster of three, and the links between nodes and to mer, which can be cut."""

import asyncio
import os
import pathlib
import signal
import subprocess
import threading

from world import free_port, until


class Links:
    """TCP connections through this process, in one thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def add(self, to_port):
        return asyncio.run_coroutine_threadsafe(Link(to_port).open(), self.loop).result(10)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


class Link:
    """A port that leads to another one. While it is `stalled`, nothing passes, and nobody is told: as when packets are lost."""

    def __init__(self, to_port):
        self.to_port, self.port, self.passes, self.writers = to_port, None, asyncio.Event(), set()
        self.passes.set()

    async def open(self):
        self.loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return self

    async def _connected(self, reader, writer):
        await self.passes.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self.writers -= {writer, far_writer}

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                await self.passes.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def stall(self):
        self.loop.call_soon_threadsafe(self.passes.clear)

    def mend(self):
        self.loop.call_soon_threadsafe(self.passes.set)

    def cut(self):
        """Ends its connections; new ones may be made."""
        self.loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self.writers])


class Nats:
    """A nats-server. `route_ports` are those of the other nodes, for a node of a cluster."""

    def __init__(self, name, store, log, sync_interval, cluster_port=None):
        self.name, self.store, self.log = name, pathlib.Path(store), pathlib.Path(log)
        self.sync_interval, self.port, self.cluster_port = sync_interval, free_port(), cluster_port
        self.route_ports, self.process = [], None

    def configuration(self):
        sync = f", sync_interval: {self.sync_interval}" if self.sync_interval else ""
        lines = [
            f'server_name: {self.name}\nlisten: "127.0.0.1:{self.port}"\nmax_payload: 8MB',
            f'jetstream {{ store_dir: "{self.store}"{sync}, max_file_store: 4GB }}',
        ]
        if self.cluster_port:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.route_ports)
            lines.append(
                f'cluster {{ name: campaign, listen: "127.0.0.1:{self.cluster_port}", routes: [{routes}], no_advertise: true }}'
            )
        return "\n".join(lines) + "\n"

    def launch(self):
        file = self.log.with_suffix(".conf")
        file.write_text(self.configuration())
        with self.log.open("ab") as log:
            command = [os.environ["MER_NATS_SERVER"], "--config", str(file)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.is_up():
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def freeze(self):
        freeze([self.process.pid])

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)


def freeze(pids):
    """Stops them, and waits until each of their threads stands still (one that waits for the disk does so first)."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def state(task):
        try:
            return (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    def states():
        return {task.name: state(task) for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}

    if until(lambda: set(states().values()) <= set("TtXZ"), 30, 0.001) is None:
        raise RuntimeError(f"{pids} did not stop: {states()}")


def cluster(folders, logs, sync_interval, links):
    """Three nodes, not launched yet; and the links between them by (from, to)."""
    nodes = [Nats(f"n{at + 1}", folder / "store", logs / f"n{at + 1}.log", sync_interval, free_port()) for at, folder in enumerate(folders)]
    between = {}
    for one in range(3):
        for other in range(3):
            if one != other:
                between[one, other] = links.add(nodes[other].cluster_port)
                nodes[one].route_ports.append(between[one, other].port)
    return nodes, between


