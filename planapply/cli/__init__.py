"""The command line: prints, asks, and gives exit codes; all else is done below."""

import atexit
import gc
import sys
from collections.abc import Sequence

from planapply.cli.signals import Interrupted, handle_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code (0 done, 1 error, 2 and 130 as the contract says)."""
    # Imports and large plans make many objects and hardly any garbage: looking for it at the default
    # rate is a seventh of the time of a plan for 10,000 nodes, and looking for it once more at the
    # process's end a tenth of the time of a small one.
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)
    try:
        with handle_signals():
            # Only now, so that Ctrl-C is heard while the rest is imported.
            from planapply.cli.app import run

            return run(sys.argv[1:] if arguments is None else arguments)
    except Interrupted as interrupted:
        return interrupted.code
