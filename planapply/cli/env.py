"""planapply env"""

import shlex

from planapply import terminal
from planapply.cli.open_workspace import read_state
from planapply.cli.options import DEFAULT_FILE, File, LockTimeout, Overrides, State
from planapply.ops.env import client_environment
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
    variables = client_environment(read_state("env", file, overrides, state, lock_timeout))
    terminal.show(line(f"export {key}={shlex.quote(value)}") for key, value in variables.items())
