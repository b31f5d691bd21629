"""One cluster's life, each command of which is killed at some moment and then run again."""

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

from crash.environment import Ground
from crash.forkserver import Ended, Zygote

from planapply.model.names import node_name
from planapply.model.node import VM
from planapply.model.state import State
from planapply.store import open_store

STATE = "planapply.state.json"


class Violation(AssertionError):
    """A promise that was not kept; says which and when."""


Figures = Counter[str]


@dataclass(frozen=True)
class Pace:
    """How far one step goes when it is left alone."""

    points: int
    calls: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """One change, and what there is once it is done."""

    name: str
    arguments: tuple[str, ...]
    workers: int
    threads: int = 1
    destroys: bool = False


@dataclass
class Life:
    """Made from a seed; `zygote` runs the commands."""

    ground: Ground
    folder: Path
    zygote: Zygote
    seed: int
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.name = f"crash-{os.getpid()}-{self.seed}"
        self.folder.mkdir(parents=True)
        self.serial = 0
        self.lineage = ""

    def steps(self) -> list[Step]:
        """apply, replace, scale-down, destroy; with workers that stay in one life out of four."""
        stay = self.seed % 4 == 0 and self.ground.schedulers_answer
        ways = [("--replace", "cpu-0"), (), ("--replace", "scheduler")]
        way = ways[self.seed % 3]
        threads = 1 if way else 2
        return [
            Step("apply", (), 2 if stay else 1),
            Step("replace", way, 2 if stay else 1, threads),
            Step("scale-down", (), 1 if stay else 0, threads),
            Step("destroy", (), 0, threads, destroys=True),
        ]

    def command(self, step: Step) -> list[str]:
        """What a user would type."""
        if step.destroys:
            return ["destroy", "--auto-approve"]
        return ["apply", "--auto-approve", "--no-wait", *step.arguments]

    def write_spec(self, step: Step) -> None:
        text = f"""\
[cluster]
name = "{self.name}"
{self.ground.spec}
[workers.cpu]
count = {step.workers}
options = {{ nthreads = {step.threads}, {self.ground.options} }}
"""
        self.folder.joinpath("planapply.toml").write_text(text)

    def run(
        self, arguments: Sequence[str], die_at: int | None = None, call: int | None = None
    ) -> Ended:
        """A command that succeeds, unless it dies at a point of its own, or of a call's."""

        def begun(pid: int) -> None:
            if self.ground.gate:
                self.ground.gate.arm(pid, -1 if call is None else call)

        ended = self.zygote.run(
            *arguments, cwd=self.folder, env=self.ground.env, die_at=die_at, begun=begun
        )
        if ended.code != -signal.SIGKILL:
            self._must(ended.code == 0, f"{' '.join(arguments)} failed: {ended.err}")
        return ended

    def killed_after(self, arguments: Sequence[str], seconds: float) -> bool:
        """The command as users start it, killed from outside; whether it was still running."""
        with subprocess.Popen(
            [sys.executable, "-m", "planapply", *arguments],
            cwd=self.folder,
            env=dict(self.ground.env),
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

    def pace(self, *, alone: bool = False) -> dict[str, Pace]:
        """Live without being killed, and see how far each step goes.

        `alone`: as users start it, with the time that Python takes to import everything.
        """
        found = {}
        for step in self.steps():
            self.write_spec(step)
            began, points = time.monotonic(), 0
            if alone:
                self._must(not self.killed_after(self.command(step), 600.0), "it takes too long")
            else:
                points = self.run(self.command(step)).points
            calls = self.ground.gate.points if self.ground.gate else 0
            found[step.name] = Pace(points, calls, time.monotonic() - began)
            self.check_exact(step)
        return found

    def live(self, pace: Mapping[str, Pace], how: str) -> None:
        """Each step is killed, at a random `time`, `point` or `call`, and then carried out."""
        for step in self.steps():
            self.write_spec(step)
            arguments = self.command(step)
            killed = self.kill(arguments, pace[step.name], how)
            self.figures["killed" if killed else "too late to kill"] += 1
            self.figures[f"{step.name} killed"] += killed
            self.check_known()
            if self.random.random() < 0.2:  # once more, while it mends the first
                self.kill(arguments, pace[step.name], how)
                self.check_known()
            self.run(arguments if step.destroys else [*self.command(Step("", (), 0))])
            self.check_exact(step)

    def kill(self, arguments: Sequence[str], pace: Pace, how: str) -> bool:
        """Run, and kill at some moment; whether it was not over yet."""
        if how == "time":
            return self.killed_after(arguments, self.random.uniform(0.3, 1.0) * pace.seconds)
        if how == "call":
            ended = self.run(arguments, call=self.random.randrange(pace.calls))
        else:
            ended = self.run(arguments, die_at=self.random.randrange(pace.points))
        return ended.code == -signal.SIGKILL

    def check_known(self) -> None:
        """Right after the kill: the state is whole, and no VM is unknown to it."""
        state = self._state()
        vms = self._alive()
        known = {record.vm for record in state.nodes.values()} if state else set()
        for vm in vms:
            remembered = state is not None and vm.name in (
                state.intents[vm.batch].names if vm.batch in state.intents else ()
            )
            self._must(vm.id in known or remembered, f"{vm.name} ({vm.id}) is in no state")

    def check_exact(self, step: Step) -> None:
        """After the next run: what is there is what the spec says, each once, and nothing else."""
        state = self._state()
        assert state is not None
        names = Counter(str(vm.name) for vm in self._alive())
        wanted = [] if step.destroys else ["scheduler"]
        wanted += [node_name("cpu", index) for index in range(step.workers)]
        self._must(names == Counter(wanted), f"there is {dict(names)}, and not {wanted}")
        self._must(sorted(state.nodes) == sorted(wanted), f"the state has {sorted(state.nodes)}")
        self._must(not state.intents, f"requests are open: {state.intents}")
        files = {path.name for path in self.folder.iterdir()}
        self._must(files == {STATE, "planapply.toml"}, f"files are left: {files}")
        if step.destroys:
            self._must(
                not self.ground.leftovers(self.lineage),
                f"left behind: {self.ground.leftovers(self.lineage)}",
            )
        else:
            said = self.run(["plan"]).out
            self._must(said.startswith("No changes."), f"plan says:\n{said}")

    def _alive(self) -> list[VM]:
        return self.ground.alive(self.lineage) if self.lineage else []

    def _state(self) -> State | None:
        try:
            state = open_store(str(self.folder / STATE)).read()
        except Exception as error:
            raise Violation(f"seed {self.seed}: a torn state: {error}") from error
        if state is None:
            self._must(not self.serial, "the state has vanished")
            return None
        self._must(state.serial >= self.serial, f"serial {state.serial} after {self.serial}")
        self._must(self.lineage in ("", state.lineage), "another lineage")
        self.serial, self.lineage = state.serial, state.lineage
        return state

    def _must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Violation(f"seed {self.seed}: {otherwise}")
