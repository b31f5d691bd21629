"""The providers that the suite runs against: a new one is one more entry of `SUBJECTS`."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

from fake_provider import FakeCloud, FakeProvider, Faults

from planapply.fleet.request import launch_request
from planapply.fleet.tls import make_tls
from planapply.model.node import TAG_LINEAGE, VM, NodeConfig
from planapply.model.state import Intent, Resource, State
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Limits, Provider


@dataclass
class Subject:
    """One account of one cloud, for one test."""

    connect: Callable[[], Provider]
    """A new object for the same account."""
    wait: Callable[[float], None] = sleep
    worker: NodeConfig = field(
        default_factory=lambda: NodeConfig(group="cpu", cls="distributed.Worker")
    )
    """The cheapest that it can launch."""
    failures: Mapping[ErrorKind, Callable[["Account"], LaunchRequest]] = field(default_factory=dict)
    """How to provoke a launch that gives no VM, and its request."""
    scarce: Callable[[int], None] | None = None
    """Makes the cloud have only so many VMs left."""
    exposed: Callable[[VM], str] = str
    """All of a VM that other users of the cloud or machine could read."""


class Account:
    """One cluster's view of a subject, which ends all that was launched in it."""

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
        scheduler: str | None = "tcp://127.0.0.1:9",  # nobody answers: the worker goes on asking
        **changes: Any,
    ) -> LaunchRequest:
        """As the fleet makes it, for a config with some changes."""
        config = self.subject.worker.model_copy(update=changes)
        if config.security == "tls" and self.state.tls is None:
            self.state.tls = make_tls(self.state.cluster)
        self.state.configs[config.digest] = config
        intent = Intent(
            names=list(names),
            config=config.digest,
            choice=self.provider.alternatives(config)[0],
            scheduler=scheduler,
            asked_at=0.0,
        )
        return launch_request(self.state, token or uuid4().hex[:20], intent, self.provider.limits)

    def launch(self, *names: str, **changes: Any) -> LaunchResult:
        return self.provider.launch(self.request(*names, **changes))

    def find(self, provider: Provider | None = None) -> list[VM]:
        return (provider or self.provider).find(self.tags)

    def ids(self) -> set[str]:
        return {vm.id for vm in self.find()}

    def eventually(self, check: Callable[[], bool]) -> None:
        """Look until it holds; far longer than any healthy cloud takes."""
        limits = self.provider.limits
        for _ in range(int(max(120.0, 2 * limits.settle) / limits.poll)):
            if check():
                return
            self.subject.wait(limits.poll)
        raise AssertionError(f"it never came to hold; there is {self.find()}")

    def end(self) -> None:
        """Terminate what there is of this lineage, and see it gone."""

        def gone() -> bool:
            ids = [vm.id for vm in self.find() if vm.status != "stopping"]
            self.provider.terminate(ids)
            return not self.find()

        # What no call has shown yet must not be left behind.
        if self.provider.limits.settle > 5.0:
            self.subject.wait(self.provider.limits.settle)
        self.eventually(gone)


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
        faults=Faults(lag=10.0, slow_end=20.0),
        limits=Limits(batch=10, settle=30.0, tokens=tokens),
        wanted={"firewall": Resource(kind="firewall")},
    )

    def failing(kind: ErrorKind) -> Callable[[Account], LaunchRequest]:
        def make(account: Account) -> LaunchRequest:
            cloud.fail("launch", kind)
            return account.request("cpu-0")

        return make

    yield Subject(
        connect=lambda: FakeProvider(cloud),
        wait=clock.wait,
        failures={kind: failing(kind) for kind in ErrorKind},
        scarce=lambda count: cloud.room.update({None: count}),
    )
    assert cloud.alive() == []


@contextmanager
def fake_without_tokens(tmp_path: Path) -> Iterator[Subject]:
    with fake(tmp_path, tokens=False) as subject:
        yield subject


@contextmanager
def local(tmp_path: Path) -> Iterator[Subject]:
    import psutil
    from planapply_local import PLUGIN, LocalSettings
    from planapply_local.vm import processes

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        def port_in_use(account: Account) -> LaunchRequest:
            return account.request(
                "scheduler",
                scheduler=None,
                group="scheduler",
                cls="distributed.Scheduler",
                options={"port": port},
            )

        def exposed(vm: VM) -> str:
            arguments = []
            for process, environment in processes()[vm.id]:
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
            exposed=exposed,
        )
    assert not folder.exists() or list(folder.iterdir()) == []


SUBJECTS: dict[str, Callable[[Path], AbstractContextManager[Subject]]] = {
    "fake": fake,
    "fake-without-tokens": fake_without_tokens,
    "local": local,
}


def other_request(request: LaunchRequest, of: LaunchRequest) -> LaunchRequest:
    """`request` with the token of another one, wherever it stands."""
    tags = {k: of.token if v == request.token else v for k, v in request.tags.items()}
    return replace(request, token=of.token, tags=tags)
