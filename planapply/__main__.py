"""`python -m planapply`."""

import sys

from planapply.cli import main

if __name__ == "__main__":
    sys.exit(main())
