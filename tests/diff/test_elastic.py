"""Elastic groups in a plan, which does not change their size."""

from planapply.diff import create_plan, refresh
from planapply.model.desired import DesiredState, Group
from planapply.model.node import NodeConfig
from planapply.model.plan import ElasticGroup
from planapply.model.state import NodeRecord, State


def test_plan_lists_elastic_groups_without_nodes() -> None:
    config = NodeConfig(group="cpu", cls="distributed.Nanny")
    record = NodeRecord(vm="v", config=config.digest, batch="b")
    state = State(lineage="l", cluster="c", provider="local", nodes={"cpu-3": record})
    want = DesiredState(
        cluster="c",
        provider="local",
        scheduler=config,
        groups=(
            Group(name="cpu", config=config, min=2, max=9),
            Group(name="gpu", config=config, min=0, max=5),
            Group(name="fixed", config=config, count=1),
        ),
        spec_digest="d",
    )
    plan = create_plan(want, refresh(state, None, 0.0, 0.0))
    assert plan.elastic == {
        "cpu": ElasticGroup(nodes=2, min=2, max=9),
        "gpu": ElasticGroup(nodes=0, min=0, max=5),
    }
