"""planapply env"""

import shlex

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, tell
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Sets, State
from planapply.ops.env import environment
from planapply.ops.logs import reading
from planapply.render.text import line


def command(
    file: File = DEFAULT_FILE,
    sets: Sets = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print shell exports, after which a bare distributed.Client() connects.

    Use it as: eval "$(planapply env)". With TLS the cluster's key is written to files that only you
    can read.
    """
    workspace = open_state(file, sets, state)
    with reading(workspace, "env", lock_timeout, tell):
        variables = environment(workspace.read())
    terminal.show(line(f"export {key}={shlex.quote(value)}") for key, value in variables.items())
