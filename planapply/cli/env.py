"""planapply env"""

import shlex

from planapply.cli import terminal
from planapply.cli.open_workspace import open_state, print_event
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Overrides, State
from planapply.ops.env import client_environment
from planapply.ops.logs import lock_for_read
from planapply.render.text import line


def command(
    file: File = DEFAULT_FILE,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Print shell exports so that distributed.Client() connects without arguments.

    Use it as: eval "$(planapply env)". If the cluster uses TLS, its key is written to files that
    only you can read.
    """
    workspace = open_state(file, overrides, state)
    with lock_for_read(workspace, "env", lock_timeout, print_event):
        variables = client_environment(workspace.read())
    terminal.show(line(f"export {key}={shlex.quote(value)}") for key, value in variables.items())
