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


def test_commands_name_a_node_that_failed_alone() -> None:
    def failures(*names: str) -> dict[str, PlanapplyError]:
        return {
            name: PlanapplyError(
                f"{name} did not join", f"It has node 0 of {name}. See `planapply logs {name}`."
            )
            for name in names
        }

    details = [d.detail for d in failure_diagnostics(failures("cpu-0"))]
    assert details == ["It has node 0 of cpu-0. See `planapply logs cpu-0`."]
    shared = {
        name: PlanapplyError(f"{name} did not join", f"See `planapply logs {name}`.")
        for name in ("cpu-0", "cpu-1")
    }
    (found,) = failure_diagnostics(shared)
    assert (found.summary, found.detail) == (
        "cpu-[0-1] did not join",
        "See `planapply logs NODE`.",
    )


def test_only_the_first_of_many_failures_are_printed_in_full() -> None:
    failures = {f"cpu-{i}": PlanapplyError(f"cpu-{i}: error {i}", "x") for i in range(100)}
    diagnostics = failure_diagnostics(failures)
    assert [d.summary for d in diagnostics] == [
        *(f"cpu-{i}: error {i}" for i in range(5)),
        "95 more nodes failed: cpu-[5-99]",
    ]
