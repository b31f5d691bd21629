"""The Airflow example: its functions on a real cluster, and its DAG with a stand-in for Airflow, which is not installed."""

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import planapply
from planapply.store import open_store

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the example, beside a spec."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "planapply.toml").write_text(
        f'[cluster]\nname = "never-used"\n[provider]\nfolder = "{tmp_path / "vms"}"\n'
        "[workers.cpu]\ncount = 1\noptions = { nthreads = 1 }\n"
    )
    import airflow_cluster  # type: ignore[import-not-found]

    yield airflow_cluster
    for state in tmp_path.glob("*.state.json"):
        planapply.destroy(state, progress=False)
    del sys.modules["airflow_cluster"]


@pytest.mark.slow
def test_tasks_create_use_and_destroy_a_cluster(example: Any, tmp_path: Path) -> None:
    run = "scheduled__2026-03-02T00:00:00+00:00"
    location = example.create_cluster(run, str(tmp_path))
    name = "etl-scheduled-2026-03-02t00-00-00-00-00"
    assert location == str(tmp_path / f"{name}.state.json")
    state = open_store(location).read()
    assert state is not None
    assert (state.cluster, sorted(state.nodes)) == (name, ["cpu-0", "scheduler"])

    assert example.create_cluster(run, str(tmp_path)) == location  # Airflow tries a task again
    again = open_store(location).read()
    assert again is not None
    assert again.nodes == state.nodes

    assert example.compute(location) == 285
    example.destroy_cluster(location)
    example.destroy_cluster(location)
    state = open_store(location).read()
    assert state is not None
    assert state.is_empty


@pytest.mark.parametrize("error", [planapply.PlanapplyError("no capacity"), KeyboardInterrupt()])
def test_what_cannot_be_set_up_is_destroyed(
    example: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    destroyed = []

    def apply(*_: Any, **options: Any) -> None:
        raise error

    def destroy(state: str, **options: Any) -> None:
        destroyed.append(state)
        raise planapply.PlanapplyError("unreachable")

    monkeypatch.setattr(planapply, "apply", apply)
    monkeypatch.setattr(planapply, "destroy", destroy)
    with pytest.raises(type(error)) as caught:
        example.create_cluster("manual", "s3://bucket/x")
    assert destroyed == ["s3://bucket/x/etl-manual.state.json"]
    assert caught.value is error
    assert error.__notes__ == ["unreachable"]


class Task:
    """A task of the stand-in; `>>` records what comes first."""

    def __init__(self, kind: str, function: Callable[..., Any], order: list[str]) -> None:
        self.kind, self.function, self.order = kind, function, order

    def __call__(self, *arguments: Any) -> "Task":
        """Add the task to the DAG."""
        self.order.append(f"{self.kind} {self.function.__name__}")
        return self

    def __rshift__(self, other: "Task") -> "Task":
        self.order.append(f"{self.function.__name__} >> {other.function.__name__}")
        return other


def test_dag_sets_up_and_tears_down(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sdk = ModuleType("airflow.sdk")
    for kind in ("setup", "task", "teardown"):
        setattr(sdk, kind, lambda function, kind=kind: Task(kind, function, order))
    sdk.dag = lambda **options: lambda function: function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    tasks = runpy.run_path(str(EXAMPLES / "airflow_dag.py"))
    assert order == [
        *("setup create_cluster", "task compute", "teardown destroy_cluster"),
        "compute >> destroy_cluster",
    ]
    calls: list[tuple[Any, ...]] = []
    for name in ("create_cluster", "compute", "destroy_cluster"):
        monkeypatch.setattr(example, name, lambda *a, name=name: calls.append((name, *a)))
        tasks[name].function("x")
    assert calls == [
        ("create_cluster", "x", "s3://bucket/clusters"),
        ("compute", "x"),
        ("destroy_cluster", "x"),
    ]
