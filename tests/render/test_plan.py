"""A printed plan, whole."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from planapply.model.names import from_ranges
from planapply.model.node import Environment, NodeConfig, Requirements
from planapply.model.plan import (
    Action,
    Change,
    ChangeReason,
    Cost,
    DriftItem,
    DriftKind,
    ElasticGroup,
    FieldChange,
    Mode,
    Plan,
)
from planapply.render.plan import group_changes, plan_lines
from planapply.render.plan_footer import footer_texts, format_cost, waves_text
from planapply.render.reasons import drift_text, reason_text
from planapply.render.text import to_plain_text

SCHEDULER = NodeConfig(group="scheduler", cls="distributed.Scheduler", size=("m7i.large",))
CPU = NodeConfig(
    group="cpu", cls="distributed.Nanny", size=("m7i.2xlarge", "m6i.2xlarge"), spot="prefer"
)
GPU = NodeConfig(group="gpu", cls="distributed.Nanny", size=("g5.xlarge",), options={"nthreads": 4})
GPU_8 = GPU.model_copy(update={"options": {"nthreads": 8}})


def create(
    name: str, config: NodeConfig, reason: ChangeReason = ChangeReason.NEW, **more: Any
) -> Change:
    return Change(name=name, action=Action.CREATE, reason=reason, after=config.digest, **more)


def destroy(
    name: str, config: NodeConfig, reason: ChangeReason = ChangeReason.GROUP_REMOVED, **facts: Any
) -> Change:
    return Change(
        name=name,
        action=Action.DESTROY,
        reason=reason,
        facts=facts,
        before=config.digest,
        vm=f"i-{name}",
    )


def replace(
    name: str, *fields: FieldChange, reason: ChangeReason = ChangeReason.FIELDS_CHANGED
) -> Change:
    return Change(
        name=name,
        action=Action.REPLACE,
        reason=reason,
        fields=fields,
        before=GPU.digest,
        after=GPU_8.digest,
        vm=f"i-{name}",
    )


def plan(*changes: Change, **more: Any) -> Plan:
    configs = (SCHEDULER, CPU, GPU, GPU_8)
    values = {
        "cluster": "genomics",
        "provider": "ec2",
        "lineage": None,
        "serial": 0,
        "spec_digest": "0" * 16,
        "settings": {"region": "eu-west-1"},
        "configs": {config.digest: config for config in configs},
        "changes": changes,
    }
    return Plan(**(values | more))


def text(plan: Plan, width: int = 80) -> str:
    return to_plain_text(plan_lines(plan, width))


def test_example_of_the_contract() -> None:
    fields = FieldChange(path="options.nthreads", before=4, after=8)
    made = plan(
        create("scheduler", SCHEDULER),
        *(create(f"cpu-{i}", CPU) for i in range(20)),
        replace("gpu-0", fields),
        cost=Cost(before=9.41, after=12.8, source="on demand, libcloud prices of 2025-03-02"),
    )
    assert text(made) == snapshot("""\
planapply will change cluster "genomics" (ec2, eu-west-1):

  +   scheduler           m7i.large
  +   cpu-[0-19]   (20)   m7i.2xlarge  spot
  -/+ gpu-0               g5.xlarge
        options.nthreads   4 -> 8   (forces replacement)

Plan: 22 to add, 0 to change, 1 to destroy.
Cost: 9.41 USD/h -> 12.80 USD/h (on demand, libcloud prices of 2025-03-02)
""")


def test_waves() -> None:
    fields = FieldChange(path="options.nthreads", before=4, after=8)
    changes = [*(replace(f"gpu-{i}", fields) for i in range(4)), create("gpu-4", GPU_8)]
    waves = (("gpu-4", "gpu-0", "gpu-1"), ("gpu-2", "gpu-3"))
    assert text(plan(*changes, waves=waves)) == snapshot("""\
planapply will change cluster "genomics" (ec2, eu-west-1):

  -/+ gpu-[0-3]   (4)   g5.xlarge
        options.nthreads   4 -> 8   (forces replacement)
  +   gpu-4             g5.xlarge

Plan: 5 to add, 0 to change, 4 to destroy.
Waves: 2 (gpu: 2 nodes at a time)
""")
    one = plan(*changes[3:], waves=(("gpu-4",), ("gpu-3",)))
    assert waves_text(one) == "2 (new nodes first, gpu: 1 node at a time)"
    assert waves_text(plan(*changes, waves=(("gpu-0", "gpu-1"),))) == ""
    other = replace("cpu-0", fields)
    both = plan(*changes, other, waves=(("gpu-0", "gpu-1", "cpu-0"), ("gpu-2", "gpu-3")))
    assert waves_text(both) == "2 (gpu: 2 nodes at a time, cpu: 1 node at a time)"


def test_ranges_split_where_nodes_differ() -> None:
    made = plan(
        *(create(f"cpu-{i}", CPU) for i in (0, 1, 3)),
        *(create(f"cpu-{i}", CPU, ChangeReason.VM_GONE, vm=f"i-{i}") for i in (4, 5, 6, 8)),
        *(destroy(f"gpu-{i}", GPU) for i in range(3)),
    )
    assert text(made) == snapshot("""\
planapply will change cluster "genomics" (ec2, eu-west-1):

  +   cpu-[0-1]   (2)   m7i.2xlarge  spot
  +   cpu-3             m7i.2xlarge  spot
  +   cpu-[4-6]   (3)   m7i.2xlarge  spot
        (VMs are gone)
  +   cpu-8             m7i.2xlarge  spot
        (VM i-8 is gone)
  -   gpu-[0-2]   (3)   g5.xlarge
        (group is not in the spec)

Plan: 7 to add, 0 to change, 3 to destroy.
""")


def test_destroy_runs_in_reverse_and_prints_in_order() -> None:
    made = plan(
        *(destroy(f"cpu-{i}", CPU, ChangeReason.DESTROY_REQUESTED) for i in reversed(range(12))),
        destroy("scheduler", SCHEDULER, ChangeReason.DESTROY_REQUESTED),
        Change(
            name="security-group",
            kind="resource",
            action=Action.DESTROY,
            reason=ChangeReason.DESTROY_REQUESTED,
        ),
        mode=Mode.DESTROY,
    )
    assert text(made) == snapshot("""\
planapply will destroy cluster "genomics" (ec2, eu-west-1):

  -   cpu-[0-11]       (12)   m7i.2xlarge  spot
  -   scheduler               m7i.large
  -   security-group          supporting resource

Plan: 0 to add, 0 to change, 14 to destroy.
""")


def test_values_of_every_kind() -> None:
    packages = tuple(f"package-{i}=={i}.0" for i in range(30))
    made = plan(
        replace(
            "gpu-0",
            FieldChange(path="size", before="g5.xlarge", after=["g5.xlarge", "g5.2xlarge"]),
            FieldChange(path="disk", before=100 << 30, after=None),
            FieldChange(path="ttl", before=None, after=5400.0),
            FieldChange(path="options.resources", before={"GPU": 1}, after={"GPU": 2, "a b": 0.5}),
            FieldChange(path="options.preload", before="x" * 100, after=True),
            FieldChange(path="spot", before=False, after="prefer"),
            FieldChange(
                path="environment.packages",
                before=[*packages, "pandas==2.1"],
                after=[*packages, "pandas==2.2", "pyarrow"],
            ),
            FieldChange(path="environment.setup", before=packages, after=packages[::-1]),
            FieldChange(path="environment.env.PATHS", before=None, after=":".join(packages)),
            FieldChange(
                path="environment.requirements",
                before="\n".join(packages),
                after="dask\nnumpy\n",
            ),
        ),
        Change(
            name="gpu-1",
            action=Action.UPDATE,
            reason=ChangeReason.FIELDS_CHANGED,
            fields=(
                FieldChange(
                    path="tags.team", before="bio", after="\x1b[31mrot", forces_replacement=False
                ),
            ),
            after=GPU.digest,
        ),
    )
    assert text(made) == snapshot("""\
planapply will change cluster "genomics" (ec2, eu-west-1):

  -/+ gpu-0   g5.xlarge
        size   (forces replacement)
          + "g5.2xlarge"
        disk                100 GiB -> (unset)   (forces replacement)
        ttl                 (unset) -> 1 h 30 min   (forces replacement)
        options.resources   (forces replacement)
          - GPU = 1
          + GPU = 2
          + "a b" = 0.5
        options.preload   (forces replacement)
          - "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
          + true
        spot                false -> "prefer"   (forces replacement)
        environment.packages   (forces replacement)
          - "pandas==2.1"
          + "pandas==2.2"
          + "pyarrow"
        environment.setup   (hidden value changed)   (forces replacement)
        environment.env.PATHS   (forces replacement)
          + "package-0==0.0:package-1==1.0:package-2==2.0:package-3==3.0:packag…
        environment.requirements   (forces replacement)
          - package-0==0.0
          - package-1==1.0
          - package-2==2.0
          - package-3==3.0
          - package-4==4.0
          - … and 25 more
          + dask
          + numpy
  ~   gpu-1   g5.xlarge
        tags.team   "bio" -> "\\u001b[31mrot"

Plan: 1 to add, 1 to change, 1 to destroy.
""")
    assert text(made, 120) == snapshot("""\
planapply will change cluster "genomics" (ec2, eu-west-1):

  -/+ gpu-0   g5.xlarge
        size                "g5.xlarge" -> ["g5.xlarge", "g5.2xlarge"]   (forces replacement)
        disk                100 GiB -> (unset)   (forces replacement)
        ttl                 (unset) -> 1 h 30 min   (forces replacement)
        options.resources   { GPU = 1 } -> { GPU = 2, "a b" = 0.5 }   (forces replacement)
        options.preload   (forces replacement)
          - "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
          + true
        spot                false -> "prefer"   (forces replacement)
        environment.packages   (forces replacement)
          - "pandas==2.1"
          + "pandas==2.2"
          + "pyarrow"
        environment.setup   (hidden value changed)   (forces replacement)
        environment.env.PATHS   (forces replacement)
          + "package-0==0.0:package-1==1.0:package-2==2.0:package-3==3.0:package-4==4.0:package-5==5.0:package-6==6.0:p…
        environment.requirements   (forces replacement)
          - package-0==0.0
          - package-1==1.0
          - package-2==2.0
          - package-3==3.0
          - package-4==4.0
          - … and 25 more
          + dask
          + numpy
  ~   gpu-1   g5.xlarge
        tags.team   "bio" -> "\\u001b[31mrot"

Plan: 1 to add, 1 to change, 1 to destroy.
""")


def test_reasons_and_groups_without_a_size() -> None:
    wanted = NodeConfig(
        group="big",
        cls="distributed.Nanny",
        requirements=Requirements(cpus=8, memory=32 << 30, gpus=1, arch="arm64"),
        processes=4,
        spot=True,
        environment=Environment(python="3.12"),
    )
    made = plan(
        create("big-0", wanted),
        replace("scheduler", reason=ChangeReason.TERMINATION_IN_PROGRESS),
        replace("gpu-0", reason=ChangeReason.SCHEDULER_REPLACED),
        replace("gpu-1", reason=ChangeReason.SCHEDULER_REPLACED),
        create("security-group", wanted, kind="resource"),
        configs={config.digest: config for config in (wanted, GPU, GPU_8)},
        provider="local",
        settings={},
        elastic={
            "big": ElasticGroup(nodes=1, min=0, max=10),
            "none": ElasticGroup(nodes=0, min=0, max=100),
        },
    )
    assert text(made) == snapshot("""\
planapply will change cluster "genomics" (local):

  +   big-0                  8 cpus, 32 GiB, 1 gpu, arm64  spot  4 processes
  -/+ scheduler              g5.xlarge
        (termination was already in progress)
  -/+ gpu-[0-1]        (2)   g5.xlarge
        (the scheduler is replaced)
  +   security-group         supporting resource

Plan: 5 to add, 0 to change, 3 to destroy.
Elastic: big will have 1 node (min 0, max 10); its size changes only through
`scale` and `adapt`.
Elastic: none has no nodes (min 0, max 100); its size changes only through
`scale` and `adapt`.
""")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, 'No changes. Cluster "genomics" matches its spec.\n'),
        ({"mode": Mode.DESTROY}, "No changes. There is nothing to destroy.\n"),
        ({"mode": Mode.REFRESH_ONLY}, "No changes. The state matches what exists.\n"),
    ],
)
def test_no_changes(more: dict[str, Any], said: str) -> None:
    assert text(plan(**more)) == said


def test_no_changes_message_explains_how_to_scale_an_elastic_group() -> None:
    elastic = {"cpu": ElasticGroup(nodes=3, min=0, max=10)}
    assert text(plan(elastic=elastic, cost=Cost(before=1.0, after=1.0))) == snapshot("""\
No changes. Cluster "genomics" matches its spec.
Cost: 1.00 USD/h
Elastic: cpu has 3 nodes (min 0, max 10); its size changes only through `scale`
and `adapt`.
""")


def drift(kind: DriftKind, *names: str) -> list[DriftItem]:
    return [DriftItem(name=name, kind=kind, vm=f"i-{name}") for name in names]


def test_a_refresh_only_plan_with_drift() -> None:
    recordable = [
        *drift(DriftKind.GONE, "scheduler", "cpu-0", "cpu-1"),
        *drift(DriftKind.ADOPTED, "cpu-2", "cpu-4"),
    ]
    other = [
        *drift(DriftKind.STOPPED, "gpu-0", "gpu-1"),
        *drift(DriftKind.STOPPING, "gpu-2"),
        *drift(DriftKind.STRAY, "i-7"),
    ]
    assert text(plan(mode=Mode.REFRESH_ONLY, drift=(*recordable, *other))) == snapshot("""\
planapply will update the state of cluster "genomics" (ec2, eu-west-1):

  scheduler         VM i-scheduler is gone
  cpu-[0-1]   (2)   VMs are gone
  cpu-2             VM i-cpu-2 was not in the state
  cpu-4             VM i-cpu-4 was not in the state

No VM will be launched or terminated.

A refresh does not change the following; run `planapply plan` to see what an
apply would do:

  gpu-[0-1]   (2)   VMs are stopped
  gpu-2             VM i-gpu-2 is shutting down
  i-7               VM is no node of the cluster
""")
    assert text(plan(mode=Mode.REFRESH_ONLY, drift=tuple(recordable))) == snapshot("""\
planapply will update the state of cluster "genomics" (ec2, eu-west-1):

  scheduler         VM i-scheduler is gone
  cpu-[0-1]   (2)   VMs are gone
  cpu-2             VM i-cpu-2 was not in the state
  cpu-4             VM i-cpu-4 was not in the state

No VM will be launched or terminated.
""")
    assert text(plan(mode=Mode.REFRESH_ONLY, drift=tuple(other))) == snapshot("""\
No changes to the state of cluster "genomics" (ec2, eu-west-1). A refresh does
not change the following; run `planapply plan` to see what an apply would do:

  gpu-[0-1]   (2)   VMs are stopped
  gpu-2             VM i-gpu-2 is shutting down
  i-7               VM is no node of the cluster
""")


def test_every_reason_and_every_kind_of_drift_has_a_text() -> None:
    facts: dict[str, int | str] = {
        "before": 3,
        "after": 2,
        "max": 5,
        "node": "cpu-3",
        "text": "old",
    }
    fields = (FieldChange(path="size"), FieldChange(path="options.nthreads"))
    changes = [
        Change(
            name="cpu-2", action=Action.REPLACE, reason=reason, facts=facts, fields=fields, vm="i-2"
        )
        for reason in ChangeReason
    ]
    assert {change.reason.value: reason_text([change]) for change in changes} == snapshot(
        {
            "new": "does not exist yet",
            "vm_gone": "VM i-2 is gone",
            "request_unresolved": "the result of an earlier launch request is unknown",
            "replace_requested": "requested with --replace",
            "destroy_requested": "destroy requested",
            "scheduler_replaced": "the scheduler is replaced",
            "termination_in_progress": "termination was already in progress",
            "vm_stopping": "VM i-2 is shutting down",
            "vm_stopped": "VM i-2 is stopped",
            "not_joined": "did not join in time",
            "spot_notice": "the cloud reclaims the spot VM",
            "config_changed": "launched with another configuration",
            "fields_changed": "size, options.nthreads changed",
            "plugin_missing": "an earlier version of planapply launched it: cannot change in place",
            "count_lowered": "count 3 -> 2",
            "max_lowered": "max is 5",
            "group_removed": "group is not in the spec",
            "resource_unneeded": "no longer needed",
            "resource_gone": "it was deleted",
            "duplicate_vm": "duplicate VM for node cpu-3",
            "unknown_node": "the VM's tags name no node",
            "unknown_vm": "has the cluster's tags, but planapply did not launch it",
            "scaled": "3 -> 2 nodes",
            "other": "old",
        }
    )
    fields = (FieldChange(path="tags.team", before="geo", after="bio"),)
    items = {
        kind: [item.model_copy(update={"fields": fields}) for item in drift(kind, "cpu-2")]
        for kind in DriftKind
    }
    assert {kind.value: drift_text(items[kind]) for kind in DriftKind} == snapshot(
        {
            "gone": "VM i-cpu-2 is gone",
            "stopping": "VM i-cpu-2 is shutting down",
            "stopped": "VM i-cpu-2 is stopped",
            "adopted": "VM i-cpu-2 was not in the state",
            "stray": "VM is no node of the cluster",
            "unknown": "was not launched by planapply, but has the cluster's tags",
            "address": "has another address: geo -> bio",
            "changed": 'tags.team is "geo", not "bio"',
            "regrouped": "is in security groups geo, not bio",
            "deleted": "was deleted",
        }
    )


def test_count_reason_without_a_known_previous_count() -> None:
    change = destroy("cpu-7", CPU, ChangeReason.COUNT_LOWERED, after=2)
    assert reason_text([change]) == "count is 2"
    with pytest.raises(ValueError, match="needs the fact 'after'"):
        destroy("cpu-7", CPU, ChangeReason.COUNT_LOWERED)


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (Cost(before=None, after=None), "unknown"),
        (Cost(before=0.0, after=1.5), "0.00 USD/h -> 1.50 USD/h"),
        (
            Cost(before=1.5, after=1.5, unknown=("g5.xlarge", "p5.48xlarge"), source="list prices"),
            "1.50 USD/h -> at least 1.50 USD/h "
            "(list prices; no price known for g5.xlarge, p5.48xlarge)",
        ),
        (
            Cost(before=1.5, after=0.0, unknown_before=("g5.xlarge",)),
            "at least 1.50 USD/h -> 0.00 USD/h (no price known for g5.xlarge)",
        ),
        (
            Cost(before=1.5, after=1.5, unknown=("a",), unknown_before=("b",)),
            "at least 1.50 USD/h (no price known for a, b)",
        ),
    ],
)
def test_cost(cost: Cost, said: str) -> None:
    assert format_cost(cost) == said


def test_colors_match_terraforms() -> None:
    made = plan(
        create("cpu-0", CPU),
        replace("gpu-0", FieldChange(path="size", before="a", after="b")),
        destroy("gpu-1", GPU),
    )
    symbols = [span for line in plan_lines(made) for span in line if span[0].strip() in "+-/+~"]
    assert [span for span in symbols if span[1]] == [
        ("+  ", "green"),
        ("-/+", "yellow"),
        ("-  ", "red"),
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.builds(
    FieldChange,
    path=st.sampled_from(["size", "disk", "ttl", "options.a", "environment.packages"]),
    before=VALUES,
    after=VALUES,
    forces_replacement=st.booleans(),
)
CHANGES = st.builds(
    Change,
    name=st.sampled_from(["scheduler", *(f"cpu-{i}" for i in range(6)), "gpu-0", "gpu-1"]),
    action=st.sampled_from(Action),
    reason=st.sampled_from([ChangeReason.NEW, ChangeReason.VM_GONE]),
    fields=st.lists(FIELDS, max_size=2).map(tuple),
    after=st.sampled_from([None, CPU.digest, GPU.digest]),
    vm=st.sampled_from([None, "i-1"]),
)


@settings(max_examples=40)
@given(st.lists(CHANGES, unique_by=lambda change: change.name), st.integers(1, 200))
def test_any_plan_renders_with_each_change_in_one_range(changes: list[Change], width: int) -> None:
    printed = text(plan(*changes), width)
    assert printed.replace("\n", "").replace("\t", "").isprintable()
    found = [name for run in group_changes(changes) for name in from_ranges([run.name])]
    assert sorted(found) == sorted(change.name for change in changes)
    assert all(run.name in printed for run in group_changes(changes))


def test_names_of_others_make_no_lines_below_the_changes() -> None:
    evil = "env.X\nPlan: 0 to add"
    made = plan(
        edited=(FieldChange(path=evil, before="a", after="b"),),
        recorded=(FieldChange(path=evil, before="a", after="b"),),
        elastic={"cpu\n\x1b[31m": ElasticGroup(nodes=1, min=0, max=2)},
        cost=Cost(before=1.0, after=2.0, not_counted=("disks\nPlan: 9 to add",)),
    )
    for _, text in footer_texts(made):
        assert text.isprintable()
    assert sum("Plan: " in text for _, text in footer_texts(made)) == 3
