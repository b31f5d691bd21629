"""Files that are nobody else's business: of mode 0600, replaced as a whole or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def create_private(path: str, data: bytes) -> None:
    """A new file of mode 0600 with `data` on the disk, or none at all; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)
        raise


def write_private(path: str | Path, data: bytes) -> None:
    """Puts `data` in the place of `path`; raises OSError, and then the old file is intact."""
    target = os.path.realpath(path)  # a link stays one
    with suppress(FileNotFoundError):
        # A device or a pipe would be replaced by a file of its name.
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise FileExistsError(None, "there is something that is not a file", os.fspath(path))
    temporary = f"{target}.{os.urandom(4).hex()}.tmp"
    create_private(temporary, data)
    try:
        os.replace(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise


def save_copy(data: bytes, name: str, folders: Iterable[str]) -> str | None:
    """Writes `data`, mode 0600, to a new file in the first folder that takes it; its path, or None.

    `name` is the file's name without suffix. The user's state folder and the platform's folder for
    temporary files come last.
    """
    from platformdirs import user_state_dir

    for folder in (*folders, user_state_dir("planapply"), tempfile.gettempdir()):
        for suffix in (".json", f".{os.urandom(4).hex()}.json"):
            path = os.path.join(folder, name + suffix)
            try:
                Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                create_private(path, data)
            except FileExistsError:
                continue
            except OSError:
                break
            return os.path.abspath(path)
    return None
