"""Hooks: programs of the local spec that run at events of a change."""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from planapply.background import POLL_INTERVAL
from planapply.fleet import Clock, Listener, Stopped
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.names import sort_key, to_hostlist
from planapply.model.plan import FORMAT_VERSION
from planapply.model.secrets import (
    environment_secrets,
    mask_urls,
    mask_values,
    redact,
    secret_values,
)
from planapply.ops.workspace import Workspace
from planapply.render.text import elide, make_printable

HookName = Literal["on_node_lost", "on_applied", "on_failed", "before_destroy"]
TIME_LIMIT = 60.0
"""Seconds after which a hook is killed."""
KILL_DELAY = 1.0
"""Seconds between SIGTERM and SIGKILL; with it, a stopped command still ends within its grace."""
MAX_LINES = 100
"""Lines of a hook's output that are shown."""
MAX_LINE = 500
"""Characters of a line that are shown."""
_MAX_BYTES = 1 << 16
_MAX_VARIABLE = 100_000
"""Characters of a variable; Linux allows 128 KiB."""


@dataclass(frozen=True)
class HookEvent:
    """An event for a hook."""

    name: HookName
    cluster: str
    command: str
    """The command that runs: apply, destroy, scale, or watch."""
    nodes: Sequence[str] = ()
    """The lost nodes, the changed ones, those that failed, or those to be destroyed."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The numbers of nodes and resources `added`, `changed`, and `destroyed`."""
    errors: Sequence[Mapping[str, str | None]] = ()
    """`node` (None for an error of the whole change), `code`, and `summary` of each error."""


def error_items(
    failures: Mapping[str, PlanapplyError], others: Sequence[Exception] = ()
) -> list[dict[str, str | None]]:
    """Return the errors of an event: `failures` are by node, and `others` concern the whole change."""
    found: list[dict[str, str | None]] = []
    pairs = [(name, failures[name]) for name in sorted(failures, key=sort_key)]
    for node, error in [*pairs, *((None, error) for error in others)]:
        if isinstance(error, PlanapplyError):
            diagnostic = error.diagnostics[0]
            found.append({"node": node, "code": diagnostic.code, "summary": diagnostic.summary})
        elif isinstance(error, OSError):
            summary = error.strerror or type(error).__name__
            found.append({"node": node, "code": "system_error", "summary": summary})
        else:  # a bug, whose text may have anything in it
            found.append({"node": node, "code": "internal", "summary": type(error).__name__})
    return found


def run_hook(workspace: Workspace, event: HookEvent, on_event: Listener) -> str:
    """Run the hook of the workspace for an event, and report its output as events.

    Return why it failed; an empty text if it succeeded, or if there is none. Raises Stopped if the clock
    is stopped: then no hook starts, and a running one is killed.
    """
    hooks = workspace.hooks
    words = getattr(hooks.settings, event.name)
    if not words or hooks.cluster not in (None, event.cluster):
        return ""
    workspace.clock.check()
    start = workspace.clock.monotonic()

    def report(status: str, message: str, **more: Any) -> None:
        data = {"hook": event.name, "status": status, **more}
        on_event(Event(event="hook", message=f"hook {event.name}: {message}", data=data))

    secrets = _secrets(workspace, words)
    output = _Output(lambda text: report("output", text), secrets)
    document = _document(workspace, event, secrets)
    report("started", "started")
    try:
        problem = _run(
            words, hooks.folder, document, _environment(document), workspace.clock, output
        )
    except Stopped:
        report("stopped", "killed, since planapply was stopped")
        raise
    problem = mask_values(problem, secrets)
    seconds = round(max(0.0, workspace.clock.monotonic() - start), 3)
    if problem:
        report("failed", f"failed: {problem}", seconds=seconds)
    else:
        report("finished", "finished", seconds=seconds)
    return problem


def _secrets(workspace: Workspace, words: Sequence[str]) -> set[str]:
    """Return the values that the output of a hook must not show."""
    found = environment_secrets(os.environ)
    if workspace.spec is not None:
        found |= secret_values(
            workspace.spec.model_dump(mode="json", by_alias=True, exclude={"hooks"})
        )
    # A URL that is called may be a secret as a whole, as those of webhooks are.
    return found | {word for word in words[1:] if "://" in word}


def _document(workspace: Workspace, event: HookEvent, secrets: set[str]) -> dict[str, Any]:
    """Return the JSON document that the hook reads on stdin."""
    at = datetime.fromtimestamp(workspace.clock.time(), UTC).isoformat(timespec="milliseconds")
    location = workspace.store.location
    return {
        "format_version": FORMAT_VERSION,
        "event": event.name,
        "time": at.replace("+00:00", "Z"),
        "cluster": event.cluster,
        "command": event.command,
        "state": mask_urls(location if "://" in location else os.path.abspath(location)),
        "nodes": sorted(event.nodes, key=sort_key),
        "counts": {key: event.counts.get(key, 0) for key in ("added", "changed", "destroyed")},
        "errors": [
            {**error, "summary": mask_values(str(error["summary"]), secrets)}
            for error in event.errors
        ],
    }


def _environment(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of a hook: that of planapply, and the event in variables."""
    codes = dict.fromkeys(str(error["code"]) for error in document["errors"])
    variables = {
        "EVENT": document["event"],
        "CLUSTER": document["cluster"],
        "COMMAND": document["command"],
        "STATE": document["state"],
        "NODES": ",".join(to_hostlist(document["nodes"])),
        "ERRORS": ",".join(codes),
        **{key.upper(): str(number) for key, number in document["counts"].items()},
    }
    found = {f"PLANAPPLY_{key}": text for key, text in variables.items()}
    return os.environ | {k: v for k, v in found.items() if len(v) <= _MAX_VARIABLE}


def _run(
    words: Sequence[str],
    folder: str,
    document: Mapping[str, Any],
    environment: Mapping[str, str],
    clock: Clock,
    output: "_Output",
) -> str:
    """Run a program until it exits or its time is over; return why it failed, if it did.

    Nothing that it started in its process group survives it.
    """
    # A file, since a program that does not read a pipe would block the writer.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(document).encode() + b"\n")
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return _describe_start(words[0], folder, error)
    assert process.stdout is not None
    with process.stdout as pipe:
        os.set_blocking(pipe.fileno(), False)
        try:
            is_over = _follow(process, pipe.fileno(), clock, output)
        finally:
            _kill_group(process)
        output.close()
    if is_over:
        return f"it did not exit within {TIME_LIMIT:g} s, and was killed"
    if process.returncode < 0:
        return f"it was ended by {_signal_name(-process.returncode)}"
    return f"it exited with code {process.returncode}" if process.returncode else ""


def _describe_start(program: str, folder: str, error: Exception) -> str:
    shown = make_printable(program, is_line=True)
    if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
        return f"cannot start {shown!r}: the folder {folder!r} does not exist"
    if isinstance(error, FileNotFoundError) and "/" not in program:
        reason = "there is no such program in PATH"
        if any(map(str.isspace, program)):
            reason += "; write the program and its arguments as separate elements"
    else:
        reason = getattr(error, "strerror", None) or str(error)
    return f"cannot start {shown!r}: {reason}"


def _follow(process: "subprocess.Popen[bytes]", pipe: int, clock: Clock, output: "_Output") -> bool:
    """Read the output until the process exits; return True if its time is over instead."""
    deadline = clock.monotonic() + TIME_LIMIT
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    is_open = True
    while process.poll() is None:
        clock.check()
        if clock.monotonic() >= deadline:
            return True
        if not is_open:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_INTERVAL)
        elif poll.poll(POLL_INTERVAL * 1000):
            is_open = output.read(pipe)
    # The pipe may be open still: a process in a session of its own has it. Read what is there.
    for _ in range(MAX_LINES):
        if not (is_open and poll.poll(0)):
            break
        is_open = output.read(pipe)
    return False


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_DELAY)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Output:
    """The output of a hook by lines, printable, without `secrets`, and bounded."""

    def __init__(self, show: Callable[[str], None], secrets: set[str]) -> None:
        self._show, self._secrets = show, secrets
        self._rest = b""
        self._lines = 0

    def read(self, pipe: int) -> bool:
        """Read what is available; return False at the end."""
        try:
            data = os.read(pipe, _MAX_BYTES)
        except BlockingIOError:
            return True
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._add(line)
        self._rest = rest[:_MAX_BYTES]
        return bool(data)

    def close(self) -> None:
        """Show the last line, and how many were not shown."""
        self._add(self._rest)
        if self._lines > MAX_LINES:
            self._show(f"… and {self._lines - MAX_LINES:,} more lines")

    def _add(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if not text:
            return
        self._lines += 1
        if self._lines <= MAX_LINES:
            masked = mask_values(str(redact(text)), self._secrets)
            self._show(elide(make_printable(masked, is_line=True), MAX_LINE))
