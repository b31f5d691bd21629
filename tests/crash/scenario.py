"""The life of a cluster: each command is killed at some moment, and then run again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crash.environment import Environment
from crash.forkserver import CommandResult, ForkServer

from planapply.model.names import node_name
from planapply.model.node import VM
from planapply.model.state import State
from planapply.store import open_store

STATE = "planapply.state.json"


class Violation(AssertionError):
    """A promise that was not kept, with the moment."""


Statistics = Counter[str]


@dataclass(frozen=True)
class StepCost:
    """The size of a step that is not killed."""

    points: int
    calls: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """A change of the cluster, and the expected result."""

    name: str
    arguments: tuple[str, ...]
    workers: int
    threads: int = 1
    destroys: bool = False


@dataclass
class Scenario:
    """A life that depends only on a seed; `fork_server` runs the commands."""

    environment: Environment
    folder: Path
    fork_server: ForkServer
    seed: int
    statistics: Statistics = field(default_factory=Statistics)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.name = f"crash-{os.getpid()}-{self.seed}"
        self.folder.mkdir(parents=True)
        self.serial = 0
        self.lineage = ""

    def steps(self) -> list[Step]:
        """Return the steps: apply, replace, scale down, destroy; one life in four keeps some workers."""
        kept = self.seed % 4 == 0 and self.environment.has_reachable_schedulers
        replacements = [("--replace", "cpu-0"), (), ("--replace", "scheduler")]
        replacement = replacements[self.seed % 3]
        threads = 1 if replacement else 2
        return [
            Step("apply", (), 2 if kept else 1),
            Step("replace", replacement, 2 if kept else 1, threads),
            Step("scale-down", (), 1 if kept else 0, threads),
            Step("destroy", (), 0, threads, destroys=True),
        ]

    def command(self, step: Step) -> list[str]:
        """Return the command of a step, as a user would type it."""
        if step.destroys:
            return ["destroy", "--auto-approve"]
        return ["apply", "--auto-approve", "--no-wait", "--no-retire", *step.arguments]

    def write_spec(self, step: Step) -> None:
        text = f"""\
[cluster]
name = "{self.name}"
{self.environment.spec}
[workers.cpu]
count = {step.workers}
max_unavailable = "100%"
options = {{ nthreads = {step.threads}, {self.environment.options} }}
"""
        self.folder.joinpath("planapply.toml").write_text(text)

    def run(
        self, arguments: Sequence[str], die_at: int | None = None, call: int | None = None
    ) -> CommandResult:
        """Run a command that succeeds, unless it is killed at a point of its own or of a call."""

        def on_start(pid: int) -> None:
            if self.environment.client_killer:
                self.environment.client_killer.arm(pid, -1 if call is None else call)

        result = self.fork_server.run(
            *arguments, cwd=self.folder, env=self.environment.env, die_at=die_at, on_start=on_start
        )
        if result.code != -signal.SIGKILL:
            self._require(result.code == 0, f"{' '.join(arguments)} failed: {result.err}")
        return result

    def run_and_kill(self, arguments: Sequence[str], seconds: float) -> bool:
        """Run the command as users do, and kill it from outside; return whether it was still running."""
        with subprocess.Popen(
            [sys.executable, "-m", "planapply", *arguments],
            cwd=self.folder,
            env=dict(self.environment.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return True
        return False

    def measure(self, *, as_subprocess: bool = False) -> dict[str, StepCost]:
        """Run the life without killing, and measure each step.

        If `as_subprocess`, run commands as users do, including the time for Python's imports.
        """
        found = {}
        for step in self.steps():
            self.write_spec(step)
            began, points = time.monotonic(), 0
            if as_subprocess:
                self._require(not self.run_and_kill(self.command(step), 600.0), "it takes too long")
            else:
                points = self.run(self.command(step)).points
            calls = self.environment.client_killer.points if self.environment.client_killer else 0
            found[step.name] = StepCost(points, calls, time.monotonic() - began)
            self.check_matches_spec(step)
        return found

    def run_with_kills(self, costs: Mapping[str, StepCost], kill_by: str) -> None:
        """Kill each step at a random `time`, `point`, or `call`, and then run it completely."""
        for step in self.steps():
            self.write_spec(step)
            arguments = self.command(step)
            killed = self.kill(arguments, costs[step.name], kill_by)
            self.statistics["killed" if killed else "too late to kill"] += 1
            self.statistics[f"{step.name} killed"] += killed
            self.check_no_vm_lost()
            if self.random.random() < 0.2:  # again, while it recovers from the first time
                self.kill(arguments, costs[step.name], kill_by)
                self.check_no_vm_lost()
            self.run(arguments if step.destroys else [*self.command(Step("", (), 0))])
            self.check_matches_spec(step)

    def kill(self, arguments: Sequence[str], costs: StepCost, kill_by: str) -> bool:
        """Run a step, and kill it at some moment; return whether it was still running."""
        if kill_by == "time":
            return self.run_and_kill(arguments, self.random.uniform(0.3, 1.0) * costs.seconds)
        if kill_by == "call":
            result = self.run(arguments, call=self.random.randrange(costs.calls))
        else:
            result = self.run(arguments, die_at=self.random.randrange(costs.points))
        return result.code == -signal.SIGKILL

    def check_no_vm_lost(self) -> None:
        """Check, right after the kill, that the state is complete and has every VM."""
        state = self._state()
        vms = self._alive()
        recorded = {record.vm for record in state.nodes.values()} if state else set()
        for vm in vms:
            pending = state is not None and vm.name in (
                state.intents[vm.batch].names if vm.batch in state.intents else ()
            )
            self._require(vm.id in recorded or pending, f"{vm.name} ({vm.id}) is in no state")

    def check_matches_spec(self, step: Step) -> None:
        """Check, after the next run, that exactly the nodes of the spec exist, once each."""
        state = self._state()
        assert state is not None
        names = Counter(str(vm.name) for vm in self._alive())
        desired = [] if step.destroys else ["scheduler"]
        desired += [node_name("cpu", index) for index in range(step.workers)]
        self._require(names == Counter(desired), f"there is {dict(names)}, and not {desired}")
        self._require(
            sorted(state.nodes) == sorted(desired), f"the state has {sorted(state.nodes)}"
        )
        self._require(not state.intents, f"requests are open: {state.intents}")
        files = {path.name for path in self.folder.iterdir()}
        self._require(files == {STATE, "planapply.toml"}, f"files are left: {files}")
        if step.destroys:
            self._require(
                not self.environment.leftovers(self.lineage),
                f"left behind: {self.environment.leftovers(self.lineage)}",
            )
        else:
            plan_output = self.run(["plan"]).out
            self._require(plan_output.startswith("No changes."), f"plan says:\n{plan_output}")

    def _alive(self) -> list[VM]:
        return self.environment.live_vms(self.lineage) if self.lineage else []

    def _state(self) -> State | None:
        try:
            state = open_store(str(self.folder / STATE)).read()
        except Exception as error:
            raise Violation(f"seed {self.seed}: a torn state: {error}") from error
        if state is None:
            self._require(not self.serial, "the state has vanished")
            return None
        self._require(state.serial >= self.serial, f"serial {state.serial} after {self.serial}")
        self._require(self.lineage in ("", state.lineage), "another lineage")
        self.serial, self.lineage = state.serial, state.lineage
        return state

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise Violation(f"seed {self.seed}: {message}")
