"""Specs of every kind, for property tests: documents that are valid, and files that may be broken."""

import datetime
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from planapply.model.toml import format_key, format_value

LETTERS = "abcxyzABC"
NAMES = st.builds(
    "{}{}".format, st.sampled_from(LETTERS), st.text(f"{LETTERS}019", max_size=6)
).filter(lambda name: name != "scheduler")
WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
DURATIONS = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.integers(1, 500),
        st.sampled_from(["", " "]),
        st.sampled_from(["s", "min", "h", "d", "minutes"]),
    ),
    st.integers(1, 10**6),
    st.floats(0.001, 1e6),
)
SIZES = st.builds("{} {}".format, st.integers(2, 500), st.sampled_from(["GiB", "GB", "MiB", "TiB"]))
TAGS = st.dictionaries(WORDS.filter(lambda k: k != "Name" and ":" not in k), WORDS, max_size=3)
JSON = st.recursive(
    st.none().map(lambda _: True)
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
OWN_OPTIONS = {
    *("name", "security", "idle_timeout"),
    *("scheduler", "scheduler_ip", "scheduler_port", "scheduler_file"),
}
OPTIONS = st.dictionaries(WORDS.filter(lambda k: k not in OWN_OPTIONS), JSON, max_size=3)
# distributed's own classes take only options that they have.
_DASK_OPTIONS = {
    "port": st.integers(0, 65535),
    "host": st.sampled_from(["127.0.0.1", "::1", "localhost", "node-1.internal"]),
    "preload_argv": st.lists(WORDS, max_size=2),
    "plugins": JSON,
    "validate": st.booleans(),
}


def table(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Generate a table with any of these keys."""
    return st.fixed_dictionaries({}, optional=optional)


CLUSTERS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "provider": st.just("local"),
        "state": st.sampled_from(["s3://b/x.json", "gs://b/d/x.json", "x.json", "d/../x", "~/x"]),
        "security": st.sampled_from(["tls", "none"]),
        "idle_timeout": DURATIONS,
        "no_client_timeout": DURATIONS,
        "ttl": DURATIONS,
        "max_cost": st.floats(0.01, 1e6) | st.integers(1, 1000),
        "max_total_cost": st.floats(0.01, 1e6) | st.integers(1, 1000),
        "join_timeout": DURATIONS,
        "tags": TAGS,
        "protect": st.booleans(),
    },
)
IMAGES = st.sampled_from(["x", "daskdev/dask:2026.8.0-py3.12", f"r.io:5000/a@sha256:{'0' * 64}"])
_NAME_LISTS = st.lists(WORDS, min_size=1, max_size=3, unique=True)
_SIZED = table(size=WORDS | _NAME_LISTS)
_REQUIRED = table(
    cpus=st.integers(1, 64),
    memory=SIZES,
    gpus=st.integers(1, 8),
    arch=st.sampled_from(["x86_64", "arm64"]),
)
_PLACED = table(
    image=WORDS,
    zones=_NAME_LISTS,
    spot=st.sampled_from([True, False, "prefer"]),
    disk=SIZES,
    create=st.dictionaries(WORDS, JSON, max_size=2),
    tags=TAGS,
)
_COUNTED = st.fixed_dictionaries(
    {"count": st.integers(0, 30)},
    optional={
        "max_unavailable": st.integers(1, 30) | st.integers(1, 100).map("{}%".format),
    },
)
_ELASTIC = st.builds(
    lambda low, more: {"max": low + more} if low == 0 else {"min": low, "max": low + more},
    st.integers(0, 10),
    st.integers(0, 10),
)


def _run(*classes: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return the class and the options of a node, for one of these classes or another package's."""
    return st.one_of(
        table(**{"class": st.sampled_from(classes), "options": table(**_DASK_OPTIONS)}),
        st.fixed_dictionaries(
            {"class": st.just("mine.workers.Special")}, optional={"options": OPTIONS}
        ),
    )


_COMMANDS = st.lists(WORDS, max_size=3)


def _merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda tables: {k: v for t in tables for k, v in t.items()})


NODES = _merged(st.one_of(_SIZED, _REQUIRED), _PLACED)
ENVIRONMENTS = _merged(
    st.one_of(
        st.fixed_dictionaries(
            {"packages": st.lists(NAMES, min_size=1, max_size=3, unique=True)},
            optional={"python": st.sampled_from(["3.11", "3.12.4"])},
        ),
        table(docker=IMAGES),
    ),
    table(env=st.dictionaries(NAMES, WORDS, max_size=2), setup=_COMMANDS),
)
GROUPS = _merged(
    NODES,
    _run("distributed.Nanny", "distributed.Worker"),
    st.one_of(_COUNTED, _ELASTIC),
    table(processes=st.integers(1, 8), environment=ENVIRONMENTS),
)
_ADAPT = st.one_of(st.booleans(), table(target=DURATIONS, idle=DURATIONS))


def _adapted(groups: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Let at most one elastic group follow the load."""
    elastic = [name for name, group in groups.items() if "max" in group]
    if not elastic:
        return st.just(groups)
    return _ADAPT.map(lambda adapt: groups | {elastic[0]: {**groups[elastic[0]], "adapt": adapt}})


DOCUMENTS = st.fixed_dictionaries(
    {"cluster": CLUSTERS},
    optional={
        "provider": table(folder=WORDS.map(lambda word: f"/tmp/{word}")),
        "defaults": NODES,
        "environment": ENVIRONMENTS,
        "scheduler": _merged(NODES, _run("distributed.Scheduler")),
        "workers": st.dictionaries(NAMES, GROUPS, max_size=4).flatmap(_adapted),
    },
)
"""Documents that are valid specs of the provider `local`."""


@st.composite
def texts(draw: st.DrawFn, documents: st.SearchStrategy[dict[str, Any]] = DOCUMENTS) -> str:
    """Generate TOML for a document, in any of TOML's notations."""
    document = draw(documents)
    lines: list[str] = []
    _write(draw, document, "", lines)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(lines) + draw(st.sampled_from(["", end]))


def _write(draw: st.DrawFn, document: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    """Write pairs first, since a header starts another table."""
    later: list[tuple[str, Any]] = []
    for name, value in document.items():
        if (isinstance(value, Mapping) and draw(st.booleans())) or (
            _are_tables(value) and draw(st.booleans())
        ):
            later.append((name, value))
        else:
            _write_pair(draw, _key(draw, name), value, lines)
        lines.extend(draw(st.sampled_from([[], [], [""], ["  # [not.a] = { header"]])))
    for name, value in later:
        header = f"{prefix}{_key(draw, name)}"
        for table in value if isinstance(value, list) else [value]:
            brackets = "[[{}]]" if isinstance(value, list) else "[{}]"
            comment = draw(st.sampled_from(["", "  # = ["]))
            lines.append(
                brackets.format(draw(st.sampled_from(["{}", " {} "])).format(header)) + comment
            )
            _write(draw, table, f"{header}.", lines)


def _write_pair(draw: st.DrawFn, name: str, value: Any, lines: list[str]) -> None:
    if isinstance(value, Mapping) and value and draw(st.booleans()):
        for inner, item in value.items():
            _write_pair(
                draw, f"{name}{draw(st.sampled_from(['.', ' . ']))}{_key(draw, inner)}", item, lines
            )
    elif isinstance(value, list) and value and draw(st.booleans()):
        items = "".join(f"  {format_value(item)},  # ]\n" for item in value)
        lines.extend(f"{name} = [\n{items}]".split("\n"))
    elif isinstance(value, str) and draw(st.booleans()):
        escaped = f'"""\n{format_value(value)[1:-1]}"""'
        raw = f"'''\n{value}'''"
        is_raw = draw(st.booleans()) and "'" not in value and value.isprintable()
        lines.extend(f"{name} = {raw if is_raw else escaped}".split("\n"))
    else:
        lines.append(f"{name}{draw(st.sampled_from(['=', ' = ']))}{format_value(value)}")


def _key(draw: st.DrawFn, name: str) -> str:
    return draw(st.sampled_from([format_key(name), f'"{format_value(name)[1:-1]}"']))


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


JUNK = st.one_of(
    JSON,
    st.sampled_from(
        [
            *("", " ", "client", "5 foos", "-1 s", "1e999 d", "1e999 GiB", "\0", "a\nb", "x\x7f"),
            *(0, -1, 2**70, 1e300, float("inf"), float("nan"), [], {}, [[]], [{}], {"": {}}),
            *(datetime.date(2024, 1, 2), [datetime.time(1, 2)]),
        ]
    ),
)
KEYS = st.one_of(
    WORDS,
    st.sampled_from(
        [
            *(
                "",
                "name",
                "count",
                "min",
                "max",
                "adapt",
                "size",
                "cpus",
                "class",
                "cls",
                "options",
                "workers",
            ),
            *(
                "cluster",
                "provider",
                "packages",
                "docker",
                "python",
                "requirements",
                "nme",
                "[key]",
            ),
        ]
    ),
)


@st.composite
def broken_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Generate a valid document with some changes, which may leave it valid."""
    document = deepcopy(draw(DOCUMENTS))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = document
        while True:
            inner = [v for v in at.values() if isinstance(v, dict)]
            if not inner or draw(st.booleans()):
                break
            at = draw(st.sampled_from(inner))
        known = draw(st.sampled_from(sorted(at))) if at and draw(st.booleans()) else draw(KEYS)
        if draw(st.integers(0, 3)) == 0:
            at.pop(known, None)
        else:
            at[known] = deepcopy(draw(JUNK))
    return document


@st.composite
def broken_texts(draw: st.DrawFn) -> str:
    """Generate a file that may be a valid spec, an invalid one, or not TOML."""
    text = draw(texts(st.one_of(DOCUMENTS, broken_documents())))
    for _ in range(draw(st.integers(0, 2))):
        start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 9))
        noise = draw(st.one_of(st.text("[]{}\"=.#\n\r'a1, \t", max_size=4), st.text(max_size=3)))
        text = text[:start] + noise + text[start + length :]
    return text


OVERRIDES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "workers.cpu.count=3",
                'cluster.name="other"',
                "cluster.name=other",
                "cluster.tags.x=1",
                "workers={}",
                "cluster=1",
                "defaults.spot=true",
            ]
        ),
        st.builds("{}={}".format, KEYS.map(format_key), JUNK.map(format_value)),
        st.text(max_size=10),
    ),
    max_size=2,
)
"""Options for `--set`, valid and invalid."""
