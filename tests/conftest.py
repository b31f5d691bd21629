"""What all tests share: how hard properties are tried, and what the log says at the end.

`pytest --hypothesis-profile=many` tries 10,000 examples of each property.
"""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no defect.
settings.register_profile("few", max_examples=300, deadline=None)
settings.register_profile(
    "many", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("few")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The simulator's figures, summed over all processes that ran its tests."""
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "simulator" and report.when == "call":
                    total.update(json.loads(value))
    if total:
        terminalreporter.section("simulator")
        terminalreporter.line(", ".join(f"{total[key]:,} {key}" for key in total))
