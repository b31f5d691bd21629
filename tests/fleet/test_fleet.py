"""What the fleet does with a cloud that misbehaves, each behaviour once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fake_provider import FakeCloud, FakeProvider
from simulator.simulated import Fuse, SimClock, SimStore

from planapply.fleet import Fleet, Journal, Wanted
from planapply.model.diagnostics import PlanapplyError
from planapply.model.event import Event
from planapply.model.node import NodeConfig
from planapply.model.state import Choice, NodeRecord, Resource, State
from planapply.provider import ErrorKind, Limits, ProviderError
from planapply.store import LockInfo

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny")
ALL = [f"cpu-{i}" for i in range(5)]


class Bench:
    """A fleet on a fake cloud, with everything visible."""

    def __init__(self, **cloud: Any) -> None:
        self.clock = SimClock(0)
        self.cloud = FakeCloud(self.clock, **cloud)
        self.store = SimStore(Fuse())
        self.events: list[Event] = []
        self.fleet = self.restart()

    def restart(self) -> Fleet:
        state = self.store.read() or State(lineage="l", cluster="c", provider="fake")
        self.fleet = Fleet(
            FakeProvider(self.cloud),
            Journal(self.store, state),
            self.clock,  # type: ignore[arg-type]
            tell=self.events.append,
            parallel=0,
        )
        return self.fleet

    def launch(self, names: list[str] = ALL, config: NodeConfig = CONFIG) -> dict[str, Any]:
        return dict(self.fleet.launch([Wanted(name, config, "tcp://s:1") for name in names]))

    @property
    def state(self) -> State:
        state = self.store.read()
        assert state is not None
        return state


def kinds(outcomes: dict[str, Any]) -> dict[str, str]:
    return {
        name: "ok" if isinstance(outcome, NodeRecord) else str(outcome.kind)
        for name, outcome in outcomes.items()
    }


def test_a_batch_is_one_intent_one_call_and_two_writes() -> None:
    bench = Bench()
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert (bench.cloud.calls["launch"], bench.fleet.journal.writes) == (1, 2)
    assert bench.state.nodes.keys() == set(ALL)
    assert not bench.state.intents
    vm = bench.cloud.alive()[3]
    assert vm.tags == {
        "Name": "c cpu",
        "planapply:batch": bench.state.nodes["cpu-3"].batch,
        "planapply:cluster": "c",
        "planapply:config": CONFIG.digest,
        "planapply:group": "cpu",
        "planapply:lineage": "l",
        "planapply:names": "cpu-[0..4]",
    }


def test_the_intent_is_durable_before_the_provider_is_asked() -> None:
    bench = Bench()
    seen: list[list[str]] = []
    launch = bench.cloud.launch
    bench.cloud.launch = lambda request: (  # type: ignore[method-assign]
        seen.append([n for i in bench.state.intents.values() for n in i.names]) or launch(request)
    )
    bench.launch()
    assert seen == [ALL]


def test_capacity_goes_on_elsewhere_and_keeps_what_it_got() -> None:
    bench = Bench(room={"big": 2})
    outcomes = bench.launch(config=CONFIG.model_copy(update={"size": ("big", "small")}))
    assert set(kinds(outcomes).values()) == {"ok"}
    assert sorted(r.size for r in bench.state.nodes.values()) == ["big"] * 2 + ["small"] * 3
    assert len({record.batch for record in bench.state.nodes.values()}) == 2


def test_no_capacity_anywhere_is_told_for_those_that_are_missing() -> None:
    bench = Bench(room={"big": 2})
    outcomes = bench.launch(config=CONFIG.model_copy(update={"size": ("big",)}))
    assert sorted(kinds(outcomes).values()) == ["capacity"] * 3 + ["ok"] * 2
    assert len(bench.state.nodes) == 2
    assert not bench.state.intents


@pytest.mark.parametrize("kind", [ErrorKind.UNAUTHORIZED, ErrorKind.REJECTED])
def test_what_the_user_must_mend_is_told_at_once(kind: ErrorKind) -> None:
    bench = Bench(choices=[Choice(zone="a"), Choice(zone="b")])
    bench.cloud.fail("launch", kind)
    assert set(kinds(bench.launch()).values()) == {kind}
    assert bench.cloud.calls["launch"] == 1
    assert not bench.state.intents


def test_quota_of_one_choice_leaves_the_others() -> None:
    bench = Bench(choices=[Choice(spot=True), Choice(spot=False)])
    bench.cloud.fail("launch", ErrorKind.QUOTA)
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert not any(record.spot for record in bench.state.nodes.values())


def test_throttling_is_waited_out_with_the_same_token() -> None:
    bench = Bench()
    bench.cloud.fail("launch", *[ErrorKind.THROTTLED] * 4)
    start = bench.clock.time()
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert bench.cloud.calls["launch"] == 5
    assert 2.0 < bench.clock.time() - start < 20.0


def test_patience_ends() -> None:
    bench = Bench()
    bench.cloud.fail("launch", *[ErrorKind.UNAVAILABLE] * 100)
    assert set(kinds(bench.launch()).values()) == {"unavailable"}
    assert not bench.state.intents


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("done", [True, False])
def test_a_lost_answer_makes_none_twice(tokens: bool, done: bool) -> None:
    bench = Bench(limits=Limits(batch=10, settle=30.0, tokens=tokens))
    bench.cloud.fail("launch", ErrorKind.UNKNOWN, done=done)
    assert set(kinds(bench.launch()).values()) == {"ok"}
    assert len(bench.cloud.machines) == 5


def test_an_unknown_outcome_stays_open_and_the_next_run_settles_it() -> None:
    bench = Bench()
    bench.cloud.fail("launch", *[ErrorKind.UNKNOWN] * 50, done=True)
    bench.cloud.fail("find", *[ErrorKind.UNKNOWN] * 50)
    assert set(kinds(bench.launch()).values()) == {"unknown"}
    assert len(bench.state.intents) == 1
    bench.cloud._script.clear()
    bench.restart().settle(dict.fromkeys(ALL, CONFIG.digest))
    assert bench.state.nodes.keys() == set(ALL)
    assert not bench.state.intents
    assert len(bench.cloud.machines) == 5


def test_a_request_that_is_not_wanted_any_more_is_not_asked_again() -> None:
    bench = Bench()
    bench.cloud.fail("launch", *[ErrorKind.UNKNOWN] * 50)
    bench.cloud.fail("find", *[ErrorKind.UNKNOWN] * 50)
    bench.launch()
    bench.cloud._script.clear()
    calls = bench.cloud.calls["launch"]
    bench.restart().settle({})
    assert bench.cloud.calls["launch"] == calls
    assert not bench.state.intents


def test_terminate_waits_for_the_end_and_forgets() -> None:
    bench = Bench()
    bench.launch()
    bench.cloud.faults = replace(bench.cloud.faults, slow_end=40.0)
    bench.clock.sleep(100.0)
    bench.fleet.terminate(ALL[:3])
    assert bench.state.nodes.keys() == set(ALL[3:])
    assert len(bench.cloud.alive()) == 2
    assert bench.state.configs.keys() == {CONFIG.digest}
    bench.fleet.terminate(ALL[3:])
    assert not bench.state.configs


def test_one_that_is_too_young_to_be_known_is_ended_when_it_shows() -> None:
    bench = Bench(limits=Limits(settle=30.0))
    bench.launch()
    bench.cloud.faults = replace(bench.cloud.faults, lag=25.0)
    bench.fleet.terminate(ALL)
    assert bench.cloud.alive() == []
    assert bench.state.nodes == {}


def test_resources_are_recorded_before_they_are_made_and_found_again() -> None:
    bench = Bench(wanted={"group": Resource(kind="security group")})
    bench.cloud.fail("prepare", ErrorKind.UNKNOWN, done=True)
    bench.fleet.prepare(bench.cloud.wanted, {"team": "bio"})
    assert list(bench.state.resources) == ["group"]
    assert len(bench.cloud.resources) == 1
    _, _, tags = next(iter(bench.cloud.resources.values()))
    assert tags == {"team": "bio", "planapply:cluster": "c", "planapply:lineage": "l"}
    bench.fleet.cleanup()
    assert not bench.state.resources
    assert not bench.cloud.resources


def test_cleanup_finds_what_was_made_although_its_answer_was_lost() -> None:
    bench = Bench(wanted={"group": Resource(kind="security group")})
    bench.cloud.fail("prepare", ErrorKind.UNKNOWN, ErrorKind.UNAUTHORIZED, done=True)
    with pytest.raises(ProviderError):
        bench.fleet.prepare(bench.cloud.wanted, {})
    assert bench.state.resources["group"].id is None
    bench.restart().cleanup()
    assert not bench.cloud.resources


class BrokenStore(SimStore):
    """Its next writes fail."""

    def write(self, state: State) -> None:
        raise PlanapplyError("somebody else wrote the state")

    @contextmanager
    def lock(self, purpose: str, timeout: float = 0.0, **_: Any) -> Iterator[LockInfo]:
        yield LockInfo.of_this_process("0", purpose)


def test_who_lost_the_state_asks_the_provider_for_nothing_more() -> None:
    bench = Bench()
    bench.fleet.journal._store = BrokenStore(Fuse())
    for _ in range(2):
        with pytest.raises(PlanapplyError, match="somebody else"):
            bench.launch()
    assert bench.cloud.calls.total() == 0


def test_names_that_need_a_long_tag_are_split_over_batches() -> None:
    bench = Bench(limits=Limits(batch=100))
    names = [f"cpu-{i}" for i in range(0, 200, 2)]
    bench.launch(names)
    assert bench.cloud.calls["launch"] > 1
    assert {vm.name for vm in bench.cloud.alive()} == set(names)
    assert max(len(vm.tags["planapply:names"]) for vm in bench.cloud.alive()) <= 255
