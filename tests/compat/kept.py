"""Clusters that an earlier planapply has applied, brought back to life in a folder."""

import json
import platform
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from cli.commands import Result, Run
from compat.replay import EPOCH, REGION, clock, in_sequence, replay
from lab.fixtures import set_env
from lab.honest import Cloud, serve

from planapply.dask import execute, scheduler
from planapply.dask.scheduler import SchedulerInfo
from planapply.model.diagnostics import PlanapplyError

FIXTURES = Path(__file__).parent / "fixtures"
SPEC, STATE, LOCK = "planapply.toml", "planapply.state.json", "planapply.state.json.lock"
BUCKET = "lab-states"
AGE = 3600.0
"""Seconds after which every VM is old enough to be visible, and so is missed if it is gone."""


class Site:
    """The current folder with a kept spec and state, and the cloud of that moment."""

    def __init__(self, cluster: str, cloud: Cloud, run: Run, wait: Callable[[float], None]) -> None:
        self.kept, self.cloud, self._run = FIXTURES / cluster, cloud, run
        self.wait = wait
        """Let that many seconds pass for planapply and the cloud."""

    def run(self, *arguments: str, code: int = 0) -> Result:
        """Run one command in this process; it must exit with `code`."""
        result = self._run(*arguments)
        assert result.code == code, (arguments, result)
        return result

    def apply(self, *arguments: str, code: int = 0) -> Result:
        return self.run(
            "apply", "--auto-approve", "--no-wait", "--no-retire", *arguments, code=code
        )

    def apply_in_waves(self, *arguments: str) -> Result:
        """Apply a change that needs several waves; all nodes join at once, since they have no machines."""

        async def wait_for_joins(*_: Any) -> dict[str, PlanapplyError]:
            return {}

        info = SchedulerInfo("", frozenset(), None)
        with (
            patch.object(execute, "wait_for_joins", wait_for_joins),
            patch.object(scheduler, "probe", lambda *_: info),
        ):
            return self.run("apply", "--auto-approve", "--no-retire", *arguments)

    def destroy(self) -> Result:
        return self.run("destroy", "--auto-approve")

    def spec(self, name: str) -> None:
        """Use another kept spec."""
        Path(SPEC).write_bytes((self.kept / f"{name}.toml").read_bytes())

    def has_no_changes(self) -> None:
        """Plan the spec in use; nothing is to be done."""
        planned = json.loads(self.run("plan", "--json", "--detailed-exitcode").out)
        assert planned["changes"] == []

    def vms(self) -> dict[str, str]:
        """Return the ids of live VMs by node, as their tags say; a node must not have two VMs."""
        found: dict[str, str] = {}
        for vm in self.cloud.instances():
            name = node_of(vm)
            assert name not in found, (name, vm)
            found[name] = vm["id"]
        return found

    def in_state(self) -> dict[str, str]:
        """Return the ids of VMs by node, as the state says."""
        document = json.loads(self.run("show", "--json").out)
        return {name: node["vm"] for name, node in document["nodes"].items()}

    def nothing_is_left(self) -> None:
        assert self.cloud.instances() == []
        groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
        assert {group["GroupName"] for group in groups} == {"default"}
        assert self.in_state() == {}

    def writes(self) -> list[str]:
        """Return the calls that changed something in EC2 since the last `cloud.clear()`."""
        reads = ("Describe", "Get")
        return [
            call["action"]
            for call in self.cloud.log()
            if ":" not in call["action"]
            and not call["action"].startswith(reads)
            and "DryRun" not in call["params"]
        ]


def node_of(vm: dict[str, Any]) -> str:
    """Return the node that a VM is by its tags, without using planapply's code."""
    names: list[str] = []
    for text in vm["tags"]["planapply:names"].split():
        if match := re.fullmatch(r"(.+)-\[([0-9]+)\.\.([0-9]+)\]", text):
            names += [f"{match[1]}-{index}" for index in range(int(match[2]), int(match[3]) + 1)]
        else:
            names.append(text)
    return names[vm["index"]] if len(names) > 1 else names[0]


@contextmanager
def revived(
    cluster: str, moment: str, run: Run, age: float = AGE, **settings: Any
) -> Iterator[Site]:
    """Put a kept cluster at one of its moments into the current folder and into an empty cloud.

    It is as many seconds old as `age` says. `settings` are the cloud's, and hold for the recorded
    calls as well.
    """
    kept = FIXTURES / cluster
    recorded = json.loads((kept / "calls.json").read_text())
    with (
        pytest.MonkeyPatch.context() as patch,
        serve(Cloud(capacity=recorded["capacity"], **settings)) as cloud,
        in_sequence(),
        clock(cloud.advance, EPOCH.timestamp() + age) as wait,
    ):
        set_env(cloud.env, patch)
        patch.setenv("LAB_PORT", cloud.url.rpartition(":")[2])
        cloud.freeze()
        replay(cloud, recorded["calls"][: recorded["moments"][moment]["calls"]])
        cloud.configure(capacity={})
        site = Site(cluster, cloud, run, wait)
        Path(SPEC).write_bytes((kept / SPEC).read_bytes())
        if cluster == "ec2-plain":
            _into_bucket(kept, moment)
        elif (kept / f"{moment}.state.json").exists():
            Path(STATE).write_bytes((kept / f"{moment}.state.json").read_bytes())
            if (lock := kept / f"{moment}.lock").exists():
                Path(LOCK).write_bytes(of_this_machine(lock.read_bytes()))
        yield site


def _into_bucket(kept: Path, moment: str) -> None:
    s3: Any = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for suffix, key in {"state.json": "plain.json", "lock": "plain.json.lock"}.items():
        if (kept / f"{moment}.{suffix}").exists():
            s3.put_object(Bucket=BUCKET, Key=key, Body=(kept / f"{moment}.{suffix}").read_bytes())


def of_this_machine(lock: bytes, **changes: Any) -> bytes:
    """Return a kept lock as if its holder had run here; `changes` replace some of its fields."""
    document = json.loads(lock) | {"host": platform.node(), **changes}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def exports(text: str) -> dict[str, str]:
    """Return the variables that `planapply env` exports."""
    lines = (shlex.split(line) for line in text.splitlines() if line.startswith("export "))
    return dict(line[1].split("=", 1) for line in lines)
