"""Checks of the environment variables that a spec sets on its nodes."""

import re
from collections.abc import Iterator, Mapping

from planapply.model.diagnostics import Severity
from planapply.model.variables import split_self_references
from planapply.specfile.problem import Problem

_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_PATHS = re.compile(r".*(PATH|DIR|DIRS|HOME|FOLDER)", re.IGNORECASE)
_SYSTEM_FOLDER = "/usr/bin"


def check_variables(
    variables: Mapping[str, str], *, has_container: bool, is_local: bool
) -> Iterator[Problem]:
    """Yield references to other variables, and paths without which a node cannot start.

    No value is shown: it may be a secret.
    """
    for name, value in variables.items():
        where = ("environment", "env", name)
        parts = split_self_references(name, value)
        others = {match[1] or match[2] for part in parts for match in _REFERENCE.finditer(part)}
        if others and _PATHS.fullmatch(name):
            names = ", ".join(f"${other}" for other in sorted(others))
            yield Problem(
                where,
                f"`{name}` of the nodes will contain {names} literally",
                f"Only ${name} itself is replaced, by the node's own value. Write the path.",
                Severity.WARNING,
            )
        if name == "PATH" and has_container and len(parts) > 1:
            yield Problem(
                where,
                "cannot extend `PATH` in a container: planapply does not know the image's",
                "Write all of its folders, or set PATH in the image.",
            )
        lacks_commands = len(parts) == 1 and _SYSTEM_FOLDER not in value.split(":")
        if name == "PATH" and lacks_commands and not (has_container or is_local):
            yield Problem(
                where,
                f"`PATH` of the nodes lacks {_SYSTEM_FOLDER}: their setup cannot find any command",
                'Extend it: "FOLDER:$PATH".',
                Severity.WARNING,
            )
