"""Checks of the environment variables that a spec sets on its nodes."""

import re
from collections.abc import Callable, Iterator, Mapping

from planapply.model.diagnostics import Severity
from planapply.model.toml import KeyPath
from planapply.model.variables import split_self_references
from planapply.specfile.problem import Problem

_REFERENCE = re.compile(
    r"\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\}?|\$\(|`|(?<![^:])~(?=[/:]|$)", re.ASCII
)  # a variable, a command, or a home
_PATHS = re.compile(r".*(PATH|DIR|DIRS|HOME|FOLDER)", re.IGNORECASE)
_SYSTEM_FOLDERS = {"/usr/bin", "/bin"}


def check_variables(
    variables: Mapping[str, str],
    find_path: Callable[[str], KeyPath],
    *,
    has_container: bool,
    is_local: bool,
) -> Iterator[Problem]:
    """Yield what only a shell would replace, and paths without which a node cannot start.

    `find_path` returns where the spec sets a variable. No value is shown: it may be a secret.
    """
    for name, value in variables.items():
        where = find_path(name)
        parts = split_self_references(name, value)
        found = {reference for part in parts for reference in _REFERENCE.findall(part)}
        others = [f"{r}…}}" if re.fullmatch(r"\$\{\w+", r) else r for r in sorted(found)]
        if others and _PATHS.fullmatch(name):
            yield Problem(
                where,
                f"`{name}` of the nodes will contain {', '.join(others)} literally",
                f"Only ${name} or ${{{name}}} is replaced, by the node's own value. Write the path.",
                Severity.WARNING,
            )
        if name == "PATH" and has_container and len(parts) > 1:
            yield Problem(
                where,
                "cannot extend `PATH` in a container: planapply does not know the image's",
                "Write all of its folders, or set PATH in the image.",
            )
        lacks_commands = len(parts) == 1 and _SYSTEM_FOLDERS.isdisjoint(value.split(":"))
        if name == "PATH" and lacks_commands and not (has_container or is_local):
            yield Problem(
                where,
                "`PATH` of the nodes lacks /usr/bin: their setup cannot find any command",
                'Extend it: "FOLDER:$PATH".',
                Severity.WARNING,
            )
