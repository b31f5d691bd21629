"""What all tests share: how hard properties are tried, and what the log says at the end.

`pytest --hypothesis-profile=many` tries 10,000 examples of each property.
"""

import json
import signal
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and no limit to how long examples take to make: a busy machine is no defect.
for name, examples in {"few": 300, "many": 10_000}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("few")

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of the simulator and of the killed commands, summed over all processes."""
    total: dict[str, Counter[str]] = {"simulator": Counter(), "crash": Counter()}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key in total and report.when == "call":
                    total[key].update(json.loads(value))
    for key, statistics in total.items():
        if statistics:
            terminalreporter.section(key)
            terminalreporter.line(", ".join(f"{statistics[name]:,} {name}" for name in statistics))
