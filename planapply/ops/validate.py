"""validate: what can be known of a spec without asking anybody; and init, which writes one."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from planapply import catalog, specfile
from planapply.fleet.provider_client import call_plugin
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.provider import Plugin


def validate(file: str, overrides: tuple[str, ...] = ()) -> list[Diagnostic]:
    """Warnings about the spec; raises PlanapplyError with everything that is wrong with it."""
    _, diagnostics = specfile.load(Path(file), catalog.load_plugin, overrides, import_classes=True)
    return diagnostics


def write_starter(file: str, provider: str, overrides: Sequence[str] = ()) -> None:
    """Write a starter spec; raises PlanapplyError where the file is there already."""
    text = specfile.render_starter(_guard_starter(catalog.load_plugin(provider)), overrides)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise PlanapplyError(
            f"{file} is there already",
            "It is never overwritten. Name another file with --file, or remove this one first.",
        ) from None
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(text)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(file)
        if isinstance(error, OSError):
            raise _unwritable(file, error) from error
        raise


def _guard_starter(plugin: Plugin) -> Plugin:
    """Return the plug-in with a starter that reports its bugs as those of the plug-in."""
    starter = plugin.starter
    if isinstance(starter, str):
        return plugin

    def guarded(settings: Mapping[str, Any]) -> str:
        return call_plugin(plugin, "starter", lambda: starter(settings))

    return replace(plugin, starter=guarded)


def _unwritable(file: str, error: OSError) -> PlanapplyError:
    return PlanapplyError(
        f"{file} can't be written: {error.strerror or error}", "Name another file with --file."
    )
