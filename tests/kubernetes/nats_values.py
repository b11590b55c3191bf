"""The values for NATS' chart. The chart itself is not here: the keys are checked against those that it documents, the
settings by nats-server, in the form that the chart gives them."""

import os
import subprocess
import tempfile
from pathlib import Path

from kustomization import load

# What the chart calls its pods and their ports.
LABELS = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/component": "nats", "app.kubernetes.io/instance": "nats"}
PORTS = {"nats": 4222, "cluster": 6222, "monitor": 8222}
# The keys of the chart (from 1.0 on) that are used here; `...` is free: merged into what the chart makes.
KEYS = {
    "fullnameOverride": str,
    "config": {
        "cluster": {"enabled": bool, "replicas": int, "merge": ...},
        "jetstream": {"enabled": bool, "fileStore": {"pvc": {"size": str, "storageClassName": str}}, "merge": ...},
        "monitor": {"enabled": bool, "port": int},
        "merge": ...,
    },
    "container": {"image": {"tag": str}, "env": ..., "merge": ...},
    "reloader": {"enabled": bool, "merge": ...},
    "podTemplate": {"topologySpreadConstraints": ..., "merge": ...},
    "natsBox": {"enabled": bool},
}
# The public halves of NKeys whose other halves nobody has.
SOME_NKEYS = {
    "MER_API_NKEY": "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7",
    "MER_DISPATCHER_NKEY": "UAAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCLL5",
}


def unknown(values, known, place="nats-values.yaml"):
    """What the chart would pass over in silence, or trip over."""
    for key, value in values.items():
        expected = known.get(key)
        if expected is None:
            yield f"{place}: the chart has no {key!r} that this check knows"
        elif isinstance(expected, dict):
            if isinstance(value, dict):
                yield from unknown(value, expected, f"{place}: {key}")
            else:
                yield f"{place}: {key} is not a map"
        elif expected is not ... and not (
            isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
        ):
            yield f"{place}: {key}: {value!r} is no {expected.__name__}"


def conf(value):
    """A value in the form of nats-server's configuration; what stands in << >> stands as it is."""
    if isinstance(value, dict):
        return "{" + "\n".join(f"{key}: {conf(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(conf(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if text.startswith("<<") and text.endswith(">>"):
        return text[2:-2].strip()
    return text if isinstance(value, int) else f'"{text}"'


def settings(values):
    """What the chart makes of `config`, as far as it is used here."""
    config = values.get("config", {})
    routes = [f"nats://nats-{n}.nats-headless:6222" for n in range(config.get("cluster", {}).get("replicas", 0))]
    made = {"server_name": "nats-0", "port": PORTS["nats"], "http_port": config.get("monitor", {}).get("port")}
    made["jetstream"] = {"store_dir": "/data", **config.get("jetstream", {}).get("merge", {})}
    made["cluster"] = {"name": "nats", "port": PORTS["cluster"], "no_advertise": True, "routes": routes}
    return made | config.get("merge", {})


def check(path):
    try:
        (values,) = load(path)
    except ValueError as error:
        return [str(error)]
    problems = list(unknown(values, KEYS))
    config = values.get("config", {})
    wanted = {
        "fullnameOverride": (values.get("fullnameOverride"), "nats"),
        "config.cluster.replicas": (config.get("cluster", {}).get("replicas"), 3),
        "config.monitor.port": (config.get("monitor", {}).get("port"), PORTS["monitor"]),
        "config.jetstream.enabled": (config.get("jetstream", {}).get("enabled"), True),
    }
    for key, (value, expected) in wanted.items():
        if value != expected:
            problems.append(f"nats-values.yaml: {key} is {value!r}; the manifests count on {expected!r}")
    if not problems:
        problems += nats_server_says(conf(settings(values))[1:-1])
    return problems


def nats_server_says(text):
    """Whether nats-server takes the settings."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "nats.conf"
        written.write_text(text)
        environment = os.environ | {name: f"{key}\n" for name, key in SOME_NKEYS.items()}
        command = [os.environ["MER_NATS_SERVER"], "-t", "-c", str(written)]
        said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return [f"nats-values.yaml: nats-server: {said.stderr.strip()}"] if said.returncode else []
