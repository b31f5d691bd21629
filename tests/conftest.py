"""Settings of all tests: examples of properties, the network guard, and figures for the log.

`pytest --hypothesis-profile=many` tries 10,000 examples of each property.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Generator, Iterator

import order
import pytest
from crash.forkserver import ForkServer, shared_server
from hypothesis import HealthCheck, settings
from network_guard import GUARD, NetworkGuard
from sdk import cache_service_models

from planapply.specfile import dashboard

# No deadline, and no limit for generating examples: a busy machine is not a defect.
for name, examples in {"few": 100, "many": 10_000}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("few")

# Background jobs of a shell ignore SIGINT, those of nohup SIGHUP, and their children would, too.
for number, handler in {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}.items():
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_configure(config: pytest.Config) -> None:
    """Cut this process off the network before any test or fixture starts a thread or process."""
    config.stash[GUARD] = NetworkGuard()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for several workers."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = order.deal(items, [item.nodeid for item in items], workers)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fail the test during which a process tried to leave this machine."""
    yield
    if attempts := item.config.stash[GUARD].attempts():
        pytest.fail(
            f"this test tried to connect beyond this machine: {', '.join(attempts)}", pytrace=False
        )


@pytest.fixture(scope="session", autouse=True)
def quick_sdk() -> None:
    """Let new AWS clients be quick to create."""
    cache_service_models()


@pytest.fixture(scope="session", autouse=True)
def bokeh() -> Iterator[None]:
    """Let this process count as one with bokeh, which no test needs: it slows down every scheduler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboard, "bokeh_version", lambda: "3.9.2")
        yield


@pytest.fixture(scope="session")
def fork_server() -> ForkServer:
    """A process that forks commands, for tests that need no fresh Python."""
    return shared_server()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of the simulator and of the killed commands, summed over all processes."""
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
