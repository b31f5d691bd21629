"""Requirements lines that uv, which installs them on a node, does not accept."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from planapply.bootstrap.requirements import (
    FLAGS,
    VALUED,
    Line,
    Option,
    logical_lines,
    parse_options,
    split_named_url,
    translate_editable,
)
from planapply.model.diagnostics import Severity
from planapply.specfile.package_names import normalize
from planapply.specfile.problem import suggest, summarize_value
from planapply.specfile.requirement_sets import (
    HASH_OPTION,
    find_file_name_problem,
    find_format_option_problem,
    find_hash_problem,
    without_options,
)

_LOCAL_FILE = (
    "it names a local file",
    "The nodes cannot read your files: write the content of that file, or a URL.",
    Severity.ERROR,
)
_LOCAL_PACKAGE = (
    "it names a local file",
    "The nodes cannot read your files: write NAME==VERSION of a package index, or a URL.",
    Severity.ERROR,
)
_FORMAT = 'Write it in pip\'s format, such as "pandas>=2" or "NAME @ https://HOST/NAME-1.0.tar.gz".'
_EXAMPLE = "Write NAME @ git+https://HOST/OWNER/REPOSITORY@COMMIT."
_CONTROL = re.compile(r"[^\t\r\n\x20-\x7e\x80-\U0010ffff]")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_ARCHIVE = re.compile(
    r"\.(whl|zip|tar|tar\.(gz|bz2|lz|lzma|xz|zst)|tbz|tgz|tlz|txz)(?=[?#]|$)", re.IGNORECASE
)
_LOCAL_PATH = re.compile(r"[./~\\]|file:|\$|[A-Za-z]:[\\/]")
_PINNED_DASK = re.compile(
    r"(?P<name>dask|distributed)\s*(?:\[[^\]]*\]\s*)?==\s*(?P<version>[0-9.]+)\s*(?:;.*)?"
)
OLDEST_PYTHON, NEWEST_PYTHON = 9, 15
"""Minor versions of Python 3: the oldest that a supported version of distributed runs on, and the newest."""
_NODE_ENVIRONMENTS = [
    {
        **{"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"},
        **{"implementation_name": "cpython", "platform_python_implementation": "CPython"},
        **{"platform_machine": machine, "python_version": version},
        **{"python_full_version": f"{version}.0", "implementation_version": f"{version}.0"},
        **{"platform_release": "6.12", "platform_version": "", "extra": ""},
    }
    for machine in ("x86_64", "aarch64")
    for version in (f"3.{minor}" for minor in range(OLDEST_PYTHON, NEWEST_PYTHON + 1))
]
"""Markers' variables on the nodes."""
_NODE_VARIABLES = {"HOME", "PATH", "LANG", "DASK_TEMPORARY_DIRECTORY"}
_BRINGS_DASK = re.compile(r"(?:^|[^A-Za-z0-9])(?:dask|distributed)(?![A-Za-z0-9])")


class Fault(NamedTuple):
    """A line that uv does not accept, or that has no effect."""

    line: Line
    cause: str
    advice: str
    severity: Severity = Severity.ERROR


def check_requirements(text: str, variables: Collection[str] = ()) -> Iterator[Fault]:
    """Yield the faults of requirements in pip's format.

    `variables` are the names of `environment.env`, which uv expands in URLs.
    """
    for number, physical in enumerate(text.split("\n"), start=1):
        if match := _CONTROL.search(physical):
            character = f"U+{ord(match[0]):04X}"
            yield Fault(
                Line(number, physical), f"it has a control character ({character})", "Remove it."
            )
    for line in logical_lines(text):
        if not _CONTROL.search(line.text):
            for finding in _check_line(line.text, {*variables, *_NODE_VARIABLES}):
                yield Fault(line, *finding)


def names_dask(text: str) -> bool:
    """Return whether a requirement is Dask itself, or in a file that only the nodes can read."""
    for _, line in logical_lines(text):
        if not line.startswith("-"):
            named = re.match(r"[A-Za-z0-9._-]+", line)
            name = named[0] if named else ""
            brings_dask = normalize(name) in ("dask", "distributed") or (
                "://" in line and _BRINGS_DASK.search(line)
            )
            if brings_dask and _fits_nodes(line):
                return True
        elif any(o.name == "--requirement" for o in parse_options(line)) or _BRINGS_DASK.search(
            line
        ):
            return True
    return False


def _fits_nodes(line: str) -> bool:
    """Return whether the marker of a requirement, if it has a valid one, holds on any Linux machine."""
    _, semicolon, marker = without_options(line).rpartition(";")
    if not semicolon:
        return True
    from packaging.markers import Marker

    try:
        parsed = Marker(marker)
        return any(parsed.evaluate(environment) for environment in _NODE_ENVIRONMENTS)
    except (ValueError, LookupError):
        return True  # no valid marker (reported elsewhere), or nothing that can be compared here


def pinned_dask(text: str) -> str | None:
    """Return the version of distributed that `==` pins, directly or through dask.

    None without one, and for several, of which markers select one.
    """
    pins: dict[str, set[str]] = {"distributed": set(), "dask": set()}
    for _, line in logical_lines(text):
        if match := _PINNED_DASK.fullmatch(HASH_OPTION.sub("", line)):
            pins[match["name"]].add(match["version"])
    versions = pins["distributed"] or pins["dask"]
    return versions.pop() if len(versions) == 1 else None


def show_line(line: str) -> str:
    """Return a line for a message, without the user part of URLs."""
    return summarize_value(_USER.sub("…", line.strip()))


_Finding = tuple[str, str, Severity]


def _error(cause: str, advice: str) -> _Finding:
    return cause, advice, Severity.ERROR


def _check_line(line: str, variables: Collection[str]) -> Iterator[_Finding]:
    missing = [name for name in _VARIABLE.findall(line) if name not in variables]
    if missing:
        names = ", ".join(f"${{{name}}}" for name in missing)
        yield _error(f"the nodes do not have {names}", "Set it in environment.env.")
    elif not line.startswith("-"):
        yield from _check_requirement(_VARIABLE.sub("x", line))
    else:
        for option in parse_options(_VARIABLE.sub("x", line)):
            yield from _check_option(option)


def _check_option(option: Option) -> Iterator[_Finding]:
    name, value, is_valid = option
    if not is_valid and name in VALUED:
        yield _error(f"{name} needs a value", f"Write {name} VALUE.")
    elif not is_valid and name in FLAGS:
        yield _error(f"{name} takes no value", f"Write {name} alone.")
    elif not is_valid:
        hint = suggest(name, VALUED | FLAGS)
        yield _error(f"{name} is not an option of requirements files", hint or "Remove it.")
    elif name == "--editable":
        plain = translate_editable(value)
        if plain is None:
            yield _LOCAL_PACKAGE
        else:
            yield from _check_requirement(plain)
    elif name in ("--requirement", "--constraint", "--find-links", "--index-url"):
        if not value.startswith(("https://", "http://")):
            yield _LOCAL_FILE
    elif name == "--extra-index-url" and not value.startswith(("https://", "http://")):
        yield _LOCAL_FILE
    elif name in ("--no-binary", "--only-binary"):
        if problem := find_format_option_problem(name, value):
            yield _error(*problem)
    elif name in ("--prefer-binary", "--use-feature"):
        yield (
            f"uv does not support {name}",
            "It has no effect; remove it.",
            Severity.WARNING,
        )


def _check_requirement(line: str) -> Iterator[_Finding]:
    if problem := find_hash_problem(line):
        yield _error(*problem)
        return
    line = without_options(line)
    if option := re.search(r"\s(--?[A-Za-z][A-Za-z-]*)", line):
        name = option[1]
        if name in VALUED | FLAGS:
            yield _error(f"{name} follows a package", "Write it on a line of its own.")
        else:
            yield _error(f"uv does not support {name}", "Remove it.")
        return
    named = split_named_url(line)
    target, blank, marker = (named[1] if named else line).partition(" ")
    if "://" in target and not target.startswith("file:"):
        if blank and not marker.lstrip().startswith(";"):
            yield _error("its URL has a space", "Write %20 in place of it.")
        elif problems := list(_check_url(target, named[0] if named else None)):
            yield from problems
        else:
            yield from _check_pep_508(f"{named[0] if named else 'x'} {marker}")
    elif named or _LOCAL_PATH.match(target) or _ARCHIVE.search(target) or "/" in target:
        yield _LOCAL_PACKAGE
    else:
        yield from _check_pep_508(line)


def _check_url(url: str, name: str | None) -> Iterator[_Finding]:
    scheme = url.partition("://")[0].lower()
    kind, plus, transport = scheme.partition("+")
    if plus and kind == "git":
        if transport == "file":
            yield _LOCAL_PACKAGE
        elif transport not in ("https", "http", "ssh"):
            yield _error(f"uv does not support {scheme}:// URLs", _EXAMPLE)
        elif re.search(r"://[^/]*:(?![0-9]*/)[^/@]*/", url):
            yield _error(
                "its URL has a colon before the path", "Write git+ssh://git@HOST/OWNER/REPOSITORY."
            )
    elif plus or scheme not in ("https", "http"):
        yield _error(f"uv does not support {scheme}:// URLs", _EXAMPLE)
    elif not _ARCHIVE.search(url):
        yield _error("its URL does not name a package", "Write a URL that ends in .whl or .tar.gz.")
    elif found := find_file_name_problem(url, name):
        yield _error(*found)


def _check_pep_508(line: str) -> Iterator[_Finding]:
    # Part of every Dask installation; slow to import, and most specs name no packages.
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    try:
        requirement = Requirement(line)
        if not requirement.name[-1].isalnum():
            raise InvalidRequirement
        for specifier in requirement.specifier:
            if specifier.operator == "===":
                Version(specifier.version)
    except (InvalidRequirement, InvalidVersion):
        yield _error("it is not a valid requirement", _FORMAT)
