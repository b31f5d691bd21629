"""Launching and terminating on a cloud that misbehaves, each behavior once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fake_provider import FakeCloud, FakeProvider
from simulator.simulated import CrashPoints, SimClock, SimStore

from planapply.fleet import Fleet, Journal, LaunchSpec, ProviderClient, ProviderFailed
from planapply.fleet.request import avoid_choice
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.node import Environment, NodeConfig
from planapply.model.state import Choice, NodeRecord, Resource, State
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Limits
from planapply.store import LockInfo

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny")
ALL = [f"cpu-{i}" for i in range(5)]


class Bench:
    """A fleet on a fake cloud, whose parts the tests can see."""

    def __init__(self, **cloud: Any) -> None:
        self.clock = SimClock(0)
        self.cloud = FakeCloud(self.clock, **cloud)
        self.store = SimStore(CrashPoints())
        self.events: list[Event] = []
        self.fleet = self.restart()

    def restart(self) -> Fleet:
        state = self.store.read() or State(lineage="l", cluster="c", provider="fake")
        self.fleet = Fleet(
            ProviderClient(FakeProvider(self.cloud), self.clock),
            Journal(self.store, state),
            on_event=self.events.append,
            parallel=0,
        )
        return self.fleet

    def launch(self, names: list[str] = ALL, config: NodeConfig = CONFIG) -> dict[str, Any]:
        return dict(self.fleet.launch([LaunchSpec(name, config, "tcp://s:1") for name in names]))

    @property
    def state(self) -> State:
        state = self.store.read()
        assert state is not None
        return state


def test_reclaimed_choice_is_tried_last_in_its_market() -> None:
    zones = [Choice(zone=zone, spot=spot) for spot in (True, False) for zone in "ab"]
    bench = Bench(choices=zones)
    bench.fleet.avoided = {"cpu-1": Choice(zone="a", spot=True)}
    outcomes = bench.launch(["cpu-0", "cpu-1"])
    assert {name: outcomes[name].choice for name in outcomes} == {
        "cpu-0": Choice(zone="a", spot=True),
        "cpu-1": Choice(zone="b", spot=True),
    }
    assert avoid_choice(zones[:1], zones, zones[0]) == [zones[1], zones[0], *zones[2:]]
    assert avoid_choice(zones[2:], zones[2:], zones[0]) == zones[2:]


def test_vm_that_ends_while_it_is_launched_is_an_error() -> None:
    bench = Bench()
    launch = bench.cloud.launch

    def launch_ending(request: LaunchRequest) -> LaunchResult:
        first, *rest = launch(request).vms
        bench.cloud.end_vm(first.id)
        return LaunchResult((first.model_copy(update={"status": "stopping"}), *rest))

    bench.cloud.launch = launch_ending  # type: ignore[method-assign]
    assert kinds(bench.launch(["cpu-0", "cpu-1"])) == {"cpu-0": "capacity", "cpu-1": "ok"}
    assert bench.state.nodes.keys() == {"cpu-1"}
    assert not bench.state.intents


def kinds(outcomes: dict[str, Any]) -> dict[str, str]:
    return {
        name: "ok" if isinstance(outcome, NodeRecord) else str(outcome.kind)
        for name, outcome in outcomes.items()
    }


def test_batch_is_one_intent_one_call_and_two_writes() -> None:
    bench = Bench()
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert (bench.cloud.calls["launch"], bench.fleet.journal.writes) == (1, 2)
    assert bench.state.nodes.keys() == set(ALL)
    assert not bench.state.intents
    vm = bench.cloud.live_vms()[3]
    assert vm.tags == {
        "Name": "c cpu",
        "planapply:batch": bench.state.nodes["cpu-3"].batch,
        "planapply:cluster": "c",
        "planapply:config": CONFIG.digest,
        "planapply:group": "cpu",
        "planapply:lineage": "l",
        "planapply:names": "cpu-[0..4]",
    }


def test_intent_is_written_before_the_call() -> None:
    bench = Bench()
    seen: list[list[str]] = []
    launch = bench.cloud.launch
    bench.cloud.launch = lambda request: (  # type: ignore[method-assign]
        seen.append([n for i in bench.state.intents.values() for n in i.names]) or launch(request)
    )
    bench.launch()
    assert seen == [ALL]


def test_partial_capacity_is_kept_and_the_rest_tries_the_next_choice() -> None:
    bench = Bench(capacity={"big": 2})
    outcomes = bench.launch(config=CONFIG.model_copy(update={"size": ("big", "small")}))
    assert set(kinds(outcomes).values()) == {"ok"}
    assert sorted(r.size for r in bench.state.nodes.values()) == ["big"] * 2 + ["small"] * 3
    assert len({record.batch for record in bench.state.nodes.values()}) == 2


def test_missing_capacity_is_reported_for_the_missing_nodes() -> None:
    bench = Bench(capacity={"big": 2})
    outcomes = bench.launch(config=CONFIG.model_copy(update={"size": ("big",)}))
    assert sorted(kinds(outcomes).values()) == ["capacity"] * 3 + ["ok"] * 2
    assert len(bench.state.nodes) == 2
    assert not bench.state.intents


@pytest.mark.parametrize("kind", [ErrorKind.UNAUTHORIZED, ErrorKind.REJECTED])
def test_errors_to_be_fixed_by_the_user_are_reported_at_once(kind: ErrorKind) -> None:
    bench = Bench(choices=[Choice(zone="a"), Choice(zone="b")])
    bench.cloud.fail_next("launch", kind)
    assert set(kinds(bench.launch()).values()) == {kind}
    assert bench.cloud.calls["launch"] == 1
    assert not bench.state.intents


def test_quota_error_tries_the_next_choice() -> None:
    bench = Bench(choices=[Choice(spot=True), Choice(spot=False)])
    bench.cloud.fail_next("launch", ErrorKind.QUOTA)
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert not any(record.spot for record in bench.state.nodes.values())


def test_throttling_is_retried_with_the_same_token() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.THROTTLED] * 4)
    start = bench.clock.time()
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert bench.cloud.calls["launch"] == 5
    assert 2.0 < bench.clock.time() - start < 20.0


def test_retries_are_limited() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.UNAVAILABLE] * 100)
    assert set(kinds(bench.launch()).values()) == {"unavailable"}
    assert not bench.state.intents


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("done", [True, False])
def test_lost_response_launches_nothing_twice(tokens: bool, done: bool) -> None:
    bench = Bench(limits=Limits(batch=10, consistency_delay=30.0, tokens=tokens))
    bench.cloud.fail_next("launch", ErrorKind.UNKNOWN, done=done)
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert len(bench.cloud.machines) == 5


def test_unknown_outcome_is_resolved_by_the_next_run() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.UNKNOWN] * 50, done=True)
    bench.cloud.fail_next("find", *[ErrorKind.UNKNOWN] * 50)
    assert set(kinds(bench.launch()).values()) == {"unknown"}
    assert len(bench.state.intents) == 1
    bench.cloud._script.clear()
    bench.restart().resolve_intents(dict.fromkeys(ALL, CONFIG.digest))
    assert bench.state.nodes.keys() == set(ALL)
    assert not bench.state.intents
    assert len(bench.cloud.machines) == 5


def test_unneeded_intent_is_not_retried() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.UNKNOWN] * 50)
    bench.cloud.fail_next("find", *[ErrorKind.UNKNOWN] * 50)
    bench.launch()
    bench.cloud._script.clear()
    calls = bench.cloud.calls["launch"]
    bench.restart().resolve_intents({})
    assert bench.cloud.calls["launch"] == calls
    assert not bench.state.intents


def test_terminate_waits_and_drops_the_nodes() -> None:
    bench = Bench()
    bench.launch()
    bench.cloud.faults = replace(bench.cloud.faults, termination_delay=40.0)
    bench.clock.sleep(100.0)
    bench.fleet.terminate(ALL[:3])
    assert bench.state.nodes.keys() == set(ALL[3:])
    assert len(bench.cloud.live_vms()) == 2
    assert bench.state.configs.keys() == {CONFIG.digest}
    bench.fleet.terminate(ALL[3:])
    assert not bench.state.configs


def test_invisible_new_vm_is_terminated_once_visible() -> None:
    bench = Bench(limits=Limits(consistency_delay=30.0))
    bench.launch()
    bench.cloud.faults = replace(bench.cloud.faults, lag=25.0)
    bench.fleet.terminate(ALL)
    assert bench.cloud.live_vms() == []
    assert bench.state.nodes == {}


def test_resources_are_recorded_before_creation_and_found_again() -> None:
    bench = Bench(required_resources={"group": Resource(kind="security group")})
    bench.cloud.fail_next("prepare", ErrorKind.UNKNOWN, done=True)
    bench.fleet.prepare(bench.cloud.required_resources, {"team": "bio"})
    assert list(bench.state.resources) == ["group"]
    assert len(bench.cloud.resources) == 1
    _, _, tags = next(iter(bench.cloud.resources.values()))
    assert tags == {"team": "bio", "planapply:cluster": "c", "planapply:lineage": "l"}
    bench.fleet.cleanup()
    assert not bench.state.resources
    assert not bench.cloud.resources


def test_cleanup_finds_resources_of_a_lost_response() -> None:
    bench = Bench(required_resources={"group": Resource(kind="security group")})
    bench.cloud.fail_next("prepare", ErrorKind.UNKNOWN, ErrorKind.UNAUTHORIZED, done=True)
    with pytest.raises(ProviderFailed):
        bench.fleet.prepare(bench.cloud.required_resources, {})
    assert bench.state.resources["group"].id is None
    bench.restart().cleanup()
    assert not bench.cloud.resources


class BrokenStore(SimStore):
    """A store whose writes fail."""

    def write(self, state: State) -> None:
        raise PlanapplyError("another process wrote the state")

    @contextmanager
    def lock(self, purpose: str, timeout: float = 0.0, **_: Any) -> Iterator[LockInfo]:
        yield LockInfo.of_this_process("0", purpose)


def test_lost_state_stops_provider_calls() -> None:
    bench = Bench()
    bench.fleet.journal._store = BrokenStore(CrashPoints())
    for _ in range(2):
        with pytest.raises(PlanapplyError, match="another process"):
            bench.launch()
    assert bench.cloud.calls.total() == 0


def test_names_too_long_for_one_tag_are_split_into_batches() -> None:
    bench = Bench(limits=Limits(batch=100))
    names = [f"cpu-{i}" for i in range(0, 200, 2)]
    bench.launch(names)
    assert bench.cloud.calls["launch"] > 1
    assert {vm.name for vm in bench.cloud.live_vms()} == set(names)
    assert max(len(vm.tags["planapply:names"]) for vm in bench.cloud.live_vms()) <= 255


def open_intent(bench: Bench) -> None:
    """Leave an intent whose VMs exist, as a process that died after the call did."""
    bench.cloud.fail_next("launch", *[ErrorKind.UNKNOWN] * 50, done=True)
    bench.cloud.fail_next("find", *[ErrorKind.UNKNOWN] * 50)
    bench.launch()
    bench.cloud._script.clear()


def test_spent_token_is_no_proof_that_nothing_was_launched() -> None:
    """After an upgrade the same intent makes another request, which the cloud refuses."""
    bench = Bench(limits=Limits(batch=10, consistency_delay=30.0))
    open_intent(bench)
    visible, start = bench.cloud.visible_machines, bench.clock.time()
    bench.cloud.visible_machines = lambda: (  # type: ignore[method-assign]
        visible() if bench.clock.time() - start > 20.0 else []
    )
    bench.cloud.fail_next("launch", ErrorKind.TOKEN_SPENT)
    bench.restart().resolve_intents(dict.fromkeys(ALL, CONFIG.digest))
    assert bench.state.nodes.keys() == set(ALL)
    assert len(bench.cloud.machines) == 5


def test_vm_that_only_carries_the_batch_tag_is_neither_adopted_nor_terminated() -> None:
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.UNKNOWN] * 50)
    bench.cloud.fail_next("find", *[ErrorKind.UNKNOWN] * 50)
    bench.launch()
    bench.cloud._script.clear()
    (token,) = bench.state.intents
    spoofed = bench.cloud.spoof(planapply_batch=token, planapply_names="cpu-0")
    bench.restart().resolve_intents({})
    assert bench.state.nodes == {}
    assert [vm.id for vm in bench.cloud.live_vms()] == [spoofed.id]


def test_request_is_not_repeated_while_a_resource_is_missing() -> None:
    """Without the security group, the VMs would get another one."""
    bench = Bench()
    open_intent(bench)
    bench.fleet.journal._state.resources["group"] = Resource(kind="security group")
    calls = bench.cloud.calls["launch"]
    bench.fleet.resolve_intents(dict.fromkeys(ALL, CONFIG.digest))
    assert bench.cloud.calls["launch"] == calls
    assert bench.state.nodes.keys() == set(ALL)


def test_token_is_recorded_before_the_request() -> None:
    bench = Bench()
    issued: list[bool] = []
    launch = bench.cloud.launch
    bench.cloud.launch = lambda request: (  # type: ignore[method-assign]
        issued.append(request.token in bench.state.issued) or launch(request)
    )
    bench.launch()
    assert issued == [True]


SECRET_CONFIG = CONFIG.model_copy(
    update={"environment": Environment(env={"TOKEN": "env:FLEET_SECRET"})}
)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("value", ["same", "another", None])
def test_open_request_with_a_secret(
    monkeypatch: pytest.MonkeyPatch, value: str | None, done: bool
) -> None:
    """It is repeated only with the same value; otherwise its VMs are adopted if they exist."""
    monkeypatch.setenv("FLEET_SECRET", "same")
    bench = Bench()
    bench.cloud.fail_next("launch", *[ErrorKind.UNKNOWN] * 50, done=done)
    bench.cloud.fail_next("find", *[ErrorKind.UNKNOWN] * 50)
    bench.launch(config=SECRET_CONFIG)
    bench.cloud._script.clear()
    (intent,) = bench.state.intents.values()
    assert intent.secrets.keys() == {"TOKEN"}
    assert "same" not in intent.secrets.values()
    calls = bench.cloud.calls["launch"]
    if value is None:
        monkeypatch.delenv("FLEET_SECRET")
    else:
        monkeypatch.setenv("FLEET_SECRET", value)
    bench.restart().resolve_intents(dict.fromkeys(ALL, SECRET_CONFIG.digest))
    repeated = value == "same" and not done
    assert bench.cloud.calls["launch"] - calls == repeated
    assert bench.state.nodes.keys() == (set(ALL) if done or repeated else set())
    assert all(record.secrets == intent.secrets for record in bench.state.nodes.values())
    assert not bench.state.intents
    assert len(bench.cloud.machines) == len(bench.state.nodes)


def test_launch_without_a_secret_writes_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_SECRET", raising=False)
    bench = Bench()
    assert set(kinds(bench.launch(config=SECRET_CONFIG)).values()) == {"rejected"}
    assert (bench.cloud.calls["launch"], bench.fleet.journal.writes) == (0, 0)
