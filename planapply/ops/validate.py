"""validate: what can be known of a spec without asking anybody; and init, which writes one."""

from collections.abc import Sequence
from pathlib import Path

from planapply import catalog, specfile
from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.store.files import create_file


def validate(file: str, overrides: tuple[str, ...] = ()) -> list[Diagnostic]:
    """Warnings about the spec; raises PlanapplyError with everything that is wrong with it."""
    _, diagnostics = specfile.load(Path(file), catalog.load_plugin, overrides, import_classes=True)
    return diagnostics


def write_starter(file: str, provider: str, overrides: Sequence[str] = ()) -> None:
    """Write a starter spec; raises PlanapplyError where the file is there already."""
    text = specfile.render_starter(catalog.load_plugin(provider), overrides)
    try:
        create_file(file, text.encode(), mode=0o666)
    except FileExistsError:
        raise PlanapplyError(
            f"{file} is there already",
            "It is never overwritten. Name another file with --file, or remove this one first.",
        ) from None
    except OSError as error:
        raise PlanapplyError(
            f"cannot write {file}: {error.strerror or error}", "Choose another file with --file."
        ) from error
