"""The faulty cloud of the simulator is repeatable, and has the faults that it is configured for."""

from conformance.subjects import Account, ManualClock, Subject
from fake_provider import FakeCloud, FakeProvider, Faults

from planapply.provider import ErrorKind, ProviderError


def _history(faults: Faults, seed: int) -> tuple[list[str], FakeCloud]:
    """Return the results of a hundred rounds of calls."""
    clock = ManualClock()
    cloud = FakeCloud(clock, seed, faults)
    account = Account(Subject(connect=lambda: FakeProvider(cloud)), "lineage")
    history = []
    for round_ in range(100):
        clock.wait(1.0)
        try:
            vms = account.launch("cpu-0", "cpu-1", token=f"token-{round_ % 50}").vms
            history.append(f"launched {len(vms)}")
            history.append(f"found {len(account.find())}")
            account.provider.terminate([vms[0].id])
        except ProviderError as error:
            history.append(error.kind.value)
    return history, cloud


def test_same_seed_gives_the_same_faults() -> None:
    faults = Faults(0.1, 0.1, 0.1, 0.2, 0.1, lag=5.0, termination_delay=5.0)
    history, _ = _history(faults, seed=1)
    assert history == _history(faults, seed=1)[0]
    assert history != _history(faults, seed=2)[0]
    never = {"quota", "unauthorized", "rejected", "plugin-bug"}
    assert {kind.value for kind in ErrorKind} - never <= {*history}


def test_lost_response_may_have_been_carried_out() -> None:
    before, cloud_before = _history(Faults(lost_before=1.0), seed=1)
    after, cloud_after = _history(Faults(lost_after=1.0), seed=1)
    assert {*before} == {*after} == {"unknown"}
    assert len(cloud_before.live_vms()) == 0
    assert len(cloud_after.live_vms()) == 100  # two for each of 50 tokens


def test_cloud_without_faults_injects_none() -> None:
    history, cloud = _history(Faults(), seed=1)
    assert history[0::2] == ["launched 2"] * 50 + ["launched 1"] * 50
    # Each round terminates one VM; in the second half, a VM whose token is used again.
    assert history[1::2] == [f"found {n}" for n in [*range(2, 52), *range(50, 0, -1)]]
    assert cloud.calls == {"launch": 100, "find": 100, "terminate": 100}
    assert cloud.live_vms() == []
