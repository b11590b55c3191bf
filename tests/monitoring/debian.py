"""Prometheus and promtool: those on the PATH, or Debian's."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / ".tools/prometheus"
TOOLS = ("prometheus", "promtool")


def find_tools():
    """Where Prometheus and promtool are. Debian's package is unpacked, not installed: nothing is started by that."""
    if all(map(shutil.which, TOOLS)):
        return {tool: shutil.which(tool) for tool in TOOLS}
    found = {tool: str(FOLDER / "usr/bin" / tool) for tool in TOOLS}
    if not all(map(os.path.exists, found.values())):
        print("downloading Debian's prometheus into .tools/prometheus", flush=True)
        with tempfile.TemporaryDirectory() as work:
            download = ["apt-get", "download", "--quiet", "prometheus"]
            try:
                if subprocess.run(download, cwd=work, capture_output=True).returncode:
                    subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, check=True)
                    subprocess.run(download, cwd=work, capture_output=True, check=True)
                shutil.rmtree(FOLDER, ignore_errors=True)
                [package] = Path(work).glob("prometheus_*.deb")
                subprocess.run(["dpkg", "-x", package, FOLDER], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                sys.exit(f"no prometheus and promtool on the PATH, and apt-get did not download them: {error}")
    return found
