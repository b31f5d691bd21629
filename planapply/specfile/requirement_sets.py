"""Checks of requirements with each other, and of their hashes and file names, as uv makes them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from planapply.bootstrap.requirements import Line, parse_options, remove_config_settings

if TYPE_CHECKING:
    from packaging.specifiers import Specifier, SpecifierSet

HASH_OPTION = re.compile(r"\s--hash(?:=|\s+)(?P<hash>\S+)")
_URL_HASH = re.compile(r"#(?:[^#]*&)?(?P<algorithm>md5|sha256|sha384|sha512)=(?P<digest>[^&\s]*)")
_DIGITS = {"md5": 32, "sha256": 64, "sha384": 96, "sha512": 128, "blake2b": 64}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_PINNED = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^\]]*\]\s*)?===?\s*[^\s,;*]+\s*(;.*)?")

CauseAndAdvice = tuple[str, str]


def find_hash_problem(line: str) -> CauseAndAdvice | None:
    """Return what is wrong with the hashes of one requirement; None if nothing is."""
    for match in HASH_OPTION.finditer(line):
        algorithm, colon, digest = match["hash"].partition(":")
        if not colon or algorithm not in _DIGITS:
            return (
                f"its hash is not one that uv supports ({', '.join(_DIGITS)})",
                "Write --hash=sha256:DIGEST.",
            )
        if problem := _digest_problem(algorithm, digest):
            return problem
    if (fragment := _URL_HASH.search(line)) and (
        problem := _digest_problem(fragment["algorithm"], fragment["digest"])
    ):
        return problem
    if "git+" in line and HASH_OPTION.search(line):
        return (
            "uv cannot check the hash of a Git repository",
            "Name a commit in its place: @COMMIT.",
        )
    return None


def _digest_problem(algorithm: str, digest: str) -> CauseAndAdvice | None:
    expected = _DIGITS[algorithm]
    if re.fullmatch(rf"[0-9a-fA-F]{{{expected}}}", digest):
        return None
    return (
        f"its {algorithm} hash must have {expected} hexadecimal digits, not {len(digest)} characters"
        if len(digest) != expected
        else f"its {algorithm} hash has characters that are not hexadecimal digits",
        "Copy the whole hash.",
    )


def find_format_option_problem(name: str, value: str) -> CauseAndAdvice | None:
    """Return what is wrong with the packages of `--no-binary` or `--only-binary`; None if nothing is."""
    for package in value.split(","):
        if package not in (":all:", ":none:") and not _NAME.fullmatch(package):
            return (
                f"{name} names no package" if not package else f"{name} names an invalid package",
                f"Write {name} NAME, or {name} :all:.",
            )
    return None


def find_file_name_problem(url: str, name: str | None) -> CauseAndAdvice | None:
    """Return what is wrong with the name of a file at a URL, which is to be the package `name`."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

    file = unquote(re.split("[?#]", url, maxsplit=1)[0].rpartition("/")[2])
    if not file.lower().endswith(".whl"):
        is_sdist = file.lower().endswith((".tar.gz", ".zip"))
        return None if is_sdist else ("uv accepts no such archive", "Use a .whl, .tar.gz, or .zip.")
    try:
        package = parse_wheel_filename(file)[0]
    except InvalidWheelFilename:
        return (
            "its file has no valid name of a wheel",
            "Keep the name with which it was built: NAME-VERSION-py3-none-any.whl.",
        )
    if name is not None and canonicalize_name(name) != package:
        return f"its file is of another package ({package})", f"Write {package} @ URL."
    return None


def find_conflicts(lines: Iterable[Line]) -> Iterator[tuple[Line, str, str]]:
    """Yield the valid lines that uv refuses because of other lines, each with cause and advice."""
    lines = list(lines)
    options = [
        (line, o) for line in lines if line.text.startswith("-") for o in parse_options(line.text)
    ]
    indexes = [line for line, option in options if option.name == "--index-url"]
    for line in indexes[1:]:
        yield line, "--index-url is given twice", "Use --extra-index-url for the second one."
    requirements = [line for line in lines if not line.text.startswith("-")]
    if any(option.name == "--require-hashes" for _, option in options):
        for line in requirements:
            has_hash = HASH_OPTION.search(line.text) or _URL_HASH.search(line.text)
            if not has_hash:
                yield (
                    line,
                    "it has no hash, and --require-hashes is set",
                    "Add --hash=sha256:DIGEST.",
                )
            elif "://" not in line.text and not _PINNED.fullmatch(without_options(line.text)):
                yield (
                    line,
                    "it is not pinned with ==, and --require-hashes is set",
                    "Write NAME==VERSION.",
                )
    yield from _check_pins(requirements)


def without_options(text: str) -> str:
    """Return a requirement without the options behind it."""
    return HASH_OPTION.sub("", remove_config_settings(text)[0]).strip()


def _check_pins(lines: Iterable[Line]) -> Iterator[tuple[Line, str, str]]:
    """Yield each line after which no pinned version of its package meets all requirements so far."""
    candidates = [(line, without_options(line.text)) for line in lines]
    if not any("==" in text for _, text in candidates):
        return  # without the import, which is slow
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    specifiers: dict[str, SpecifierSet] = {}
    for line, text in candidates:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # reported elsewhere
        if requirement.marker is not None or requirement.url is not None:
            continue  # it may not apply, or has another version than it says
        name = canonicalize_name(requirement.name)
        combined = specifiers.get(name, SpecifierSet()) & requirement.specifier
        pins = [s.version for s in combined if s.operator in ("==", "===") and "*" not in s.version]
        if pins and not any(combined.contains(pin, prereleases=True) for pin in pins):
            before = specifiers.get(name)
            other = f"contradicts {requirement.name}{before}" if before else "contradicts itself"
            yield line, f"it {other}", "Keep one of them." if before else "Keep one version."
        elif name in _DASK and (cause := _compare_with_dask(name, combined, specifiers)):
            yield line, cause, "Pin both to one version."
        else:
            specifiers[name] = combined


_DASK = {"dask": "distributed", "distributed": "dask"}


def _compare_with_dask(
    name: str, own: "SpecifierSet", specifiers: Mapping[str, "SpecifierSet"]
) -> str:
    """Return why a pin of dask or distributed and that of the other one contradict: each needs its own release.

    A release is a year and a month; patches of only one of them exist.
    """
    other = _DASK[name]
    releases = _pinned_releases(specifiers.get(other, ()))
    for release in _pinned_releases(own).values():
        for version, needed in releases.items():
            if release != needed:
                return f"it contradicts {other}=={version}, which needs the same release of {name}"
    return ""


def _pinned_releases(specifiers: "Iterable[Specifier]") -> dict[str, tuple[int, ...]]:
    from packaging.version import Version

    return {
        found.version: Version(found.version).release[:2]
        for found in specifiers
        if found.operator == "==" and "*" not in found.version
    }
