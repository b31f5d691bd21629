"""Repeating provider calls, reporting their failures, and bugs of plug-ins."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_provider import FakeCloud, FakeProvider
from simulator.simulated import SimClock

from planapply.fleet import ProviderClient, ProviderFailed, connect_provider
from planapply.model.base import Model
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import NodeConfig
from planapply.model.state import Choice, Resource
from planapply.provider import ErrorKind, LaunchRequest, Limits, Plugin

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny")
REQUEST = LaunchRequest(
    token="t",
    names=("cpu-0",),
    config=CONFIG,
    choice=Choice(),
    tags={"planapply:batch": "t"},
    boots=(),
)
RETRIED = [ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE]
ORIGIN = "the provider 'x' (x:PLUGIN of the package planapply-x)"


class Bench:
    """A fake cloud and its client."""

    def __init__(self, **options: Any) -> None:
        self.clock = SimClock(0)
        self.cloud = FakeCloud(self.clock, **options)
        self.client = ProviderClient(FakeProvider(self.cloud), self.clock)
        self.started = self.clock.monotonic()


@pytest.mark.parametrize("kind", [*RETRIED, ErrorKind.UNKNOWN])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("find", lambda client: client.find({})),
        ("terminate", lambda client: client.terminate(["vm-1"])),
        ("retag", lambda client: client.retag([], {"a": "b"}, [])),
        ("prepare", lambda client: client.prepare("g", Resource(kind="group"), {})),
        ("launch", lambda client: client.launch(REQUEST)),
    ],
)
def test_repeatable_calls_are_repeated(
    kind: ErrorKind, name: str, call: Callable[[ProviderClient], object]
) -> None:
    bench = Bench()
    bench.cloud.fail_next(name, kind, kind, done=kind is ErrorKind.UNKNOWN)
    call(bench.client)
    assert bench.cloud.calls[name] == 3
    assert bench.clock.monotonic() > bench.started


@pytest.mark.parametrize(
    "kind", [kind for kind in ErrorKind if kind not in (*RETRIED, ErrorKind.UNKNOWN)]
)
def test_other_errors_are_raised_immediately(kind: ErrorKind) -> None:
    bench = Bench()
    bench.cloud.fail_next("find", kind)
    with pytest.raises(ProviderFailed, match=f"find: {kind.value}") as raised:
        bench.client.find({})
    assert raised.value.error.kind is kind
    assert not raised.value.is_response_lost
    assert bench.cloud.calls["find"] == 1


def test_launch_without_tokens_is_not_repeated_after_a_lost_response() -> None:
    bench = Bench(limits=Limits(tokens=False))
    bench.cloud.fail_next("launch", ErrorKind.THROTTLED, ErrorKind.UNKNOWN, done=True)
    attempts: list[int] = []
    with pytest.raises(ProviderFailed) as raised:
        bench.client.launch(REQUEST, lambda: attempts.append(1))
    assert raised.value.error.kind is ErrorKind.UNKNOWN
    assert raised.value.is_response_lost
    assert len(attempts) == bench.cloud.calls["launch"] == 2


def test_lost_response_is_remembered_across_later_errors() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", ErrorKind.UNKNOWN, ErrorKind.QUOTA, done=True)
    with pytest.raises(ProviderFailed) as raised:
        bench.client.launch(REQUEST)
    assert raised.value.error.kind is ErrorKind.QUOTA
    assert raised.value.is_response_lost


def test_cleanup_reports_each_error_until_its_timeout() -> None:
    bench = Bench()
    bench.cloud.fail_next("cleanup", *[ErrorKind.UNAVAILABLE] * 100)
    errors: list[object] = []
    with pytest.raises(ProviderFailed, match="cleanup: unavailable"):
        bench.client.cleanup(Resource(kind="g", id="g-1"), timeout=60.0, on_error=errors.append)
    assert 30.0 < bench.clock.monotonic() - bench.started <= 60.0
    assert len(errors) == bench.cloud.calls["cleanup"]


class Minimal:
    """A provider without capabilities; its methods have a bug."""

    limits = Limits()

    def __init__(self) -> None:
        self.calls = 0

    def find(self, tags: object) -> Any:
        self.calls += 1
        raise RuntimeError("boom\nbang")


def test_missing_capabilities_have_neutral_results() -> None:
    client: Any = ProviderClient(Minimal(), SimClock(0))  # type: ignore[arg-type]
    assert client.required_resources("c", CONFIG) == client.find_resources({}) == {}
    assert client.check([CONFIG]) == client.notes([CONFIG]) == ()
    capabilities = [name for name in dir(client) if name.startswith(("can_", "has_"))]
    assert len(capabilities) == 11
    assert not any(getattr(client, name) for name in capabilities)


def test_bug_of_a_plugin_is_reported_and_not_repeated() -> None:
    provider = Minimal()
    client = ProviderClient(provider, SimClock(0), origin=ORIGIN)  # type: ignore[arg-type]
    with pytest.raises(ProviderFailed) as raised:
        client.find({})
    assert raised.value.error.kind is ErrorKind.PLUGIN_BUG
    assert str(raised.value) == (
        f"{ORIGIN} failed in `find`: RuntimeError: boom bang\n"
        "This is a bug in that package; please report it to its maintainers."
    )
    assert provider.calls == 1


def test_bug_of_an_own_plugin_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="boom"):
        ProviderClient(Minimal(), SimClock(0)).find({})  # type: ignore[arg-type]


class Settings(Model):
    """Settings with one key."""

    region: str


def test_invalid_settings_of_a_state_are_an_error() -> None:
    plugin = Plugin("x", "", Settings, connect=lambda settings: settings)
    with pytest.raises(PlanapplyError, match="invalid settings for the provider 'x': region: "):
        connect_provider(plugin, {"region": 1}, SimClock(0))
