"""cluster/deploy: taken by the tools that will read it, guarded by a token, and of the versions that the tests ran with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cluster.metrics import GAUGES

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "cluster" / "deploy"
KUBERAY = yaml.safe_load(Path(__file__).with_name("kuberay.yaml").read_text())
KUBERNETES = "1.31"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MANIFESTS = ("kuberay-cluster.yaml", "kuberay-job.yaml")
LAUNCHED = ("aws.yaml", "two-machines.yaml")
# Literals that only a secret looks like: AWS' keys, private keys, long random strings, a value behind a telling name.
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|PRIVATE KEY|\b[0-9a-f]{32,}\b|(?=[A-Za-z+]*\d)[A-Za-z0-9+]{40,}"
    r"|(?i:token|secret|password|access_key)\w*[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}"
)


def manifests(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def ray_cluster(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = manifests(path)[0]["spec"]
    return spec.get("rayClusterSpec", spec)


def pod_templates(path: Path) -> list[dict[str, Any]]:
    spec, cluster = manifests(path)[0]["spec"], ray_cluster(path)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    submitter = [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
    return submitter + [group["template"] for group in groups]


def pins() -> dict[str, str]:
    """{name as pyproject.toml may say it: version}."""
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    pairs = [line.partition("==") for line in lines if not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, _, version in pairs}


def taken_by_kubernetes(path: Path) -> None:
    for document in manifests(path):
        if document["apiVersion"] == "ray.io/v1":
            jsonschema.validate(document, KUBERAY)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
    for template in pod_templates(path):
        kubernetes_validate.validate({**pod, "template": template}, KUBERNETES, strict=True)


def taken_by_ray_up(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(path.read_text())))


def taken_by_docker(path: Path) -> None:
    linted("hadolint", path)


def taken_by_bash(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    linted("shellcheck", path)


def taken_by_iam(path: Path) -> None:
    for statement in json.loads(path.read_text())["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert not action.endswith(":*"), action
            # What changes something that is there already says whose.
            if not re.match(r"ec2:(Describe|RunInstances)|ssm:Get", action):
                assert statement["Resource"] != "*" and statement["Condition"], action


def taken_by_pip(path: Path) -> None:
    found = pins()
    for said in [*PROJECT["dependencies"], "boto3"]:
        wanted = Requirement(said)
        version = found[wanted.name.lower().replace("_", "-")]
        assert wanted.specifier.contains(version, prereleases=True), (said, version)


def linted(tool: str, path: Path) -> None:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(tool, path=beside)
    assert program, f"{tool} is missing: make install"
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def asks_for_what_runs_export(path: Path) -> None:
    board = json.loads(path.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    names = [re.fullmatch(r'ray_manta_(\w+)\{run=~"\$run"\}', each) for each in asked]
    assert {name[1] for name in names if name} == {*GAUGES} and all(names)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    known = {variable["name"] for variable in board["templating"]["list"]}
    assert {*re.findall(r"\$\{?(\w+)", json.dumps(board))} <= known


CHECKS: dict[str, Callable[[Path], None]] = {
    "Dockerfile": taken_by_docker,
    "aws-head-policy.json": taken_by_iam,
    "grafana.json": asks_for_what_runs_export,
    "aws.yaml": taken_by_ray_up,
    "constraints.txt": taken_by_pip,
    "kuberay-cluster.yaml": taken_by_kubernetes,
    "kuberay-job.yaml": taken_by_kubernetes,
    "slurm.sbatch": taken_by_bash,
    "two-machines.yaml": taken_by_ray_up,
}
FILES = sorted(path.name for path in DEPLOY.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_its_tool_takes_it(name: str) -> None:
    assert name in CHECKS, f"cluster/deploy/{name} is checked by nobody"
    CHECKS[name](DEPLOY / name)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("spec.backofLimit", 3),
        ("spec.rayClusterSpec.authOptions.mode", "tokens"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.toleration", []),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.securityContext", True),
    ],
)
def test_a_mistake_in_a_manifest_is_found(place: str, value: object, tmp_path: Path) -> None:
    documents = manifests(DEPLOY / "kuberay-job.yaml")
    *above, last = place.split(".")
    within: Any = documents[0]
    for key in above:
        within = within[int(key) if key.isdecimal() else key]
    within[last] = value
    mistaken = tmp_path / "kuberay-job.yaml"
    mistaken.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(jsonschema.ValidationError):
        taken_by_kubernetes(mistaken)


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_written_down(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert not (found := SECRET.search(text)), found
    assert SECRET.search(f"{text}\nRAY_AUTH_TOKEN=5e3a0c1d9b7f4e21")
    assert SECRET.search(f"{text}\nenv: {{name: KEY, value: AKIAIOSFODNN7EXAMPLE}}")


@pytest.mark.parametrize(
    "name", sorted(set(FILES) - {"aws-head-policy.json", "constraints.txt", "grafana.json"})
)
def test_ray_wants_a_token(name: str) -> None:
    text = (DEPLOY / name).read_text()
    if name in MANIFESTS:
        assert ray_cluster(DEPLOY / name)["authOptions"] == {"mode": "token"}
    elif name == "two-machines.yaml":
        told = yaml.safe_load(text)
        starts = told["head_start_ray_commands"] + told["worker_start_ray_commands"]
        for command in (each for each in starts if "ray start" in each):
            assert "RAY_AUTH_MODE=token ray start" in command
    elif name == "aws.yaml":
        assert "--env=RAY_AUTH_MODE=token" in yaml.safe_load(text)["docker"]["run_options"]
    else:
        assert re.search(r"(export |^    )RAY_AUTH_MODE=token$", text, re.MULTILINE)
    if name in LAUNCHED:  # the nodes get what the sender has
        assert yaml.safe_load(text)["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", sorted({*MANIFESTS, *LAUNCHED, "slurm.sbatch"}))
def test_dashboards_are_bound_to_loopback(name: str) -> None:
    hosts = set(re.findall(r"dashboard-host(?:=|: )([\d.]+)", (DEPLOY / name).read_text()))
    # KubeRay's operator must reach a RayJob's: see the policy below.
    assert hosts == ({"0.0.0.0"} if name == "kuberay-job.yaml" else {"127.0.0.1"})


@pytest.mark.parametrize("name", MANIFESTS)
def test_only_the_operator_may_knock_at_the_pods(name: str) -> None:
    (policy,) = (
        each["spec"] for each in manifests(DEPLOY / name) if each["kind"] == "NetworkPolicy"
    )
    labels = policy["podSelector"]["matchLabels"]
    for template in pod_templates(DEPLOY / name):
        assert labels.items() <= template["metadata"]["labels"].items()
    among, *others = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": labels}}]}
    if name == "kuberay-cluster.yaml":
        assert not others
        return
    (operator,) = others
    (who,) = operator["from"]
    assert who["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_have_no_privileges_and_room_for_nccl(name: str) -> None:
    for template in pod_templates(DEPLOY / name):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
    for group in ray_cluster(DEPLOY / name)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        mounts = {each["mountPath"]: each["name"] for each in spec["containers"][0]["volumeMounts"]}
        (shm,) = (each for each in spec["volumes"] if each["name"] == mounts["/dev/shm"])
        assert shm["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("name", MANIFESTS)
def test_ray_reads_a_head_without_work_and_gpu_workers(name: str) -> None:
    from ray.autoscaler._private.kuberay import autoscaling_config
    from ray.autoscaler._private.util import validate_config

    resource = {
        "metadata": {"name": "manta", "namespace": "default"},
        "spec": ray_cluster(DEPLOY / name),
    }
    told = autoscaling_config._derive_autoscaling_config_from_ray_cr(resource)
    validate_config(told)
    types = told["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["spot-gpu"]["resources"]["GPU"] == 1
    assert types["spot-gpu"]["min_workers"] >= 2


def test_versions_agree() -> None:
    (wanted,) = (Requirement(each) for each in PROJECT["dependencies"] if each.startswith("ray["))
    for name in MANIFESTS:
        version = ray_cluster(DEPLOY / name)["rayVersion"]
        assert version == pins()["ray"] and wanted.specifier.contains(version)
    images = set()
    for name in FILES:
        images |= set(re.findall(r"\S+/manta:\S+", (DEPLOY / name).read_text()))
    assert images == {f"registry.example.com/manta:{PROJECT['version']}"}
    (python,) = re.findall(r"^FROM python:([\d.]+)-", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)


def test_the_image_is_rootless_and_gets_what_runs() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert patterns[0] == "*"  # what is not named stays out
    named = {line[1:] for line in patterns if line.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {"launch.py", "pyproject.toml", "README.md", "recipes", *rooms} - {
        "tests",
        "benchmarks",
    } <= named
