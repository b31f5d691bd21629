"""`packages = "client"`: the packages of the Python that runs planapply."""

import json
import platform
import re
from importlib import metadata

# planapply does not run on nodes, and a newer installer is no reason to replace a node.
_EXCLUDED = {"planapply", "pip", "setuptools", "wheel", "uv"}


def client_packages() -> tuple[tuple[str, ...], list[str]]:
    """Return the installed packages as pip requirements.

    The second value has the names of packages that other machines cannot install, since they are
    installed from a local folder.
    """
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
    """Return the version of Python that nodes need to be compatible with this one."""
    return ".".join(platform.python_version_tuple()[:2])


def _origin(distribution: metadata.Distribution) -> str:
    """Return the URL that a package was installed from, with its commit; empty for an index."""
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
