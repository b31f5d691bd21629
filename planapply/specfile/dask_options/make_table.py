"""Generator of table.json: the options of distributed's Scheduler, Worker, and Nanny, by version.

    python planapply/specfile/dask_options/make_table.py WHEEL…

adds each wheel's version to the table. It reads source text, and imports nothing of distributed.
"""

import ast
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("table.json")
MODULES = {"Scheduler": "scheduler.py", "Worker": "worker.py", "Nanny": "nanny.py"}
_ANNOTATIONS = {"int": "int", "float": "float", "str": "str", "bool": "bool", "dict": "table"}
# distributed parses these itself, and accepts more than the annotation says, or less.
_PARSED = {
    "memory_limit": "memory",
    "nthreads": "count",
    **dict.fromkeys(("death_timeout", "heartbeat_interval", "idle_timeout"), "duration"),
    **dict.fromkeys(("lifetime", "lifetime_stagger", "profile_cycle_interval"), "duration"),
    **{"worker_ttl": "duration", "silence_logs": "any"},
    **dict.fromkeys(("port", "worker_port"), "ports"),
    **dict.fromkeys(("protocol", "preload", "preload_nanny"), "texts"),
    **dict.fromkeys(("host", "contact_address"), "hosts"),
    "interface": "interfaces",
    "dashboard_address": "addresses",
    "resources": "numbers",
    "config": "table",
    "env": "variables",
    **dict.fromkeys(("reconnect", "quiet"), "bool"),
}


def read_options(read: Callable[[str], str]) -> dict[str, dict[str, str]]:
    """Return the options of each class, and their kinds, from `read(file)` of one version's source."""
    server = _parameters(_constructor(read("core.py"), "Server"))
    classes: dict[str, dict[str, str]] = {}
    for name, file in MODULES.items():
        constructor = _constructor(read(file), name)
        own = _parameters(constructor)
        if constructor.args.kwarg is not None and name != "Nanny":
            own |= {k: v for k, v in server.items() if k not in own | _passed_on(constructor)}
        if name == "Scheduler":  # only workers take ranges
            own["port"] = "port"
        classes[name] = own
    # Nanny passes what it does not know to the worker.
    nanny, worker = classes["Nanny"], classes["Worker"]
    classes["Nanny"] = worker | {k: v for k, v in nanny.items() if v != "any" or k not in worker}
    return {name: dict(sorted(options.items())) for name, options in classes.items()}


def add_version(table: dict[str, Any], version: str, options: dict[str, dict[str, str]]) -> None:
    """Put one version's options into the table, which keeps equal ones once."""
    if options not in table["options"]:
        table["options"].append(options)
    table["versions"][version] = table["options"].index(options)
    table["versions"] = dict(sorted(table["versions"].items(), key=lambda pair: _key(pair[0])))


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _constructor(source: str, name: str) -> ast.FunctionDef:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return member
    raise ValueError(f"no {name}.__init__")


def _parameters(function: ast.FunctionDef) -> dict[str, str]:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {a.arg: _kind(a.arg, a.annotation) for a in arguments if a.arg != "self"}


def _kind(name: str, annotation: ast.expr | None) -> str:
    if name in _PARSED:
        return _PARSED[name]
    parts = ast.unparse(annotation).split(" | ") if annotation else []
    parts = [part.partition("[")[0] for part in parts if part != "None"]
    return _ANNOTATIONS.get(parts[0], "any") if len(parts) == 1 else "any"


def _passed_on(function: ast.FunctionDef) -> dict[str, str]:
    """Return the arguments that a constructor gives its base class beside `**kwargs`."""
    found: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and any(keyword.arg is None for keyword in node.keywords):
            found |= {keyword.arg: "" for keyword in node.keywords if keyword.arg}
    return found


def main(wheels: list[str]) -> None:
    """Add these wheels to the table."""
    table: dict[str, Any] = {"versions": {}, "options": []}
    if TABLE.exists():
        table = json.loads(TABLE.read_text(encoding="utf-8"))
    for version, wheel in sorted((_key(Path(w).name.split("-")[1]), w) for w in wheels):
        with zipfile.ZipFile(wheel) as archive:
            options = read_options(lambda name: archive.read(f"distributed/{name}").decode())
        add_version(table, ".".join(map(str, version)), options)
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
