"""Commands in a folder, on the lab's real machines; and checks of their results."""

import json
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from crash.forkserver import shared_server
from lab.machines import Machines
from lab.seed import OWN_IMAGE

SPEC = """\
[cluster]
name = "genomics"
provider = "ec2"
join_timeout = "10 min"

[provider]
region = "eu-west-1"

[defaults]
size = "m6i.large"
image = "IMAGE"

[workers.cpu]
count = 2
options = { nthreads = 1 }

[workers.spot]
count = 2
spot = true
options = { nthreads = 1, resources = { SPOT = 1 } }
"""


class LabProject:
    """Folder with a spec, in which commands are run."""

    def __init__(self, folder: Path, machines: Machines) -> None:
        self.folder, self.lab, self.cloud = folder, machines, machines.cloud
        ssm: Any = boto3.client("ssm")
        image = ssm.get_parameter(Name=OWN_IMAGE)["Parameter"]["Value"]
        self.write(SPEC.replace("IMAGE", image))

    def write(self, text: str) -> None:
        (self.folder / "planapply.toml").write_text(text)

    def edit(self, old: str, new: str) -> None:
        text = (self.folder / "planapply.toml").read_text()
        assert old in text
        self.write(text.replace(old, new))

    def edit_cluster(self, lines: str) -> None:
        """Add lines to [cluster]."""
        self.edit('join_timeout = "10 min"', f'join_timeout = "10 min"\n{lines}')

    def shrink(self, count: int) -> None:
        """Have one group with `count` nodes: each machine costs CPU for as long as it runs."""
        spec = (self.folder / "planapply.toml").read_text().partition("[workers.spot]")[0]
        self.write(spec.replace("count = 2", f"count = {count}"))

    def run(self, *arguments: str, code: int = 0) -> str:
        env = {**os.environ, "HOME": str(self.folder)}
        done = shared_server().run(*arguments, cwd=self.folder, env=env)
        assert done.code == code, done.out + done.err
        return done.out + done.err

    def apply(self, *arguments: str, code: int = 0) -> str:
        return self.run("apply", "--auto-approve", *arguments, code=code)

    def joined(self) -> set[str]:
        """Return the scheduler, and the nodes that are connected to it."""
        nodes = json.loads(self.run("status", "--json"))["nodes"]
        return {node["name"] for node in nodes if node["joined"]}

    def vms(self) -> dict[str, str]:
        """Return the IDs of live VMs by node."""
        nodes = json.loads(self.run("show", "--json"))["nodes"]
        live = self.live()
        return {name: node["vm"] for name, node in nodes.items() if node["vm"] in live}

    def live(self) -> set[str]:
        """Return the IDs of live VMs."""
        return {vm["id"] for vm in self.cloud.instances()}

    def restore(self, names: Collection[str]) -> dict[str, str]:
        """Apply until these nodes exist; an apply accepts that a VM is gone only after the consistency delay."""

        def complete() -> bool:
            self.apply()
            return self.vms().keys() == set(names)

        wait_until(complete, f"all of {names}", pause=2.0)
        return self.vms()

    @contextmanager
    def client(self) -> Iterator[Any]:
        import planapply

        with planapply.connect(str(self.folder / "planapply.toml")) as client:
            yield client


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float = 300.0, pause: float = 0.3
) -> Any:
    """Wait until the condition is true, and check it every `pause` seconds; the time limit only stops a broken test."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(pause)
    return value


def joined(client: Any) -> set[str]:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {str(worker["name"]) for worker in workers.values()}


def check_gone(project: LabProject) -> None:
    """Check that nothing of the cluster is left in the cloud."""
    wait_until(lambda: not project.cloud.machines(), "the end of the machines")
    assert project.cloud.instances() == []
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default"}


def submit_results(client: Any, worker: str) -> list[Any]:
    """Return results that only one worker has, and that would differ if they were computed again."""
    return [client.submit(random.random, pure=False, workers=[worker]) for _ in range(5)]


class Work:
    """Results that only the named workers have, and how often each was computed."""

    def __init__(self, client: Any, workers: Sequence[str]) -> None:
        topic = f"work-{uuid4()}"

        def roll(task: int) -> float:  # a local function, so that all of it is pickled
            import random

            from distributed import get_worker

            get_worker().log_event(topic, task)
            return random.random()

        self.client, self.topic = client, topic
        self.futures = [
            client.submit(roll, i, pure=False, workers=[workers[i % len(workers)]])
            for i in range(3 * len(workers))
        ]
        self.values = self.results()

    def results(self) -> list[float]:
        return [future.result(60) for future in self.futures]

    def runs(self) -> list[int]:
        return sorted(task for _, task in self.client.get_events(self.topic))

    def check(self) -> None:
        """Check that the results still exist, and none was computed again."""
        assert self.results() == self.values
        assert self.runs() == list(range(len(self.futures)))
