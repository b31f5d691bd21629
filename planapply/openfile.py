"""Opening of files whose path another user may have prepared: links, pipes, and devices."""

import errno
import os
import stat

_CHUNK = 1 << 20


def open_regular(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """Return a descriptor of a regular file with no other name; raise OSError for anything else.

    A link is not followed, and a pipe is not waited for.
    """
    descriptor = _open(path, flags | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if found.st_nlink > 1:
            raise OSError(errno.EMLINK, "a hard link of another file", os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_file(
    path: str | os.PathLike[str], max_bytes: int | None = None, *, allow_pipe: bool = False
) -> bytes:
    """Return the content of a file, or its first `max_bytes`; a link is followed.

    Raises OSError for a device, and for a pipe unless `allow_pipe`. A pipe without a writer is empty.
    """
    descriptor = _open(path, os.O_RDONLY, 0)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not (stat.S_ISREG(mode) or (allow_pipe and stat.S_ISFIFO(mode))):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if hasattr(os, "set_blocking"):
            os.set_blocking(descriptor, True)  # a pipe's writer may be slower than this process
        return _read(descriptor, max_bytes)
    finally:
        os.close(descriptor)


def _read(descriptor: int, max_bytes: int | None) -> bytes:
    chunks: list[bytes] = []
    remaining = max_bytes
    while remaining is None or remaining > 0:
        size = _CHUNK if remaining is None else min(_CHUNK, remaining)
        chunk = os.read(descriptor, size)
        if not chunk:
            break
        chunks.append(chunk)
        if remaining is not None:
            remaining -= len(chunk)
    return b"".join(chunks)


def _open(path: str | os.PathLike[str], flags: int, mode: int) -> int:
    extra = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags | extra, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and flags & getattr(os, "O_NOFOLLOW", 0):
            raise OSError(errno.EINVAL, "a symbolic link", os.fspath(path)) from None
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path)) from None
        raise
