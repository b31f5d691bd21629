"""A cluster's TLS key pair as files, for programs that read files; one folder per lineage."""

import os
import shutil
from pathlib import Path

from planapply.model.diagnostics import PlanapplyError
from planapply.model.paths import find_user_folder
from planapply.model.state import TLS
from planapply.store.files import replace_file


def write(lineage: str, tls: TLS) -> tuple[str, str]:
    """Write the key pair, readable by this user only; return the paths of certificate and key.

    Raises PlanapplyError if the files cannot be written.
    """
    folder = _folder(lineage)
    if folder is None:
        raise PlanapplyError(
            "cannot write the TLS key: your home folder is unknown",
            "Set HOME, or set XDG_CACHE_HOME to a folder that belongs to you.",
        )
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
            raise PermissionError(None, "the folder belongs to another user")
        folder.chmod(0o700)
        replace_file(certificate, tls.certificate.encode())
        replace_file(key, tls.key.get_secret_value().encode())
    except OSError as error:
        raise PlanapplyError(
            f"cannot write the TLS key to {folder}: {error.strerror or error}",
            "Set XDG_CACHE_HOME to a folder that belongs to you.",
        ) from error
    return str(certificate), str(key)


def remove(lineage: str) -> None:
    """Remove the files of `write`, when the cluster no longer exists."""
    folder = _folder(lineage)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _folder(lineage: str) -> Path | None:
    from platformdirs import user_cache_path

    # A lineage is read from a file: it must not lead to another folder.
    name = "".join(c for c in lineage if c.isalnum() or c == "-")
    cache = find_user_folder(user_cache_path)
    return None if cache is None else cache / "tls" / (name or "unnamed")
