"""Providers that the suite tests: a new provider is one more entry of `SUBJECTS`."""

import atexit
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

import pytest
from fake_provider import FakeCloud, FakeProvider, Faults

from planapply.fleet.request import launch_request, split_batches
from planapply.fleet.tls import make_tls
from planapply.model.node import TAG_LINEAGE, VM, NodeConfig
from planapply.model.state import Intent, Resource, State
from planapply.provider import (
    ErrorKind,
    LaunchRequest,
    LaunchResult,
    Limits,
    Provider,
    ProviderError,
)


@dataclass
class Subject:
    """Account of one cloud, for one test."""

    connect: Callable[[], Provider]
    """Function that returns a new provider object for the same account."""
    wait: Callable[[float], None] = sleep
    worker: NodeConfig = field(
        default_factory=lambda: NodeConfig(group="cpu", cls="distributed.Worker")
    )
    """Config of the cheapest VM."""
    failures: Mapping[ErrorKind, Callable[["Account"], LaunchRequest]] = field(default_factory=dict)
    """Functions that make a launch fail without a VM, and return its request."""
    limit_capacity: Callable[[int], None] | None = None
    """Function that limits the number of VMs that the cloud can launch."""
    visible_text: Callable[[VM], str] = str
    """Function that returns all of a VM that other users of the cloud or machine can read."""


class Account:
    """View of a subject for one cluster; its VMs are terminated after the test."""

    def __init__(self, subject: Subject, lineage: str | None = None) -> None:
        self.subject = subject
        self.provider = subject.connect()
        self.state = State(lineage=lineage or str(uuid4()), cluster="conformance", provider="any")

    @property
    def tags(self) -> dict[str, str]:
        return {TAG_LINEAGE: self.state.lineage}

    def request(
        self,
        *names: str,
        token: str = "",
        scheduler: str
        | None = "tcp://127.0.0.1:9",  # no scheduler answers: the worker keeps trying
        **changes: Any,
    ) -> LaunchRequest:
        """Return a request as the fleet makes it, for a changed config."""
        config = self.subject.worker.model_copy(update=changes)
        if config.security == "tls" and self.state.tls is None:
            self.state.tls = make_tls(self.state.cluster)
        self.state.configs[config.digest] = config
        intent = Intent(
            names=list(names),
            config=config.digest,
            choice=self.provider.alternatives(config)[0],
            scheduler_address=scheduler,
            requested_at=0.0,
        )
        return launch_request(self.state, token or uuid4().hex[:20], intent, self.provider.limits)

    def requests(self, *names: str, **changes: Any) -> list[LaunchRequest]:
        """Return requests for all names, in batches of the provider's size."""
        batches = split_batches(names, self.provider.limits.batch)
        return [self.request(*batch, **changes) for batch in batches]

    def launch(self, *names: str, **changes: Any) -> LaunchResult:
        """Launch all names until the first failure, which is the shortfall if there are VMs."""
        vms: list[VM] = []
        for request in self.requests(*names, **changes):
            try:
                result = self.provider.launch(request)
            except ProviderError as error:
                if not vms:
                    raise
                return LaunchResult(tuple(vms), error)
            vms += result.vms
            if result.shortfall is not None:
                return LaunchResult(tuple(vms), result.shortfall)
        return LaunchResult(tuple(vms))

    def find(self, provider: Provider | None = None) -> list[VM]:
        return (provider or self.provider).find(self.tags)

    def ids(self) -> set[str]:
        return {vm.id for vm in self.find()}

    def wait_until(self, check: Callable[[], bool]) -> None:
        """Wait until the condition is true; the limit is far longer than any healthy cloud takes."""
        limits = self.provider.limits
        for _ in range(int(max(120.0, 2 * limits.consistency_delay) / limits.poll)):
            if check():
                return
            self.subject.wait(limits.poll)
        raise AssertionError(f"it never came to hold; there is {self.find()}")

    def retry_while_throttled(self, call: Callable[[], object]) -> None:
        """Call, and retry while the cloud is throttled or unavailable, as the fleet does."""

        def done() -> bool:
            try:
                call()
            except ProviderError as error:
                if error.kind not in (ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE):
                    raise
                return False
            return True

        self.wait_until(done)

    def terminate_all(self) -> None:
        """Terminate all VMs of this lineage, and wait until they are gone."""

        def gone() -> bool:
            ids = [vm.id for vm in self.find() if vm.status != "stopping"]
            self.provider.terminate(ids)
            return not self.find()

        # A VM that no call has shown yet must not be left.
        if self.provider.limits.consistency_delay > 5.0:
            self.subject.wait(self.provider.limits.consistency_delay)
        self.wait_until(gone)


@dataclass
class ManualClock:
    now: float = 1_000_000.0

    def time(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def fake(tmp_path: Path, *, tokens: bool = True) -> Iterator[Subject]:
    clock = ManualClock()
    cloud = FakeCloud(
        clock,
        faults=Faults(lag=10.0, termination_delay=20.0),
        limits=Limits(batch=10, consistency_delay=30.0, tokens=tokens),
        required_resources={"firewall": Resource(kind="firewall")},
    )

    def failing_request(kind: ErrorKind) -> Callable[[Account], LaunchRequest]:
        def make(account: Account) -> LaunchRequest:
            cloud.fail_next("launch", kind)
            return account.request("cpu-0")

        return make

    yield Subject(
        connect=lambda: FakeProvider(cloud),
        wait=clock.wait,
        failures={kind: failing_request(kind) for kind in ErrorKind},
        limit_capacity=lambda count: cloud.capacity.update({None: count}),
    )
    assert cloud.live_vms() == []


@contextmanager
def fake_without_tokens(tmp_path: Path) -> Iterator[Subject]:
    with fake(tmp_path, tokens=False) as subject:
        yield subject


@contextmanager
def local(tmp_path: Path) -> Iterator[Subject]:
    import psutil
    from planapply_local import PLUGIN, LocalSettings
    from planapply_local.supervisor import find_processes

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def port_in_use(account: Account) -> LaunchRequest:
            return account.request(
                "scheduler",
                scheduler_address=None,
                group="scheduler",
                cls="distributed.Scheduler",
                options={"port": port},
            )

        def visible_text(vm: VM) -> str:
            arguments = []
            for process, environment in find_processes()[vm.id]:
                try:
                    arguments += process.cmdline()
                except psutil.Error:
                    continue
                arguments += environment.values()
            return " ".join(arguments)

        folder = tmp_path / "local"
        yield Subject(
            connect=lambda: PLUGIN.connect(LocalSettings(folder=str(folder))),
            failures={ErrorKind.REJECTED: port_in_use},
            visible_text=visible_text,
        )
    left = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    assert left == [], left


@contextmanager
def openstack(tmp_path: Path) -> Iterator[Subject]:
    """Provide Nova, one for all tests: each test has its lineage, and leaves no VM."""
    cloud = _nova()
    cloud.clear()
    cloud.quota(-1)
    create = {**cloud.settings["create"]}
    worker = NodeConfig(
        group="cpu",
        cls="distributed.Worker",
        size=("m1.tiny",),
        image="155d900f-4e14-4e4c-a73d-069cbf4541e6",
        provider={"create": create},
    )

    def limit_capacity(count: int) -> None:
        cloud.quota(len(cloud.wait_until_idle()) + count)

    def refused(account: Account) -> LaunchRequest:
        return account.request("cpu-0", create={"ex_keyname": "of-nobody"})

    yield Subject(
        connect=lambda: libcloud_provider({**cloud.settings, "allow_from": ["203.0.113.0/24"]}),
        worker=worker,
        failures={ErrorKind.REJECTED: refused},
        limit_capacity=limit_capacity,
    )
    if left := [(server["name"], server["status"]) for server in cloud.wait_until_idle()]:
        raise AssertionError(f"it has left {left}")


@cache
def _nova() -> Any:
    from novalab.cloud import serve

    running = ExitStack()
    atexit.register(running.close)
    cloud = running.enter_context(serve())
    os.environ.update(cloud.env)
    return cloud


@contextmanager
def libcloud_ec2(tmp_path: Path) -> Iterator[Subject]:
    """Provide the lab's EC2, through Libcloud."""
    from lab.honest import Cloud, serve

    with serve(Cloud()) as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.env.items():
            patch.setenv(name, value)
        region = cloud.settings.region
        host, _, port = cloud.url.removeprefix("http://").partition(":")
        settings = {
            "driver": "ec2",
            "key": "env:AWS_ACCESS_KEY_ID",
            "secret": "env:AWS_SECRET_ACCESS_KEY",
            "options": {"region": region, "host": host, "port": int(port), "secure": False},
            "allow_from": ["203.0.113.0/24"],
        }
        provider = libcloud_provider(settings)
        with provider.client.borrow_driver() as lib:
            images = lib.list_images(ex_owner="amazon") or lib.list_images()

        def failing_request(code: str) -> Callable[[Account], LaunchRequest]:
            def make(account: Account) -> LaunchRequest:
                cloud.fault("RunInstances", error=code, status=500 if "Insuf" in code else 400)
                return account.request("cpu-0")

            return make

        yield Subject(
            connect=lambda: libcloud_provider(settings),
            worker=NodeConfig(
                group="cpu",
                cls="distributed.Worker",
                size=("m7i.large",),
                image=images[0].id,
                provider={},
            ),
            failures={
                ErrorKind.CAPACITY: failing_request("InsufficientInstanceCapacity"),
                ErrorKind.QUOTA: failing_request("VcpuLimitExceeded"),
                ErrorKind.REJECTED: failing_request("InvalidParameterValue"),
                ErrorKind.UNAUTHORIZED: failing_request("UnauthorizedOperation"),
            },
            limit_capacity=lambda count: cloud.configure(capacity={"*": count}),
        )


def libcloud_provider(settings: dict[str, Any], consistency_delay: float = 1.0) -> Any:
    """Return the provider for a cloud without delays, so that tests are fast."""
    from planapply_libcloud import PLUGIN
    from planapply_libcloud.settings import Settings

    provider: Any = PLUGIN.connect(Settings.model_validate_json(json.dumps(settings)))
    provider.client.driver = replace(
        provider.client.driver, consistency_delay=consistency_delay, poll=0.1
    )
    return provider


def ec2(tmp_path: Path) -> AbstractContextManager[Subject]:
    from conformance import ec2_subject

    return ec2_subject.ec2(tmp_path)


SUBJECTS: dict[str, Callable[[Path], AbstractContextManager[Subject]]] = {
    "fake": fake,
    "fake-without-tokens": fake_without_tokens,
    "local": local,
    "ec2": ec2,
    "libcloud-ec2": libcloud_ec2,
    "libcloud-openstack": openstack,
}
SLOW = {"libcloud-openstack"}
"""Names of the subjects that need Nova."""


def other_request(request: LaunchRequest, of: LaunchRequest) -> LaunchRequest:
    """Return `request` with the token of another request, in the tags, too."""
    tags = {k: of.token if v == request.token else v for k, v in request.tags.items()}
    return replace(request, token=of.token, tags=tags)
