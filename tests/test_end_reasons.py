"""Why VMs have ended: the lines on the console, the record in the state, and the calls that it takes."""

import pytest
from fake_provider import FakeCloud, FakeProvider

from planapply.bootstrap import find_end_reason
from planapply.diff import RefreshResult, refresh
from planapply.fleet import ProviderClient, SystemClock
from planapply.model.end_reason import MAX_ENDED, EndedVM, EndReason, add_ended
from planapply.model.state import NodeRecord, State
from planapply.ops.end_reasons import MAX_CONSOLES, explain_ends, record_ends
from planapply.provider import ErrorKind, Limits
from planapply.providerkit import last_lines


@pytest.mark.parametrize(
    ("console", "reason"),
    [
        ("", None),
        ("planapply: start: Dask process\nplanapply: end: the Dask process stopped\n", None),
        ("[  12.3] echo[99]: planapply: this VM ends: ttl\r\n", EndReason.TTL),
        ("planapply: this cluster ends: idle_timeout\n", EndReason.IDLE),
        ("planapply: this cluster ends: no_client_timeout\n", EndReason.NO_CLIENT),
        # The first line is the cause of the others.
        (
            "planapply: this cluster ends: idle_timeout\nplanapply: this VM ends: shutdown\n",
            EndReason.IDLE,
        ),
        # A reboot starts the node again.
        ("planapply: this VM ends: ttl\nplanapply: start: Dask process\n", None),
        # A task may print anything: only known words count.
        ("planapply: this VM ends: of boredom\nplanapply: this VM ends: failed", EndReason.FAILED),
        ("planapply: this VM ends: \x1b[31mttl\n", None),
    ],
)
def test_first_reason_after_the_last_start_counts(console: str, reason: EndReason | None) -> None:
    assert find_end_reason(console) is reason


def test_record_is_bounded_and_keeps_known_reasons() -> None:
    vms = [(f"cpu-{i}", f"i-{i}") for i in range(MAX_ENDED + 1)]
    ended = add_ended([], vms, {name: EndReason.TTL for name, _ in vms}, 1.0)
    assert [each.name for each in ended] == [name for name, _ in vms[1:]]
    again = add_ended(ended, vms[-1:], {vms[-1][0]: EndReason.UNKNOWN}, 2.0)
    assert again == ended
    unknown = EndedVM(name="cpu-0", vm="i-0", reason=EndReason.UNKNOWN, found_at=1.0)
    [known] = add_ended([unknown], [("cpu-0", "i-0")], {"cpu-0": EndReason.FAILED}, 2.0)
    assert (known.reason, known.found_at) == (EndReason.FAILED, 1.0)


class Provider(FakeProvider):
    """A provider with a console."""

    def console(self, id: str, lines: int) -> str:
        text = self.cloud.consoles.get(id, "")
        return self.cloud.run_call("console", lambda: last_lines(text, lines))


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud(SystemClock(), limits=Limits(consistency_delay=0.0))


def lost(*names: str, ended: list[EndedVM] | None = None) -> RefreshResult:
    """Return a refreshed state whose VMs, named after their nodes, are all gone."""
    nodes = {name: NodeRecord(vm=f"i-{name}", config="", batch="b") for name in names}
    state = State(lineage="l", cluster="c", provider="fake", nodes=nodes, ended=ended or [])
    return refresh(state, [], 1000.0, 0.0)


def explain(cloud: FakeCloud, refreshed: RefreshResult) -> dict[str, EndReason]:
    return dict(explain_ends(ProviderClient(Provider(cloud), cloud.clock), refreshed).ended)


def test_reasons_take_one_call_and_a_few_consoles(cloud: FakeCloud) -> None:
    workers = [f"cpu-{i}" for i in range(20)]
    cloud.end_reasons = {f"i-{n}": EndReason.POWERED_OFF for n in ["scheduler", *workers]}
    cloud.end_reasons |= {"i-cpu-19": EndReason.RECLAIMED}
    cloud.consoles = {
        "i-scheduler": "planapply: this cluster ends: no_client_timeout\n",
        "i-cpu-1": "planapply: this VM ends: failed\n",
    }
    reasons = explain(cloud, lost("scheduler", *workers))
    assert cloud.calls == {"end_reasons": 1, "console": MAX_CONSOLES}
    assert reasons == {
        "scheduler": EndReason.NO_CLIENT,
        **dict.fromkeys(workers, EndReason.SCHEDULER_GONE),
        "cpu-1": EndReason.FAILED,
        "cpu-19": EndReason.RECLAIMED,
    }


def test_no_request_is_sent_if_nothing_is_lost_or_all_is_recorded(cloud: FakeCloud) -> None:
    assert explain(cloud, lost()) == {}
    ended = [EndedVM(name="cpu-0", vm="i-cpu-0", reason=EndReason.TTL, found_at=1.0)]
    assert explain(cloud, lost("cpu-0", ended=ended)) == {"cpu-0": EndReason.TTL}
    assert not cloud.calls


def test_what_the_cloud_has_forgotten_or_refuses_is_unknown(cloud: FakeCloud) -> None:
    assert explain(cloud, lost("cpu-0")) == {"cpu-0": EndReason.UNKNOWN}
    assert cloud.calls == {"end_reasons": 1}
    cloud.fail_next("end_reasons", ErrorKind.UNAUTHORIZED)
    assert explain(cloud, lost("cpu-0")) == {"cpu-0": EndReason.UNKNOWN}
    cloud.end_reasons = {"i-cpu-0": EndReason.POWERED_OFF}
    cloud.fail_next("console", ErrorKind.THROTTLED)
    assert explain(cloud, lost("cpu-0")) == {"cpu-0": EndReason.POWERED_OFF}


def test_a_provider_without_the_capability_has_its_consoles_read(cloud: FakeCloud) -> None:
    class Plain:
        def console(self, id: str, lines: int) -> str:
            return "planapply: this VM ends: ttl\n"

    refreshed = explain_ends(ProviderClient(Plain(), cloud.clock), lost("cpu-0"))  # type: ignore[arg-type]
    assert refreshed.ended == {"cpu-0": EndReason.TTL}
    assert [item.ended for item in refreshed.drift] == [EndReason.TTL]


def test_nodes_that_planapply_terminates_have_no_reason(cloud: FakeCloud) -> None:
    refreshed = lost("cpu-0")
    refreshed.state.nodes["cpu-0"].status = "terminating"
    assert explain(cloud, refreshed) == {}
    record_ends(refreshed.state, refreshed, 5.0)
    assert refreshed.state.ended == []
