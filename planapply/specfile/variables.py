"""Checks of the environment variables that a spec sets on its nodes."""

import re
from collections.abc import Callable, Iterator, Mapping

from planapply.model.diagnostics import Severity
from planapply.model.node_secrets import ENV_PREFIX, NODE_PREFIXES, source_variable
from planapply.model.secrets import looks_secret
from planapply.model.toml import KeyPath
from planapply.model.variables import PROXIES, split_self_references
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
        if source_variable(value) is not None:
            if name.lower() in PROXIES and not is_local:
                yield Problem(
                    where,
                    f"`{name}` cannot be a secret: apt and Docker need it where every user of the node can read it",
                    "Write the URL of the proxy, without a password.",
                )
            continue
        if value.startswith((ENV_PREFIX, *NODE_PREFIXES)):
            prefix = value.partition(":")[0]
            yield Problem(
                where,
                f"`{name}` does not name an environment variable after `env:`"
                if prefix == "env"
                else f"cannot read `{name}` from `{prefix}:`: this version reads secrets from `env:` only",
                f'Write {name} = "env:NAME": planapply reads the environment variable NAME when it launches.',
            )
            continue
        parts = split_self_references(name, value)
        if any(parts) and looks_secret(name, value):
            yield Problem(
                where,
                f"`{name}` looks like a credential, and its value is in the spec, the state, and saved plans",
                f'Write {name} = "env:{name}", and set {name} where planapply runs.',
                Severity.WARNING,
            )
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
