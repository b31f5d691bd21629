"""Output and questions on a real terminal (a pty)."""

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest
from cli.commands import SPEC
from crash.forkserver import shared_server
from inline_snapshot import snapshot

QUESTION = "Do you want to perform these actions? Only 'yes' will be accepted: "
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command on its own terminal."""

    def __init__(self, environment: dict[str, str], *arguments: str, width: int = 80) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        keep_output_at_ctrl_c(theirs)
        env = {"TERM": "xterm", **environment}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self._process = shared_server().start(*arguments, env=env, **streams)
        os.close(theirs)
        self.text = ""

    def until(self, text: str, *, anywhere: bool = False) -> None:
        """Read until the output ends with a text, or contains it."""
        while not (text in self.text if anywhere else self.text.endswith(text)):
            assert self._read(), self.text

    def type(self, keys: str) -> None:
        """Type a text."""
        os.write(self._ours, keys.encode())

    def finish(self) -> tuple[int, str]:
        """Wait for the exit; return the exit code and the whole output."""
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait(), self.text

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)


def keep_output_at_ctrl_c(descriptor: int) -> None:
    """Have Ctrl-C discard no output.

    Linux sends the signal first and then empties the terminal's buffers: what a quick program has printed
    between the two would be lost (`isig` in drivers/tty/n_tty.c).
    """
    attributes = termios.tcgetattr(descriptor)
    attributes[3] |= termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


@pytest.fixture
def terminal(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of a user with a terminal, and a spec."""
    Path("planapply.toml").write_text(SPEC)
    kept = {k: v for k, v in environment.items() if k not in ("NO_COLOR", "COLUMNS", "COLORTERM")}
    return {**kept, "TERM": "xterm"}


def test_colors(terminal: dict[str, str]) -> None:
    assert Terminal(terminal, "plan").finish() == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  \x1b[32m+  \x1b[0m scheduler         small
  \x1b[32m+  \x1b[0m cpu-[0-2]   (3)   large

\x1b[1mPlan:\x1b[0m 4 to add, 0 to change, 0 to destroy.
\x1b[1mCost:\x1b[0m 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
"""),
    )
    Path("planapply.toml").write_text(SPEC.replace("count = 3", 'count = "3"'))
    assert Terminal(terminal, "plan").finish() == (
        1,
        snapshot("""\
\x1b[1;31mError:\x1b[0m\x1b[1m `workers.cpu.count` must be a whole number, not "3"\x1b[0m
  --> planapply.toml:12:1
\x1b[34m   |\x1b[0m
\x1b[34m12 | \x1b[0mcount = "3"
\x1b[34m   | \x1b[0m\x1b[1;31m^^^^^\x1b[0m
  Remove the quotes: `count = 3`.

"""),
    )


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_no_colors(terminal: dict[str, str], more: dict[str, str]) -> None:
    code, text = Terminal({**terminal, **more}, "plan").finish()
    assert code == 0
    assert "\x1b" not in text
    assert text.startswith("planapply will change cluster")


@pytest.mark.parametrize("keys", ["no\n", "y\n", "\n", "\x04"])
def test_only_yes_approves(terminal: dict[str, str], keys: str) -> None:
    asked = Terminal(terminal, "apply", "--no-wait")
    asked.until(QUESTION)
    asked.type(keys)
    code, text = asked.finish()
    assert code == 1
    lines = text.partition(QUESTION)[2].splitlines()
    assert lines[-1] == "Apply canceled; nothing was changed."  # on a line of its own
    assert not Path("planapply.state.json").exists()
    assert not Path("planapply.state.json.lock").exists()


def test_ctrl_c_at_the_prompt(terminal: dict[str, str]) -> None:
    asked = Terminal(terminal, "apply", "--no-wait")
    asked.until(QUESTION)
    asked.type("\x03")
    code, text = asked.finish()
    answer = text.partition(QUESTION)[2]
    assert "^C" in answer
    # Linux echoes `^C` after the signal, so possibly after what the command prints.
    assert (code, answer.replace("^C", "", 1)) == (130, "\nApply canceled; nothing was changed.\n")
    assert not Path("planapply.state.json.lock").exists()


def test_yes_starts_the_live_display(terminal: dict[str, str]) -> None:
    asked = Terminal({**terminal, "FAKE_FIREWALL": "1"}, "apply", "--no-wait")
    asked.until(QUESTION)
    asked.type("yes\n")
    code, text = asked.finish()
    shown = ESCAPES.sub("", text.partition(QUESTION)[2])
    assert code == 0
    assert "  firewall: created group r-0001\n" in shown
    last = shown[shown.rindex("  scheduler ") :]
    assert re.sub(r"[0-9]:[0-9]{2}", "0:00", re.sub(r"[ \r]+\n", "\n", last)) == snapshot("""\
  scheduler   0:00   launched
  cpu-0       0:00   launched
  cpu-1       0:00   launched
  cpu-2       0:00   launched
  0:00

Apply complete: 5 added, 0 changed, 0 destroyed.

scheduler_address = tcp://127.0.0.1:1
""")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is visible again


def test_ctrl_c_twice_restores_the_terminal(terminal: dict[str, str], folder: Path) -> None:
    running = Terminal({**terminal, "FAKE_FOLDER": str(folder)}, "apply", "--auto-approve")
    running.until("launching (small)", anywhere=True)
    running.type("\x03")
    running.until("stopping: sending no further requests", anywhere=True)
    running.type("\x03")
    code, text = running.finish()
    assert code == 130
    assert re.sub("Lock [0-9a-f]{8}", "Lock ID", text.rpartition("\x1b[?25h\n")[2]) == snapshot(
        "Exited immediately. Lock ID on planapply.state.json remains; the next run on this machine takes it over.\n"
    )
    assert "Traceback" not in text


def test_json_never_prompts(terminal: dict[str, str]) -> None:
    code, text = Terminal(terminal, "apply", "--json").finish()
    assert code == 1
    assert QUESTION not in text
    assert "cannot ask for approval: --json is given" in text


@pytest.mark.parametrize("width", [80, 120])
def test_help_and_errors_fit_the_terminal(terminal: dict[str, str], width: int) -> None:
    for arguments in (["--help"], ["apply", "--help"], ["plan", "--out", "/" + "x/" * 30]):
        _, text = Terminal(terminal, *arguments, width=width).finish()
        assert max(len(line) for line in ESCAPES.sub("", text).splitlines()) <= width


def test_command_of_a_notebook_has_no_terminal(terminal: dict[str, str]) -> None:
    """A kernel gives `!planapply apply` a pseudo-terminal, where no one can answer."""
    kernel = {**terminal, "JPY_PARENT_PID": "1"}
    assert Terminal(kernel, "apply").finish() == (
        1,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  +   scheduler         small
  +   cpu-[0-2]   (3)   large

Plan: 4 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 4.60 USD/h (list prices of 2025-03-02)
Error: cannot ask for approval: stdin is not a terminal
  Pass --auto-approve; or save a plan with `planapply plan --out FILE`, review it, and run
  `planapply apply FILE`.
"""),
    )
    assert not Path("planapply.state.json.lock").exists()
    code, text = Terminal(kernel, "apply", "--auto-approve", "--no-wait").finish()
    assert code == 0
    assert "scheduler: launched" in text
    assert "\x1b" not in text
