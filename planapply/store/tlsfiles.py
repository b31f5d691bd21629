"""A cluster's key pair as files, for programs that take it as such; by lineage, for this user only."""

import os
import shutil
from pathlib import Path

from planapply.model.diagnostics import PlanapplyError
from planapply.model.state import TLS
from planapply.store.files import write_private


def write(lineage: str, tls: TLS) -> tuple[str, str]:
    """The paths of the certificate and of the key; raises PlanapplyError where they can't be made."""
    folder = _folder(lineage)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
            raise PermissionError(None, "it belongs to somebody else")
        folder.chmod(0o700)
        write_private(certificate, tls.certificate.encode())
        write_private(key, tls.key.get_secret_value().encode())
    except OSError as error:
        raise PlanapplyError(
            f"the TLS key can't be written to {folder}: {error.strerror or error}",
            "Set XDG_CACHE_HOME to a folder of yours.",
        ) from error
    return str(certificate), str(key)


def remove(lineage: str) -> None:
    """What `write` left, when the key is good for nothing any more."""
    shutil.rmtree(_folder(lineage), ignore_errors=True)


def _folder(lineage: str) -> Path:
    from platformdirs import user_cache_path

    # A lineage comes from a file; it must not lead elsewhere.
    name = "".join(c for c in lineage if c.isalnum() or c == "-")
    return user_cache_path("planapply") / "tls" / (name or "unnamed")
