"""Files that are nobody else's business: of mode 0600, replaced as a whole or not at all."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from planapply.store.rescue import create


def write_private(path: str | Path, data: bytes) -> None:
    """Puts `data` in the place of `path`; raises OSError, and then the old file is intact."""
    target = os.path.realpath(path)  # a link stays one
    with suppress(FileNotFoundError):
        # A device or a pipe would be replaced by a file of its name.
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise FileExistsError(None, "there is something that is not a file", os.fspath(path))
    temporary = f"{target}.{os.urandom(4).hex()}.tmp"
    create(temporary, data)
    try:
        os.replace(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise
