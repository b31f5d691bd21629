"""validate: what can be known of a spec offline; and init, which writes a starter spec."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from planapply import catalog, specfile
from planapply.fleet.plugin_calls import call_plugin
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.field_types import MAX_NAME_LENGTH
from planapply.model.names import suggest_cluster_name
from planapply.model.spec import state_location
from planapply.provider import Plugin
from planapply.store.files import create_file


def validate(
    file: str, overrides: tuple[str, ...] = (), *, import_classes: bool = True
) -> list[Diagnostic]:
    """Return the warnings about a spec; raises PlanapplyError with all of its errors.

    Without `import_classes`, nothing that the spec names is imported, so a spec need not be trusted.
    """
    _, diagnostics = specfile.load(
        Path(file), catalog.load_plugin, overrides, import_classes=import_classes
    )
    return diagnostics


def write_starter(file: str, provider: str, overrides: Sequence[str] = ()) -> None:
    """Write a starter spec, whose cluster is named after the file's folder.

    Raises PlanapplyError if the file exists already.
    """
    name = suggest_cluster_name(Path(file).absolute().parent.name, MAX_NAME_LENGTH)
    plugin = _guard_starter(catalog.load_plugin(provider))
    text = specfile.render_starter(plugin, overrides, name)
    try:
        create_file(file, text.encode(), mode=0o666)
    except FileExistsError:
        if Path(file).is_dir():
            raise PlanapplyError(
                f"cannot write {file}: it is a folder", "Name a file with --file."
            ) from None
        raise PlanapplyError(
            f"{file} exists already",
            "It is never overwritten. Choose another file with --file, or remove this one first.",
        ) from None
    except FileNotFoundError:
        raise PlanapplyError(
            f"cannot write {file}: its folder does not exist",
            "Create the folder, or choose another file with --file.",
        ) from None
    except OSError as error:
        raise PlanapplyError(
            f"cannot write {file}: {error.strerror or error}", "Choose another file with --file."
        ) from error


def suggest_gitignore(file: str) -> tuple[str, str]:
    """Return the `.gitignore` next to a spec, and the line with which git ignores the state and its lock.

    The line is empty if the file has it already.
    """
    name = Path(state_location(None, file)).name
    pattern = re.sub(r"([\\*?\[#! ])", r"\\\1", name) + "*"
    path = Path(file).parent / ".gitignore"
    try:
        is_ignored = pattern in path.read_text().splitlines()
    except (OSError, UnicodeError):  # none yet, or one that only the user can judge
        is_ignored = False
    return str(path), "" if is_ignored else pattern


def _guard_starter(plugin: Plugin) -> Plugin:
    """Return the plug-in with a starter that reports its bugs as those of the plug-in."""
    starter = plugin.starter
    if not callable(starter):
        return plugin

    def guarded(settings: Mapping[str, Any]) -> str:
        return call_plugin(plugin, "starter", lambda: starter(settings))

    return replace(plugin, starter=guarded)
