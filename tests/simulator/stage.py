"""Processes that run at the same time, in turns that depend only on a seed, and that share one state."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from simulator.simulated import Crash, CrashPoints, SimClock

from planapply.fleet import Stopped
from planapply.store import LockInfo, StateError, StateLocked
from planapply.store.aws import NO_SETTINGS, AWSSettings
from planapply.store.state_store import Conflict


class Stage:
    """The turns of several actors on one simulated time, which passes when all of them sleep.

    Each actor has threads, but only one of them runs at a time: another one runs when it pauses.
    """

    def __init__(self, seed: int, start: float = 1_000_000.0) -> None:
        self.random, self.now = random.Random(seed), start
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self.violation: str | None = None
        """The first promise that was not kept; it ends all actors."""
        self._is_over = threading.Event()

    def time(self) -> float:
        return self.now

    def fail(self, violation: str) -> None:
        """Finish the story with a violation, whatever the running process makes of exceptions."""
        self.violation = self.violation or f"at {self.now - 1e6:.0f} s: {violation}"
        raise Crash

    def run(self) -> None:
        """Run all actors until each has ended; raise the first exception of an actor."""
        actors = [*self.actors]
        self._is_over.clear()
        for actor in actors:
            actor.thread.start()
        self.pass_turn()
        self._is_over.wait()
        for actor in actors:
            actor.thread.join()
        for actor in actors:
            if actor.error is not None:
                raise actor.error

    def pass_turn(self) -> None:
        """Let the next actor run: one of those who have slept long enough."""
        if not self.actors:
            self._is_over.set()
            return
        self.now = max(self.now, min(actor.wakes_at for actor in self.actors))
        awake = [actor for actor in self.actors if actor.wakes_at <= self.now]
        self.current = self.random.choice(awake)
        self.current.turn.release()


class Actor:
    """Something that acts on the world of a stage: `body` runs in a thread of its own."""

    def __init__(self, stage: Stage, body: Callable[["Actor"], None]) -> None:
        self.stage, self.body = stage, body
        self.turn, self._pausing = threading.Semaphore(0), threading.Lock()
        self.wakes_at = stage.now
        self.error: BaseException | None = None
        self.process: Process | None = None
        """The process that the actor runs now."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        stage.actors.append(self)

    def _run(self) -> None:
        self.turn.acquire()
        try:
            self.body(self)
        except Crash:
            pass
        except BaseException as error:
            self.error = error
            self.stage.violation = self.stage.violation or repr(error)
        self.stage.actors.remove(self)
        self.stage.pass_turn()

    def pause(self, seconds: float = 0.0) -> None:
        """Let others run, for at least these seconds."""
        with self._pausing:
            self.wakes_at = self.stage.now + max(0.0, seconds)
            self.stage.pass_turn()
            self.turn.acquire()
        if self.stage.violation is not None:
            raise Crash


class Process(CrashPoints):
    """A process of an actor: it can die, be killed, be stopped by a signal, or take long, at each point."""

    def __init__(
        self,
        actor: Actor,
        kind: str,
        *,
        machine: str = "a",
        die_at: int | None = None,
        delay: Callable[[], float] = lambda: 0.0,
        at_point: Callable[[int], None] = lambda point: None,
    ) -> None:
        super().__init__()
        self.actor, self.kind, self.machine = actor, kind, machine
        self.points_left, self._delay, self._at_point = die_at, delay, at_point
        self.is_stopped = False
        """Whether it got a SIGTERM."""
        self.has_written = False
        actor.process = self

    def reach(self) -> None:
        if not self.is_dead:
            self.actor.pause(self._delay())
            self._at_point(self.points)
        super().reach()

    def kill(self) -> None:
        """Let it do nothing any more."""
        self.is_dead = True

    def stop(self) -> None:
        """Send it a SIGTERM, which ends a sleep."""
        self.is_stopped = True
        self.actor.wakes_at = min(self.actor.wakes_at, self.actor.stage.now)


class ProcessClock(SimClock):
    """The clock of one process: when it sleeps, others run."""

    def __init__(self, process: Process, seed: int) -> None:
        super().__init__(seed)
        self._process, self._stage = process, process.actor.stage

    def time(self) -> float:
        return self._stage.now + self.clock_skew

    def monotonic(self) -> float:
        return self._stage.now

    def sleep(self, seconds: float) -> None:
        self._check()
        self._process.actor.pause(seconds)
        self._check()

    def check(self) -> None:
        if self._process.is_stopped:
            raise Stopped

    def _check(self) -> None:
        if self._process.is_dead:
            raise Crash
        self.check()

    def stop(self) -> None:
        raise AssertionError("nothing sends a real signal")


@dataclass
class Disk:
    """A state and its lock, which survive all processes.

    `on_write` is called after each write, `on_conflict` if a process has not read what it would replace.
    """

    data: bytes | None = None
    version: int = 0
    holder: "DiskLock | None" = None
    on_write: Callable[[Process, bytes], None] = lambda process, data: None
    on_conflict: Callable[[Process], None] = lambda process: None
    takeovers: int = 0

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that holds the lock is dead."""
        return self.holder is not None and self.holder.process.is_dead


@dataclass(eq=False)
class DiskLock:
    """The lock of a process."""

    disk: Disk
    process: Process
    info: LockInfo
    taken_at: float

    def is_held(self) -> bool:
        return self.disk.holder is self

    def release(self) -> None:
        self.process.run_effect(self._release)

    def _release(self) -> None:
        if self.is_held():
            self.disk.holder = None


@dataclass
class DiskBackend:
    """The backend of one process's StateStore."""

    disk: Disk
    process: Process
    location: str = "sim"
    aws: AWSSettings = NO_SETTINGS
    name: str = "sim.json"
    folder: str = ""
    poll_interval: float = 1.0
    _locks: int = field(default=0)

    def load(self) -> tuple[bytes, object] | None:
        self.process.reach()
        return None if self.disk.data is None else (self.disk.data, self.disk.version)

    def save(self, data: bytes, expected_version: object | None) -> object:
        def put() -> int:
            disk = self.disk
            if expected_version != (None if disk.data is None else disk.version):
                disk.on_conflict(self.process)
                raise Conflict("Another process wrote the state.")
            disk.data, disk.version = data, disk.version + 1
            disk.on_write(self.process, data)
            return disk.version

        return self.process.run_effect(put)

    def acquire(self, lock_id: str, purpose: str) -> DiskLock:
        def take() -> DiskLock:
            holder, taken_over = self.disk.holder, None
            if holder is not None:
                is_known_dead = (
                    holder.process.is_dead and holder.process.machine == self.process.machine
                )
                if not is_known_dead:
                    raise StateLocked(self.location, holder.info, "unlock it.")
                taken_over = holder.info
                self.disk.takeovers += 1
            info = LockInfo(id=lock_id, purpose=purpose, taken_over=taken_over)
            self.disk.holder = DiskLock(self.disk, self.process, info, self.process.actor.stage.now)
            return self.disk.holder

        return self.process.run_effect(take)

    def unlock(self, lock_id: str) -> LockInfo:
        raise StateError("people unlock the disk itself")

    def lock_info(self) -> LockInfo | None:
        return self.disk.holder.info if self.disk.holder else None

    def lock_notice(self, lock_id: str) -> str:
        return ""

    def set_deadline(self) -> None:
        """Do nothing: the disk answers."""

    def clear_deadline(self) -> None:
        """Do nothing: the disk answers."""
