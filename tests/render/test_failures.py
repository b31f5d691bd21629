"""The failures of an apply: one error for all nodes that failed in the same way."""

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.render.failures import failure_diagnostics


def test_equal_failures_share_an_error() -> None:
    failures = {
        "cpu-2": PlanapplyError("cpu-2: no capacity for m7i.large", "Try another zone."),
        "scheduler": PlanapplyError("scheduler terminated before it joined", code="error"),
        "cpu-0": PlanapplyError("cpu-0: no capacity for m7i.large", "Try another zone."),
        "cpu-1": PlanapplyError("cpu-1: no capacity for m7i.large", "Try another zone."),
        "gpu-0": PlanapplyError("the quota is reached"),
    }
    assert failure_diagnostics(failures) == [
        Diagnostic(summary="scheduler terminated before it joined", code="error"),
        Diagnostic(
            summary="cpu-[0-2]: no capacity for m7i.large", detail="Try another zone.", code="error"
        ),
        Diagnostic(summary="gpu-0: the quota is reached", code="error"),
    ]
    assert failure_diagnostics({}) == []


def test_only_the_first_of_many_failures_are_printed_in_full() -> None:
    failures = {f"cpu-{i}": PlanapplyError(f"cpu-{i}: error {i}", "x") for i in range(100)}
    diagnostics = failure_diagnostics(failures)
    assert [d.summary for d in diagnostics] == [
        *(f"cpu-{i}: error {i}" for i in range(5)),
        "95 more nodes failed: cpu-[5-99]",
    ]
