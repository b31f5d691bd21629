"""Checks of the shell commands that a spec runs on its nodes."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence

from planapply.model.diagnostics import Severity
from planapply.model.toml import KeyPath
from planapply.specfile.problem import Problem

_TIME_LIMIT = 5.0
"""Seconds for bash to read one command."""


def check_setup(path: KeyPath, commands: Sequence[str]) -> Iterator[Problem]:
    """Yield a warning for each command that the bash of this machine cannot parse.

    `path` is that of the commands in the spec. A warning only: the bash of the nodes may be newer. Bash runs nothing of the command (`-n`), and nothing
    is checked without a bash.
    """
    bash = shutil.which("bash") if commands else None
    if bash is None:
        return
    for number, command in enumerate(commands):
        try:
            parsed = subprocess.run(
                [bash, "-n"],
                input=command.encode(),
                capture_output=True,
                timeout=_TIME_LIMIT,
                env={"LC_ALL": "C"},  # English messages, and no BASH_ENV, which bash would run
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        if parsed.returncode == 2:
            # Not its own text, which may quote a secret of the command.
            is_incomplete = b"unexpected end of file" in parsed.stderr or b"EOF" in parsed.stderr
            yield Problem(
                (*path, number),
                f"bash cannot parse command {number + 1} of `setup`: "
                + ("it is not complete" if is_incomplete else "it has a syntax error"),
                "Dask would not start on the nodes. Each command has its own bash.",
                Severity.WARNING,
            )
