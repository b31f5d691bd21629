"""`packages = "client"`: what the Python has that runs planapply."""

import json
import platform
from importlib import metadata

# planapply runs on no node, and a newer installer is no reason to replace one.
_LEFT_OUT = {"planapply", "pip", "setuptools", "wheel", "uv"}


def client_packages() -> tuple[tuple[str, ...], list[str]]:
    """The installed packages as pip takes them, and the names of those that no other machine can
    get."""
    found: dict[str, str] = {}
    local = set()
    for distribution in metadata.distributions():
        name = (distribution.name or "").lower().replace("_", "-")
        if not name or name in _LEFT_OUT or name in found or name in local:
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
    text = distribution.read_text("direct_url.json")
    if not text:
        return ""
    document = json.loads(text)
    source = document.get("vcs_info")
    if source:
        return f"{source['vcs']}+{document['url']}@{source['commit_id']}"
    return str(document["url"])
