"""What kustomize makes of a folder, as far as deploy/kubernetes uses it: resources, namespace, labels, images, and
ConfigMaps out of literals. Whatever else a kustomization says is refused, not passed over."""

import copy
from pathlib import Path

import yaml

KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "images", "configMapGenerator"}
HAS_PODS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}
HAS_NO_NAMESPACE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass"}


class Loader(yaml.SafeLoader):
    """YAML in which a key that is there twice is a fault: the second would silently win."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load(path):
    """The documents of a file; a ValueError says what is wrong with it."""
    try:
        return [document for document in yaml.load_all(path.read_text(), Loader) if document is not None]
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def name_of(document):
    return f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"


def render(folder):
    """The documents that would be applied, and what is wrong with the kustomization."""
    folder, problems = Path(folder), []
    try:
        (kustomization,) = load(folder / "kustomization.yaml")
    except ValueError as error:
        return [], [str(error)]
    for key in sorted(kustomization.keys() - KNOWN):
        problems.append(f"kustomization.yaml: this check does not know {key!r}")
    documents = []
    for resource in kustomization.get("resources", []):
        try:
            documents += load(folder / resource)
        except ValueError as error:
            problems.append(str(error))
    named = set(kustomization.get("resources", [])) | {"kustomization.yaml", "nats-values.yaml"}
    for path in sorted(folder.glob("*.yaml")):
        if path.name not in named:
            problems.append(f"{path.name}: kustomization.yaml does not name it")
    for generator in kustomization.get("configMapGenerator", []):
        for key in sorted(generator.keys() - {"name", "literals"}):
            problems.append(f"kustomization.yaml: configMapGenerator: this check does not know {key!r}")
        data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
        documents.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}
        )
    documents = [copy.deepcopy(document) for document in documents]
    for document in documents:
        problems += put_in(kustomization, document)
    names = [name_of(document) for document in documents]
    problems += [f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]
    return documents, problems


def put_in(kustomization, document):
    """What the kustomization says about all documents, put into one. Answers what is wrong."""
    metadata, problems = document.setdefault("metadata", {}), []
    if "namespace" in kustomization and document.get("kind") not in HAS_NO_NAMESPACE:
        metadata["namespace"] = kustomization["namespace"]
    template = document.get("spec", {}).get("template") if document.get("kind") in HAS_PODS else None
    for labels in kustomization.get("labels", []):
        for key in sorted(labels.keys() - {"pairs", "includeTemplates"}):
            problems.append(f"kustomization.yaml: labels: this check does not know {key!r}")
        metadata["labels"] = metadata.get("labels", {}) | labels["pairs"]
        if template is not None and labels.get("includeTemplates"):
            of_pods = template.setdefault("metadata", {})
            of_pods["labels"] = of_pods.get("labels", {}) | labels["pairs"]
    for container in containers(document):
        for image in kustomization.get("images", []):
            if container.get("image", "").split(":")[0] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image.get('newTag', 'latest')}"
    return problems


def containers(document):
    """All containers of what has pods."""
    if document.get("kind") not in HAS_PODS:
        return []
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    return [container for key in ("initContainers", "containers") for container in pod.get(key) or []]
