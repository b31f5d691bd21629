"""A plug-in that raises unexpected exceptions: one error that names the plug-in, and a correct state."""

from typing import Any, NoReturn

import pytest
from cli import fake_plugin
from cli.commands import Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.model.names import from_ranges
from planapply.model.state import State
from planapply.provider import LaunchRequest, LaunchResult
from planapply.store import open_store

APPLY = ("apply", "--auto-approve", "--no-wait")
NODES = from_ranges(["cpu-[0-2]", "scheduler"])


def state() -> State:
    found = open_store("planapply.state.json").read()
    assert found is not None
    return found


def fails(*arguments: Any) -> NoReturn:
    raise RuntimeError("boom")


def test_exception_after_a_launch_keeps_the_intent(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = fake_plugin.Provider.launch

    def done_and_lost(self: fake_plugin.Provider, request: LaunchRequest) -> LaunchResult:
        result = launch(self, request)
        if "cpu-0" in request.names:
            raise RuntimeError("boom")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(fake_plugin.Provider, "launch", done_and_lost)
        result = run(*APPLY)
    assert (result.code, result.err.partition("\n\n")[2]) == (
        1,
        snapshot("""\
Error: cpu-[0-2]: the provider 'fake' (cli.fake_plugin:PLUGIN of the package fake-planapply) failed
in `launch`: RuntimeError: boom
  The request may have succeeded. It is recorded; the next apply or destroy will resolve it.
"""),
    )
    assert cloud.calls["launch"] == 2  # the call is not repeated
    assert [*state().nodes] == ["scheduler"]
    assert [intent.names for intent in state().intents.values()] == [NODES[:3]]
    assert run(*APPLY).code == 0
    assert sorted(state().nodes) == NODES
    assert not state().intents
    assert len(cloud.live_vms()) == 4


def test_exception_in_terminate_keeps_the_nodes(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*APPLY).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(fake_plugin.Provider, "terminate", fails)
        result = run("destroy", "--auto-approve")
    assert (result.code, result.err.partition("\n\n")[2]) == (
        1,
        snapshot("""\
Error: scheduler, cpu-[0-2]: the provider 'fake' (cli.fake_plugin:PLUGIN of the package
fake-planapply) failed in `terminate`: RuntimeError: boom
  This is a bug in that package; please report it to its maintainers.
"""),
    )
    assert sorted(state().nodes) == NODES
    assert run("destroy", "--auto-approve").code == 0
    assert not cloud.live_vms()


@pytest.mark.parametrize(
    "call", ["find", "price", "identity", "required_resources", "alternatives"]
)
def test_exception_in_any_call_is_reported(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    assert run(*APPLY, "--target", "scheduler").code == 0
    monkeypatch.setattr(fake_plugin.Provider, call, fails)
    result = run(*APPLY)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert f"failed in `{call}`: RuntimeError: boom" in " ".join(result.err.split())
