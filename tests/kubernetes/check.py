"""Checks deploy/kubernetes without a cluster: by Kubernetes' own schemas, by what one part says about another, by mer's
settings, and by what this house asks of every container. Names all that is wrong, and fails if anything is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

import nats_values
from kustomization import HAS_PODS, containers, name_of, render

# The oldest that has all that is used, and the newest that the schemas are there for.
VERSIONS = ("1.30", "1.33", "1.37")
PROBES = ("livenessProbe", "readinessProbe")
SECURED = {
    ("allowPrivilegeEscalation",): False,
    ("readOnlyRootFilesystem",): True,
    ("capabilities", "drop"): ["ALL"],
}
POD_SECURED = {("runAsNonRoot",): True, ("seccompProfile", "type"): "RuntimeDefault"}


def schemas(document):
    """By the schemas of Kubernetes, which refuse fields that there are not."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = "/".join(str(part) for part in error.path)
            yield f"{name_of(document)}: {place}: {error.message} (Kubernetes {version})"
        except kubernetes_validate.SchemaNotFoundError:
            kind = f"{document.get('apiVersion')} {document.get('kind')}"
            yield f"{name_of(document)}: Kubernetes {version} has no {kind}"


def matches(selector, labels):
    """Whether a selector (matchLabels only) selects what has these labels."""
    if "matchExpressions" in (selector or {}):
        return False
    wanted = (selector or {}).get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def pods_of(documents):
    """Labels and ports of all pods there are, those of NATS' chart among them."""
    pods = [
        (name_of(document), *labels_and_ports(document)) for document in documents if document.get("kind") in HAS_PODS
    ]
    return [*pods, ("the chart's NATS", nats_values.LABELS, nats_values.PORTS)]


def labels_and_ports(document):
    ports = [port for container in containers(document) for port in container.get("ports") or []]
    labels = document["spec"].get("template", {}).get("metadata", {}).get("labels", {})
    return labels, {port.get("name"): port.get("containerPort") for port in ports}


def has_port(port, ports):
    return port in ports if isinstance(port, str) else port in ports.values()


def selectors(documents):
    """Everything that selects pods selects some, and the ports it names are theirs."""
    pods = pods_of(documents)
    for document in documents:
        kind, spec, name = document.get("kind"), document.get("spec", {}), name_of(document)
        if kind in HAS_PODS:
            labels, _ = labels_and_ports(document)
            if not matches(spec.get("selector"), labels):
                yield f"{name}: its selector does not match its own pod template"
            for constraint in spec["template"].get("spec", {}).get("topologySpreadConstraints", []):
                if not matches(constraint.get("labelSelector"), labels):
                    yield f"{name}: topologySpreadConstraints: the selector matches no pod of its own"
        elif kind == "Service":
            yield from ports_are_there(name, {"matchLabels": spec.get("selector")}, ports_of_service(spec), pods)
        elif kind == "PodDisruptionBudget":
            yield from ports_are_there(name, spec.get("selector"), [], pods)
        elif kind == "NetworkPolicy":
            yield from policy(name, spec, pods)
        elif kind == "HorizontalPodAutoscaler":
            target = f"{spec['scaleTargetRef']['kind']}/{spec['scaleTargetRef']['name']}"
            scaled = [document for document in documents if name_of(document) == target]
            if not scaled:
                yield f"{name}: there is no {target}"
            elif "replicas" in scaled[0]["spec"]:
                yield f"{name}: {target} says replicas as well: each apply would undo what the autoscaler did"


def ports_of_service(spec):
    return [port.get("targetPort", port.get("port")) for port in spec.get("ports", [])]


def ports_are_there(name, selector, ports, pods):
    selected = [(pod, of_pod) for pod, labels, of_pod in pods if matches(selector, labels)]
    if not selected:
        yield f"{name}: its selector matches no pod template"
    for port in ports:
        for pod, of_pod in selected:
            if not has_port(port, of_pod):
                yield f"{name}: {pod} has no port {port}"


def policy(name, spec, pods):
    """Ports of an ingress rule are of the pods selected; those of an egress rule, of the pods that it leads to."""
    yield from ports_are_there(name, spec.get("podSelector"), [], pods)
    for rule in spec.get("ingress", []):
        if spec.get("podSelector"):
            ports = [port["port"] for port in rule.get("ports", [])]
            yield from ports_are_there(name, spec["podSelector"], ports, pods)
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, []):
            for peer in rule.get(key, []):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    ports = [port["port"] for port in rule.get("ports", [])] if direction == "egress" else []
                    yield from ports_are_there(name, peer["podSelector"], ports, pods)


def dig(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def house_rules(document, settings):
    """What is asked of every pod: nobody is root, nothing is writable, and it can be asked how it is."""
    if document.get("kind") not in HAS_PODS:
        return
    pod, name = document["spec"].get("template", {}).get("spec", {}), name_of(document)
    for path, wanted in POD_SECURED.items():
        if dig(pod, ("securityContext", *path)) != wanted:
            yield f"{name}: securityContext: {'.'.join(path)} is not {wanted}"
    for key in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(key) is not False:
            yield f"{name}: {key} is not false"
    mounted = {volume["name"] for volume in pod.get("volumes", [])}
    for container in containers(document):
        yield from of_container(f"{name}: {container.get('name')}", container, mounted, settings)


def of_container(name, container, mounted, settings):
    image = container.get("image", "")
    tag = image.rsplit(":", 1)[1] if ":" in image.rsplit("/", 1)[-1] else ""
    if tag in ("", "latest"):
        yield f"{name}: the image {image!r} has no tag, or latest: which one runs would be up to chance"
    for path, wanted in SECURED.items():
        if dig(container, ("securityContext", *path)) != wanted:
            yield f"{name}: securityContext: {'.'.join(path)} is not {wanted}"
    ports = {port.get("name"): port.get("containerPort") for port in container.get("ports", [])}
    for probe in PROBES:
        if probe not in container:
            yield f"{name}: it has no {probe}"
        elif not has_port(dig(container, (probe, "httpGet", "port")), ports):
            yield f"{name}: {probe}: it has no such port"
    for key in ("cpu", "memory"):
        if dig(container, ("resources", "requests", key)) is None:
            yield f"{name}: resources: it requests no {key}"
    if dig(container, ("resources", "limits", "memory")) is None:
        yield f"{name}: resources: its memory has no limit"
    variables = {variable["name"]: str(variable.get("value", "")) for variable in container.get("env", [])}
    yield from (f"{name}: env: mer has no setting {key}" for key in variables if key not in settings)
    yield from unmounted(name, container, variables)
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in mounted:
            yield f"{name}: volumeMounts: there is no volume {mount['name']}"


def unmounted(name, container, variables):
    """Variables with paths at which nothing is mounted."""
    mounts = [f"{mount['mountPath']}/" for mount in container.get("volumeMounts", [])]
    for key, value in variables.items():
        if value.startswith("/") and not any(value.startswith(mount) for mount in mounts):
            yield f"{name}: nothing is mounted where {key} looks: {value}"


def config_maps(documents, settings):
    """The ConfigMaps that are referred to are there, and those that become environments have mer's settings only."""
    maps = {document["metadata"]["name"]: document for document in documents if document.get("kind") == "ConfigMap"}
    for document in documents:
        for container in containers(document):
            for source in container.get("envFrom", []):
                wanted = dig(source, ("configMapRef", "name"))
                if wanted is None:
                    continue
                if wanted not in maps:
                    yield f"{name_of(document)}: envFrom: there is no ConfigMap {wanted}"
                    continue
                data = maps[wanted].get("data", {})
                yield from (f"ConfigMap/{wanted}: mer has no setting {key}" for key in data if key not in settings)
                yield from unmounted(name_of(document), container, data)


def settings_of_mer():
    """The names of the environment variables that `mer serve` reads."""
    shown = subprocess.run([os.environ["MER"], "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\[env: (MER_[A-Z_]+)", shown))


def really_rendered(folder):
    """What kustomize itself makes of the folder, where there is one."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            made = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
            if made.returncode:
                return command[0], None, made.stderr.strip()
            return command[0], [document for document in yaml.safe_load_all(made.stdout) if document], None
    return None, None, None


def check(folder, settings):
    """All that is wrong with a folder."""
    documents, problems = render(folder)
    return [*problems, *check_all(documents, settings), *nats_values.check(Path(folder) / "nats-values.yaml")]


def check_all(documents, settings):
    for document in documents:
        yield from schemas(document)
        yield from house_rules(document, settings)
    yield from selectors(documents)
    yield from config_maps(documents, settings)


def main(folder):
    settings = settings_of_mer()
    problems = check(folder, settings)
    documents, _ = render(folder)
    tool, made, error = really_rendered(folder)
    if error:
        problems.append(f"{tool}: {error}")
    elif made is not None:
        problems += [f"as {tool} renders it: {problem}" for problem in check_all(made, settings)]
    for problem in problems:
        print(problem, file=sys.stderr)
    by = f"rendered by {tool}, too" if made is not None else "no kustomize here: only as this check reads it"
    print(f"{len(documents)} documents, Kubernetes {', '.join(VERSIONS)}, {by}: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
