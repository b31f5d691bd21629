"""Paths that begin with the home folder of a user."""

import os
from collections.abc import Callable
from pathlib import Path

from planapply.model.diagnostics import PlanapplyError


def expand_home(path: str | os.PathLike[str]) -> str:
    """Return `path` with `~` or `~user` at its beginning replaced by that home folder.

    Raises PlanapplyError if there is no such folder, as in a container whose user has no name.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return text
    if reason := home_problem(text):
        raise PlanapplyError(
            f"cannot find the path {text!r}: {reason}",
            "Set HOME, or write the folder's absolute path."
            if text.partition("/")[0] == "~"
            else "Write the folder's absolute path; for a file whose name begins with `~`, write `./~`.",
        )
    return os.path.expanduser(text)


def home_problem(text: str) -> str:
    """Return why a path that may begin with `~` or `~user` has no home folder; empty if it has one."""
    if not text.startswith("~"):
        return ""
    expanded = os.path.expanduser(text)
    user = text.partition("/")[0].removeprefix("~")
    is_unknown = not user and os.environ.get("HOME") == ""
    if expanded == text or is_unknown or not os.path.isabs(expanded):
        return f"there is no user {user!r}" if user else "your home folder is unknown"
    return ""


def find_user_folder(find: Callable[[str], Path]) -> Path | None:
    """Return planapply's folder by a function of platformdirs; None for a user without a home folder."""
    try:
        folder = find("planapply")
    except RuntimeError:  # of recent versions; earlier ones return a path that begins with `~`
        return None
    return folder if folder.is_absolute() else None
