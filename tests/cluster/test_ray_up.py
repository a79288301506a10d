"""What `ray up` makes of cluster/deploy's files: Ray's own code, and its AWS provider before an EC2 of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parent.parent.parent / "cluster" / "deploy"


def prepared(name: str) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(yaml.safe_load((DEPLOY / name).read_text()))


def test_the_head_is_not_counted_among_machines_at_hand() -> None:
    told = prepared("two-machines.yaml")
    # One type for all machines: autoscaler v2 takes the head for one of the min_workers.
    assert list(told["available_node_types"]) == [told["head_node_type"]]
    assert "RAY_enable_autoscaler_v2=0" in told["head_start_ray_commands"][-1]


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """EC2 and IAM of our own, with the roles of docs/deploy.md; boto3."""
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("HOME", str(tmp_path))  # ray writes a key pair into ~/.ssh
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDMANTATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-tests")
    with mock_aws():
        for name in ("manta-head", "manta-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        yield boto3


def test_what_ray_up_starts_on_aws(amazon: Any) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    # IAM reads the policy too.
    policy = (DEPLOY / "aws-head-policy.json").read_text()
    amazon.client("iam").create_policy(PolicyName="manta-head", PolicyDocument=policy)
    told = AWSNodeProvider.bootstrap_config(prepared("aws.yaml"))
    ec2 = amazon.client("ec2", region_name=told["provider"]["region"])
    group = ec2.describe_security_groups(GroupNames=["manta"])["SecurityGroups"][0]
    to_the_world = [each for each in group["IpPermissions"] if each["IpRanges"]]
    assert [(each["FromPort"], each["ToPort"]) for each in to_the_world] == [(22, 22)]

    provider = AWSNodeProvider(told["provider"], "manta")
    for kind in ("head", "spot"):
        settings = dict(told["available_node_types"][kind]["node_config"])
        (node,) = provider.create_node(settings, {"ray-node-name": kind}, 1)
        found = ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"][0]
        assert found["MetadataOptions"]["HttpTokens"] == "required"
        profile = found["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        assert profile == ("manta-head" if kind == "head" else "manta-worker")
        assert found.get("InstanceLifecycle") == (None if kind == "head" else "spot")
        # By which the head's role may end it.
        assert {"Key": "ray-cluster-name", "Value": "manta"} in found["Tags"]
