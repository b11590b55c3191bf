"""Faults that check.py must find: each is put into a copy of the manifests, and must be told."""

import shutil
import sys
import tempfile
from pathlib import Path

from check import check, settings_of_mer

# What is wrong then, the file, what is replaced (its first occurrence), by what, and what must be said.
FAULTS = [
    ("an unknown field", "api.yaml", "maxSurge:", "maxSurges:", "'maxSurges' was unexpected"),
    ("a wrong type", "api.yaml", "containerPort: 8080", "containerPort: http", "is not of type 'integer'"),
    ("a wrong value", "dispatcher.yaml", "whenUnsatisfiable: ScheduleAnyway", "whenUnsatisfiable: 1", "is not of type"),
    (
        "an API that there is not",
        "api.yaml",
        "policy/v1",
        "policy/v1beta1",
        "has no policy/v1beta1 PodDisruptionBudget",
    ),
    (
        "a field that is there twice",
        "dispatcher.yaml",
        "  replicas: 2",
        "  replicas: 2\n  replicas: 3",
        "is there twice",
    ),
    ("a missing file", "kustomization.yaml", "- network.yaml", "- networks.yaml", "networks.yaml"),
    (
        "a file that nothing names",
        "kustomization.yaml",
        "  - network.yaml\n",
        "",
        "network.yaml: kustomization.yaml does not",
    ),
    ("an unknown field of kustomize", "kustomization.yaml", "labels:", "labelled:", "does not know 'labelled'"),
    ("a Deployment that selects others", "api.yaml", "component: api", "component: apis", "its own pod template"),
    (
        "a Service that selects nothing",
        "api.yaml",
        "  selector:\n    app",
        "  selector:\n    app.kubernetes.io/x: y\n    app",
        "Service/mer: its selector matches no",
    ),
    (
        "a PodDisruptionBudget for nothing",
        "dispatcher.yaml",
        "spec:\n  maxUnavailable: 1\n  selector:\n    matchLabels:\n",
        "spec:\n  maxUnavailable: 1\n  selector:\n    matchLabels:\n      x: y\n",
        "PodDisruptionBudget/mer-dispatcher: its selector",
    ),
    (
        "a NetworkPolicy for nothing",
        "network.yaml",
        "component: api",
        "component: nobody",
        "NetworkPolicy/mer-api: its selector",
    ),
    (
        "a NetworkPolicy to a port that is not there",
        "network.yaml",
        "port: 4222",
        "port: 4223",
        "the chart's NATS has no port 4223",
    ),
    (
        "a Service port that no container has",
        "api.yaml",
        "targetPort: http",
        "targetPort: web",
        "Deployment/mer-api has no port web",
    ),
    (
        "an autoscaler for nothing",
        "api.yaml",
        "kind: Deployment, name: mer-api",
        "kind: Deployment, name: mer",
        "there is no Deployment/mer",
    ),
    ("a missing liveness probe", "api.yaml", "livenessProbe:", "startupProbe:", "it has no livenessProbe"),
    ("a missing readiness probe", "dispatcher.yaml", "readinessProbe:", "startupProbe:", "it has no readinessProbe"),
    (
        "a probe of no port",
        "api.yaml",
        "path: /healthz, port: http",
        "path: /healthz, port: web",
        "livenessProbe: it has no such port",
    ),
    ("root", "api.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot is not True"),
    (
        "a missing securityContext",
        "dispatcher.yaml",
        "readOnlyRootFilesystem: true",
        "privileged: false",
        "readOnlyRootFilesystem is not True",
    ),
    ("capabilities", "dispatcher.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities.drop is not ['ALL']"),
    ("memory without limit", "api.yaml", "            limits: {memory: 768Mi}\n", "", "its memory has no limit"),
    (
        "a setting that mer does not have",
        "api.yaml",
        "name: MER_MAX_REQUESTS",
        "name: MER_MAX_REQUEST",
        "mer has no setting MER_MAX_REQUEST",
    ),
    (
        "the same in the ConfigMap",
        "kustomization.yaml",
        "MER_REPLICAS=",
        "MER_REPLICA=",
        "mer has no setting MER_REPLICA",
    ),
    (
        "a ConfigMap that is not there",
        "dispatcher.yaml",
        "name: mer-settings",
        "name: mer-setting",
        "there is no ConfigMap mer-setting",
    ),
    (
        "a file that is not mounted",
        "api.yaml",
        "value: /etc/mer/tokens/tokens",
        "value: /etc/tokens",
        "nothing is mounted where MER_TOKENS_FILE",
    ),
    (
        "a volume that is not there",
        "dispatcher.yaml",
        "volumes:\n        - name: nats",
        "volumes:\n        - name: nat",
        "there is no volume nats",
    ),
    ("the tag latest", "kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "has no tag, or latest"),
    ("no tag", "kustomization.yaml", "    newTag: 0.1.0\n", "", "has no tag, or latest"),
    (
        "a key that the chart does not have",
        "nats-values.yaml",
        "fileStore:",
        "fileStorage:",
        "the chart has no 'fileStorage'",
    ),
    ("a wrong type for the chart", "nats-values.yaml", "replicas: 3", "replicas: three", "is no int"),
    (
        "a setting that nats-server does not have",
        "nats-values.yaml",
        "sync_interval:",
        "sync_intervals:",
        "sync_intervals",
    ),
    ("two nodes of NATS", "nats-values.yaml", "replicas: 3", "replicas: 2", "the manifests count on 3"),
]


def main(folder):
    settings, unseen = settings_of_mer(), []
    for what, file, find, put, said in FAULTS:
        with tempfile.TemporaryDirectory() as copy:
            copy = Path(copy) / "kubernetes"
            shutil.copytree(folder, copy)
            text = (copy / file).read_text()
            if find not in text:
                unseen.append(f"{what}: {file} has no {find!r} to be replaced")
                continue
            (copy / file).write_text(text.replace(find, put, 1))
            problems = check(copy, settings)
            if not any(said in problem for problem in problems):
                unseen.append(f"{what}: nothing says {said!r}: {problems}")
    for problem in unseen:
        print(problem, file=sys.stderr)
    print(f"{len(FAULTS)} faults put in, {len(FAULTS) - len(unseen)} found")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
