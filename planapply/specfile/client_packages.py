"""`packages = "client"`: what the Python has that runs planapply."""

import json
import platform
import re
from importlib import metadata

# planapply runs on no node, and a newer installer is no reason to replace one.
_EXCLUDED = {"planapply", "pip", "setuptools", "wheel", "uv"}


def client_packages() -> tuple[tuple[str, ...], list[str]]:
    """The installed packages as pip takes them, and the names of those that no other machine can
    get."""
    found: dict[str, str] = {}
    local = set()
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name or "").lower()
        if not name or name in _EXCLUDED or name in found or name in local:
            continue
        origin = _origin(distribution)
        if origin.startswith("file:"):
            local.add(name)
        else:
            found[name] = f"{name} @ {origin}" if origin else f"{name}=={distribution.version}"
    return tuple(found[name] for name in sorted(found)), sorted(local)


def client_python() -> str:
    """The version of Python that a node needs to understand this one."""
    return ".".join(platform.python_version_tuple()[:2])


def _origin(distribution: metadata.Distribution) -> str:
    """The address that it was installed from, with the commit; empty for one of a package index."""
    try:
        document = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return ""
    url = str(document.get("url", ""))
    if source := document.get("vcs_info"):
        url = f"{source['vcs']}+{url}@{source['commit_id']}"
    if folder := document.get("subdirectory"):
        url += f"#subdirectory={folder}"
    return url
