"""Spec in a folder, applied to the lab's EC2, whose clock moves only when planapply waits."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.honest import Cloud

from planapply.fleet import SystemClock
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import sort_key
from planapply.model.plan import Mode, Plan
from planapply.model.state import State
from planapply.ops.apply import ApplyOptions, Report, apply
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.workspace import Workspace

SPEC = """\
[cluster]
name = "genomics"
provider = "ec2"

[provider]
region = "eu-west-1"

[defaults]
size = "m6i.large"

[environment]
packages = ["dask[distributed]", "bokeh"]

[workers.cpu]
count = 3
max_unavailable = "100%"
"""


class LabClock(SystemClock):
    """Clock of the fleet: waiting takes no time, and moves the lab's clock."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__()
        self._cloud, self._elapsed, self._lock = cloud, 0.0, threading.Lock()
        self._start = super().time()

    def time(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        self.check()
        with self._lock:
            # The cloud's clock first, so that no call is ahead of its limits.
            self._cloud.advance(seconds)
            self._elapsed += seconds


class Project:
    """Spec and state of one cluster. Nothing can join: this lab has no machines."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        self.cloud = cloud
        self.spec = folder / "planapply.toml"
        self.spec.write_text(SPEC)
        self.clock = LabClock(cloud)
        self.events: list[Event] = []
        cloud.freeze()

    def write(self, text: str) -> None:
        """Replace the spec."""
        self.spec.write_text(text)

    def add_lines(self, table: str, lines: str) -> None:
        """Insert lines below a table's header, which is added if it is missing."""
        text = self.spec.read_text()
        name = f"[{table}]\n"
        self.spec.write_text(
            text.replace(name, name + lines + "\n") if name in text else f"{text}\n{name}{lines}\n"
        )

    def workspace(self, *overrides: str) -> Workspace:
        workspace = Workspace.from_spec(str(self.spec), overrides)
        workspace.clock = self.clock
        return workspace

    def plan(self, *overrides: str) -> Plan:
        return plan(self.workspace(*overrides)).plan

    def apply(self, *overrides: str, mode: Mode = Mode.NORMAL) -> Report:
        return apply(
            self.workspace(*overrides),
            lambda plan: True,
            PlanOptions(mode=mode),
            ApplyOptions(wait=False, retire=False),
            on_event=self.events.append,
        )

    def destroy(self) -> Report:
        return self.apply(mode=Mode.DESTROY)

    def state(self) -> State:
        state = self.workspace().store.read()
        assert state is not None
        return state

    def plan_error(self, *overrides: str) -> str:
        """Return the errors of a plan, after checking that it changed nothing."""
        before = self.cloud.counts()["mutating"]
        try:
            made = self.plan(*overrides)
        except PlanapplyError as error:
            assert self.cloud.counts()["mutating"] == before
            return str(error)
        raise AssertionError(f"a plan was made: {made}")

    def calls(self, action: str) -> list[dict[str, str]]:
        """Return the parameters of these calls, in order."""
        return [call["params"] for call in self.cloud.log() if call["action"] == action]

    def launched(self) -> dict[str, dict[str, Any]]:
        """Return the live VMs by their names in the state."""
        by_id = {vm["id"]: vm for vm in self.cloud.instances()}
        nodes = sorted(self.state().nodes.items(), key=lambda item: sort_key(item[0]))
        return {name: by_id[record.vm] for name, record in nodes if record.vm in by_id}


def select_params(params: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    """Return the numbered parameters with this prefix."""
    return {k: v for k, v in sorted(params.items()) if k.startswith(prefixes)}
