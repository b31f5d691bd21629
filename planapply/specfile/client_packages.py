"""`packages = "client"`: the packages of the Python that runs planapply."""

import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from planapply.specfile.package_names import (
    ARTIFACT,
    is_for_another_system,
    is_unpublished,
    normalize,
)

# No node runs planapply, and a newer installer is no reason to replace one.
_EXCLUDED = {"planapply", "pip", "setuptools", "wheel", "uv", ARTIFACT}


class ClientPackages(NamedTuple):
    """The installed packages, and the names of those that no other machine can install."""

    requirements: tuple[str, ...]
    """In pip's format, sorted by name."""
    from_folder: tuple[str, ...] = ()
    unpublished: tuple[str, ...] = ()
    """Parts of an operating system or of conda."""
    for_another_system: tuple[str, ...] = ()


def client_packages() -> ClientPackages:
    """Return the packages of this Python."""
    found: dict[str, str] = {}
    left_out: dict[str, set[str]] = {"folder": set(), "unpublished": set(), "system": set()}
    seen = set(_EXCLUDED)
    conda = _conda_packages()
    for distribution in metadata.distributions():
        name = normalize(distribution.name or "")
        if not name or name in seen:
            continue
        seen.add(name)
        version = distribution.version
        is_from_conda = _is_from_conda(distribution) or (name, version) in conda
        origin = "" if is_from_conda else _origin(distribution)
        if origin.startswith("file:"):
            left_out["folder"].add(name)
        elif is_for_another_system(name):
            left_out["system"].add(name)
        elif is_unpublished(name):
            left_out["unpublished"].add(name)
        else:
            found[name] = f"{name} @ {origin}" if origin else f"{name}=={version}"
    return ClientPackages(
        tuple(found[name] for name in sorted(found)),
        *(tuple(sorted(names)) for names in left_out.values()),
    )


def client_python() -> str:
    """Return the version of Python that a node needs to understand this one."""
    return ".".join(platform.python_version_tuple()[:2])


def _is_from_conda(distribution: metadata.Distribution) -> bool:
    """Return whether conda installed it; its `direct_url.json` names the folder of conda's build."""
    is_editable = _direct_url(distribution).get("dir_info", {}).get("editable")
    return (distribution.read_text("INSTALLER") or "").strip() == "conda" and not is_editable


def _conda_packages() -> set[tuple[str, str]]:
    """Return the name and version of each package that conda installed here.

    Some of conda's packages name pip as their installer.
    """
    records = (
        path.stem.rsplit("-", 2) for path in Path(sys.prefix, "conda-meta").glob("*-*-*.json")
    )
    return {(normalize(name), version) for name, version, _ in records}


def _direct_url(distribution: metadata.Distribution) -> Mapping[str, Any]:
    try:
        document = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _origin(distribution: metadata.Distribution) -> str:
    """Return the address that it was installed from, with the commit; empty for a package index."""
    document = _direct_url(distribution)
    url = str(document.get("url", ""))
    if source := document.get("vcs_info"):
        url = f"{source['vcs']}+{url}@{source['commit_id']}"
    if folder := document.get("subdirectory"):
        url += f"#subdirectory={folder}"
    return url
