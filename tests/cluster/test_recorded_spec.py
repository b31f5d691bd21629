"""A cluster that is opened from its state alone, and scaled by the spec that the state records."""

import json
import re

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import apply_pending, change_state
from cluster.inprocess import Cloud, CloudWorkspace, plugin

from planapply import Cluster, GroupAdaptive
from planapply.model.state import State
from planapply.ops.apply import apply
from planapply.ops.plan import PlanOptions, plan
from planapply.ops.recorded_spec import recorded_spec, spec_document
from planapply.render.state import state_document
from planapply.store import open_store

NO_SPEC = (
    "cannot scale a cluster that was opened from its state alone: this state does not record the spec "
    "that was applied last. Run `planapply apply` again, or use Cluster.from_spec."
)


def state_alone(workspace: CloudWorkspace) -> CloudWorkspace:
    """Return a workspace as `Cluster.from_name` opens it."""
    return CloudWorkspace(open_store(workspace.store.location), cloud=workspace.cloud)


def apply_all(workspace: CloudWorkspace, options: PlanOptions = PlanOptions()) -> State:
    assert not apply(workspace, lambda plan: True, options).failures
    return workspace.read()


def test_scales_and_adapts(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(state_alone(applied())) as cluster:
        cluster.scale(2)
        apply_pending(cluster)
        with pytest.raises(
            ValueError, match="cannot scale 'cpu' to 9 nodes: the spec sets min = 0"
        ):
            cluster.scale(9)
        with pytest.warns(UserWarning, match="adapting 'cpu' between 2 and 8 nodes"):
            made = cluster.adapt(minimum=2, maximum=9, interval=0)
        assert isinstance(made, GroupAdaptive)
        assert (made.group, made.minimum, made.maximum) == ("cpu", 2, 8)
        cluster.sync(cluster.scale_down, ["cpu-0"])
    assert cloud.names() == ["cpu-1", "scheduler"]
    assert not plan(workspace()).plan.changes  # the nodes have the configuration of the spec


def test_follows_what_another_process_applies(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(state_alone(applied())) as cluster:
        cluster.scale(1)
        apply_pending(cluster)
        smaller = SPEC.replace("max = 8", "max = 2")
        apply_all(workspace(smaller))
        cluster.scale(2)
        apply_pending(cluster)
        with pytest.raises(ValueError, match=r"to 3 nodes: the spec sets min = 0, max = 2$"):
            cluster.scale(3)
    assert cloud.names() == ["cpu-0", "cpu-1", "scheduler"]


def test_scales_a_group_with_its_own_environment(cloud: Cloud, workspace: Open) -> None:
    text = SPEC + '[environment]\nenv = { A = "1" }\n[workers.cpu.environment]\nenv = { B = "2" }\n'
    apply_all(workspace(text))
    with Cluster.adopt(state_alone(workspace(text))) as cluster:
        cluster.scale(1)
        apply_pending(cluster)
        assert cluster.workers["cpu-0"].config.environment.env == {"A": "1", "B": "2"}
    assert cloud.names() == ["cpu-0", "scheduler"]
    assert not plan(workspace(text)).plan.changes


def test_edited_spec_file_changes_nothing(cloud: Cloud, applied: Open, workspace: Open) -> None:
    with Cluster.adopt(state_alone(applied())) as cluster:
        workspace(SPEC.replace("nthreads = 1", "nthreads = 2"))  # written, and not applied
        cluster.scale(1)
        apply_pending(cluster)
        assert cluster.workers["cpu-0"].config.options == {"nthreads": 1}


def test_state_of_an_older_version(applied: Open, workspace: Open) -> None:
    opened = applied()
    change_state(opened, lambda state: setattr(state, "spec", None))
    with Cluster.adopt(state_alone(opened)) as cluster:
        for call, verb in ((lambda: cluster.scale(1), "scale"), (cluster.adapt, "adapt")):
            message = re.escape(NO_SPEC.replace("cannot scale", f"cannot {verb}"))
            with pytest.raises(ValueError, match=f"^{message}$"):
                call()
    apply_all(workspace())  # changes no node, and records the spec
    with Cluster.adopt(state_alone(opened)) as cluster:
        cluster.scale(1)


def test_unreadable_spec_is_as_none(applied: Open) -> None:
    opened = applied()
    change_state(opened, lambda state: setattr(state, "spec", {"cluster": {"nmae": "zoo"}}))
    with (
        Cluster.adopt(state_alone(opened)) as cluster,
        pytest.raises(ValueError, match=f"^{re.escape(NO_SPEC)}$"),
    ):
        cluster.scale(1)


def test_recorded_by_whole_applies_only(workspace: Open) -> None:
    first = workspace()
    assert first.spec is not None
    state = apply_all(first)
    assert recorded_spec(state) == first.spec
    serial = state.serial
    assert apply_all(workspace()).serial == serial  # nothing to record
    edited = SPEC.replace("max = 8", "max = 9")
    assert apply_all(workspace(edited), PlanOptions(targets=("scheduler",))).spec == state.spec
    second = workspace(edited)
    assert recorded_spec(apply_all(second)) == second.spec != first.spec
    destroyed = workspace()
    apply(destroyed, lambda plan: True, PlanOptions(mode=plan(destroyed).plan.mode.DESTROY))
    assert destroyed.read().spec is None


def test_digest_survives(workspace: Open) -> None:
    """Defaults stay distinct from the same values written in the file."""
    text = (
        SPEC
        + '[environment]\npackages = ["dask"]\nenv = { A = "1" }\n[defaults]\ntags = { a = "b" }\n'
    )
    opened = workspace(text)
    assert opened.spec is not None
    document = spec_document(opened.spec, opened.plugin(None))
    state = State(
        lineage="", cluster="zoo", provider="inprocess", spec=json.loads(json.dumps(document))
    )
    again = recorded_spec(state)
    assert again is not None
    assert again.digest == opened.spec.digest


def test_no_secret_is_shown_or_kept_in_vain(cloud: Cloud, workspace: Open) -> None:
    text = SPEC + '[environment]\nsetup = ["login hunter2hunter2"]\n'
    opened = workspace(text)
    assert opened.spec is not None
    state = apply_all(opened)
    assert "hunter2" not in json.dumps(state_document(state))
    ignoring = plugin(cloud)
    object.__setattr__(ignoring, "ignored_settings", frozenset({"environment.setup"}))
    assert "hunter2" not in json.dumps(spec_document(opened.spec, ignoring))
