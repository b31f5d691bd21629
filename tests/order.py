"""The order of the tests for several workers, slow ones first, and how many of a kind there are.

`--dist worksteal` gives each worker an equal, contiguous part of the collected tests, and lets a worker
that is done steal from the end of another's. So each part begins with its share of the slow tests.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import pytest


class Row(NamedTuple):
    """About how long a test takes whose node ID matches a pattern."""

    pattern: str
    seconds: float
    unit: str = ""
    """Tests with the same unit share an expensive fixture and stay on one worker."""


SLOW = (
    Row("tests/integrations/test_prefect.py*", 80),
    Row("tests/integrations/test_dagster.py*", 30),
    Row("tests/integrations/*", 20),
    Row("tests/test_ci_examples.py*", 10),
    Row("tests/lab/test_end_to_end.py*", 20, "end to end"),
    Row("tests/lab/test_watch.py*", 12, "watch"),
    Row("tests/lab/test_machines.py*", 15),
    Row("tests/ec2/test_machines.py*ttl*", 70),
    Row("tests/ec2/test_machines.py*idle*", 60),
    Row("tests/ec2/test_machines.py*", 40),
    Row("tests/libcloud/test_nova.py*", 6, "nova"),
    Row("tests/libcloud/test_kill.py*", 6, "nova"),
    Row("tests/conformance/*openstack*", 4, "nova"),
    Row("tests/crash/test_races.py*", 25),
    Row("tests/crash/test_crash.py*local*", 12, "crash local"),
    Row("tests/crash/test_crash.py*ec2*", 8, "crash ec2"),
    Row("tests/crash/test_crash.py*libcloud*", 8, "crash libcloud"),
    Row("tests/crash/test_signals*", 8),
    Row("tests/crash/test_recover.py*", 8),
    Row("tests/cluster/test_processes.py*", 6, "processes"),
    Row("tests/cli/test_local.py*", 12),
    Row("tests/store/*twenty*", 10),
    Row("tests/simulator/*random*", 8),
    Row("tests/simulator/*watchers*", 4),
    Row("tests/test_packaging.py*", 3, "packaging"),
    Row("tests/test_*properties.py*", 4),
    Row("tests/conformance/*ec2*", 2),
    Row("tests/compat/*", 4),
    Row("tests/cli/test_cost.py*", 6),
    Row("tests/cli/test_signals.py*", 1.5),
    Row("tests/cli/test_terminal.py*", 1),
    Row("tests/cli/test_bad_input.py*", 1),
    Row("tests/cli/test_recover.py*", 1),
    Row("tests/local/test_lifecycle.py*", 3),
    Row("tests/local/*", 1),
)
"""On two idle cores; only the proportions matter. `pytest --durations=0` shows what has changed."""
REST = Row("*", 0.1)

T = TypeVar("T")


def deal(items: Sequence[T], ids: Sequence[str], workers: int) -> list[T]:
    """Return the items in an order whose `workers` equal parts take about as long, slowest first."""
    slow: dict[str, list[T]] = {}
    seconds: dict[str, float] = {}
    rest: list[T] = []
    for item, node_id in zip(items, ids, strict=True):
        row = next((row for row in SLOW if fnmatchcase(node_id, row.pattern)), REST)
        if row is REST:
            rest.append(item)
            continue
        unit = row.unit or node_id
        slow.setdefault(unit, []).append(item)
        seconds[unit] = seconds.get(unit, 0.0) + row.seconds
    sizes = [len(items) // workers + (n >= workers - len(items) % workers) for n in range(workers)]
    parts: list[list[T]] = [[] for _ in range(workers)]
    load = [0.0] * workers
    for unit in sorted(slow, key=lambda unit: -seconds[unit]):
        fits = [n for n in range(workers) if len(parts[n]) + len(slow[unit]) <= sizes[n]]
        if not fits:
            rest = [*slow[unit], *rest]
            continue
        part = min(fits, key=lambda n: load[n])
        parts[part] += slow[unit]
        load[part] += seconds[unit]
    for part, size in zip(parts, sizes, strict=True):
        missing = size - len(part)
        part += rest[:missing]
        del rest[:missing]
    return [item for part in parts for item in part]


def few(values: Iterable[Any], count: int) -> list[Any]:
    """Return a test's parameters, of which only the first `count` run without `make soak`."""
    return [
        value
        if number < count
        else pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.soak
        )
        for number, value in enumerate(values)
    ]
