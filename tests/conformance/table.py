"""Table of the suite's results for each provider, as in docs/providers.md.

`python tests/conformance/table.py` runs the suite, which takes a few minutes; with `--drivers` it
prints the table of Libcloud's drivers in docs/libcloud.md instead, without a run.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARKS = {"passed": "yes", "skipped": "-", "failed": "**no**"}


class Outcomes:
    """Pytest plug-in that records the result of each test with each provider."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, _, subject = report.nodeid.rpartition("::")[2].partition("[")
        row = self.found.setdefault(_promise(name), {})
        if report.when == "call" or report.outcome != "passed":
            row[subject.rstrip("]")] = MARKS[report.outcome]


def run_suite() -> tuple[int, str]:
    """Return pytest's exit code, and the table."""
    outcomes = Outcomes()
    arguments = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestWarning", str(HERE)]
    code = pytest.main(arguments, plugins=[outcomes])
    subjects = list(dict.fromkeys(s for row in outcomes.found.values() for s in row))
    rows = [
        [promise, *(row.get(s, "") for s in subjects)] for promise, row in outcomes.found.items()
    ]
    return int(code), markdown(["", *subjects], rows)


def list_promises() -> list[str]:
    """Return the tests of the suite, without running them."""
    texts = [path.read_text() for path in sorted(HERE.glob("test_*.py"))]
    return [_promise(name) for text in texts for name in re.findall(r"^def (test_\w+)", text, re.M)]


def _promise(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def drivers_table() -> str:
    """Return the table of drivers, from the drivers themselves."""
    from planapply_libcloud.drivers import DRIVER_TABLE
    from planapply_libcloud.drivers.full import FullDriver

    head = [
        "driver",
        "user data",
        "tags",
        "spot",
        "disk",
        "price",
        "firewall, console, tag changes",
    ]
    rows = []
    for driver in DRIVER_TABLE.values():
        room = f"{round(driver.user_data_limit / 1024)} KB"
        rows.append(
            [
                f"`{driver.name}`",
                room if driver.user_data else "-",
                "yes" if driver.has_tags else "in the name",
                _yes(driver.spot),
                _yes(driver.disk),
                driver.price_source or "-",
                _yes(isinstance(driver, FullDriver)),
                driver.tested_on,
            ]
        )
    return markdown([*head, "tested on"], rows)


def _yes(value: object) -> str:
    return "yes" if value else "-"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [list(head), *map(list, rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]]) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent)]
    if sys.argv[1:] == ["--drivers"]:
        print(drivers_table(), end="")
    else:
        code, table = run_suite()
        print(f"\n{table}", end="")
        sys.exit(code)
