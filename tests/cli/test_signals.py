"""Ctrl-C and similar signals, in separate processes whose cloud answers on demand."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cli.commands import COMMAND, SPEC, events
from crash.forkserver import shared_server
from inline_snapshot import snapshot

from planapply.model.state import State
from planapply.store import open_store

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def state() -> State:
    found = open_store("planapply.state.json").read()
    assert found is not None
    return found


@contextmanager
def started(
    environment: dict[str, str], *arguments: str, stderr: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """Start a command, which is stopped after the test."""
    Path("planapply.toml").write_text(SPEC)
    env = {**environment, "FAKE_FOLDER": os.getcwd()}
    process = shared_server().start(*arguments, env=env, stderr=stderr)
    with process:
        try:
            yield process
        finally:
            process.kill()


def has_asked(process: "subprocess.Popen[str]") -> None:
    """Wait until a launch request is sent."""
    while not Path("asked").exists():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("name", CODES)
def test_first_signal_records_sent_requests(
    environment: dict[str, str], folder: Path, name: str
) -> None:
    with started(environment, "apply", "--auto-approve", "--no-wait") as process:
        has_asked(process)
        process.send_signal(signal.Signals[name])
        assert process.stderr is not None
        assert "scheduler: launching (small)" in process.stderr.readline()
        assert process.stderr.readline().startswith("Stopping: sending no further requests")
        Path("answer").touch()
        _, err = process.communicate()
        assert process.returncode == CODES[name]
    assert "scheduler: launched" in err
    assert err.endswith(
        "\nApply stopped: 1 added, 0 changed, 0 destroyed. This is recorded; the next apply or destroy\n"
        "continues from there.\n"
    )
    assert list(state().nodes) == ["scheduler"]
    assert not state().intents
    assert not Path("planapply.state.json.lock").exists()


def test_second_signal_exits_immediately_and_keeps_the_intent(
    environment: dict[str, str], folder: Path
) -> None:
    with started(environment, "apply", "--auto-approve", "--no-wait") as process:
        has_asked(process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while not process.stderr.readline().startswith("Stopping:"):
            pass
        held = open_store("planapply.state.json").lock_info()
        assert held is not None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert process.returncode == 130
    assert err.replace(held.id, "LOCK") == snapshot(
        "Exited immediately. Lock LOCK on planapply.state.json remains; the next run on this machine takes it over.\n"
    )
    assert not state().nodes
    assert [intent.names for intent in state().intents.values()] == [["scheduler"]]
    Path("answer").touch()
    with started(environment, "apply", "--auto-approve", "--no-wait") as process:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert f"lock {held.id}" in " ".join(err.split())


def test_second_signal_exits_immediately_with_a_blocked_reader(
    environment: dict[str, str], folder: Path
) -> None:
    reader, writer = os.pipe()
    command = ("apply", "--auto-approve", "--no-wait")
    with (
        open(reader) as stderr,
        open(writer, "wb"),
        started(environment, *command, stderr=writer) as process,
    ):
        has_asked(process)
        process.send_signal(signal.SIGINT)
        while not stderr.readline().startswith("Stopping:"):
            pass
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"x")
        os.set_blocking(writer, True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 130


def test_json_ends_with_the_counts(environment: dict[str, str], folder: Path) -> None:
    with started(environment, "apply", "--auto-approve", "--no-wait", "--json") as process:
        has_asked(process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Stopping:")
        Path("answer").touch()
        out, _ = process.communicate()
        assert process.returncode == 130
    assert events(out)[-1] == {
        "event": "finished",
        "data": {"outcome": "stopped", "added": 1, "changed": 0, "destroyed": 0},
    }


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("command", ["apply", "apply --json", "plan"])
def test_signal_outside_of_launching_exits(
    environment: dict[str, str], folder: Path, name: str, command: str
) -> None:
    is_json = "--json" in command
    # A watcher is waited for without `--lock-timeout`.
    timeout = [] if command == "apply" else ["--lock-timeout", "1 h"]
    with (
        open_store("planapply.state.json").lock("a test" if timeout else "watch"),
        started(environment, *command.split(), *timeout) as process,
    ):
        told = process.stdout if is_json else process.stderr
        assert told is not None
        lock = "the state's lock" if timeout else "the lock of the watcher"
        assert f"for {lock}: " in told.readline()
        process.send_signal(signal.Signals[name])
        last = {
            "event": "finished",
            "data": {"outcome": "stopped", "added": 0, "changed": 0, "destroyed": 0},
        }
        out, err = process.communicate()
        assert (events(out), err) == ([last] if is_json else [], "")
        assert process.returncode == CODES[name]


def test_ignored_signals_stay_ignored(environment: dict[str, str], folder: Path) -> None:
    Path("planapply.toml").write_text(SPEC)
    Path("answer").touch()
    script = (
        "import signal, sys; from planapply.cli import main; "
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "from planapply.cli.signals import handle_signals\n"
        "with handle_signals(): signal.raise_signal(signal.SIGHUP); print('still here')"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


def test_second_signal_does_not_wait_for_the_first(environment: dict[str, str]) -> None:
    script = (
        "import signal\n"
        "from planapply.cli.signals import Interrupted, handle_signals\n"
        "with handle_signals():\n"
        "    try: signal.raise_signal(signal.SIGTERM)\n"
        "    except Interrupted: signal.raise_signal(signal.SIGINT); print('still here')\n"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
