"""Files that are written completely or not at all; replaced ones have mode 0600."""

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from planapply.model.paths import find_user_folder


def create_file(path: str | Path, data: bytes, mode: int = 0o600) -> None:
    """Create a file with `data`, which is on the disk when this returns.

    Raises OSError, and FileExistsError for a path that exists; then no file was created.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)
        raise


def replace_file(path: str | Path, data: bytes, temporary: str | None = None) -> None:
    """Replace the file at `path`, or create it, with mode 0600; a link stays a link.

    `temporary` is a path in the same folder, for the new file until it is complete; by default a
    random one. Raises OSError; the previous file is then unchanged, unless only its folder could
    not be synchronized with the disk.
    """
    target = os.path.realpath(path)
    with suppress(FileNotFoundError):
        # A file would take the place of a device or a pipe.
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise FileExistsError(None, "not a regular file", os.fspath(path))
    temporary = temporary or f"{target}.{os.urandom(4).hex()}.tmp"
    create_file(temporary, data)
    try:
        os.replace(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def save_copy(data: bytes, name: str, folders: Iterable[str]) -> str | None:
    """Write `data` to a new file in the first folder that is writable, and return its path.

    `name` is the name of the file without its suffix. After `folders`, the user's state folder and
    the platform's folder for temporary files are tried. Returns None if no folder is writable.
    """
    from platformdirs import user_state_path

    user_folder = find_user_folder(user_state_path)
    user_folders = [] if user_folder is None else [str(user_folder)]
    for folder in (*folders, *user_folders, tempfile.gettempdir()):
        for suffix in (".json", f".{os.urandom(4).hex()}.json"):
            path = os.path.join(folder, name + suffix)
            try:
                Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                create_file(path, data)
            except FileExistsError:
                continue
            except OSError:
                break
            return os.path.abspath(path)
    return None


def _sync_folder(folder: str) -> None:
    """Write a folder's entries to the disk, so that a new name in it survives a crash."""
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not support it
            raise
    finally:
        os.close(descriptor)
