"""`python -m planapply`."""

import os
import sys

# `python -m` puts the current folder first, where a file named like a module would be run.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from planapply.cli import main

if __name__ == "__main__":
    sys.exit(main())
