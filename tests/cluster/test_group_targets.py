"""The bookkeeping of groups, held against a simulated cluster that other processes change as well."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from planapply.api.group_targets import GroupTargets, GroupView, nodes_in_group
from planapply.model.names import node_name, split_name

GROUP = "cpu"
SIZES = st.integers(0, 6)


class SimulatedCluster(RuleBasedStateMachine):
    """Each rule is one step of a cluster: a request, a change under the lock, or news."""

    def __init__(self) -> None:
        super().__init__()
        self.targets = GroupTargets()
        self.specified: set[str] = set()
        self.vms: set[str] = set()
        """Nodes with a handle, which exist in the state."""
        self.closing: set[str] = set()
        """Nodes whose termination failed."""
        self.joined: set[str] = set()
        self.next_index = 0
        """As in the state."""
        self.used: list[str] = []
        """The names of all launched nodes."""
        self.requested: int | None = None
        """The size that the next change must reach."""

    def view(self) -> GroupView:
        return GroupView(
            specified={*self.specified},
            pending=self.specified - self.vms,
            handles={*self.vms},
            running=self.vms - self.closing,
            joined={*self.joined},
        )

    def retain(self, nodes: int) -> int:
        """Do as the cluster does with a selection; return the number of missing nodes."""
        view = self.view()
        selection = self.targets.select(view, nodes)
        assert not {*selection.restore} & (self.targets.leaving | self.closing | self.specified)
        assert {*selection.remove} <= self.specified & self.vms
        before = (self.specified & self.vms) | (self.vms - self.closing - self.targets.leaving)
        self.specified |= {*selection.restore}
        self.specified -= {*selection.remove}
        kept = self.specified & self.vms
        assert kept <= before
        assert len(kept) + selection.missing == nodes or not selection.missing
        assert len(kept) == min(nodes, len(before))
        # No node goes before one that has not joined, or before one with a higher index.
        for gone in before - kept:
            assert all(self.rank(name) < self.rank(gone) for name in kept)
        return selection.missing

    def rank(self, name: str) -> tuple[bool, int]:
        return name not in self.joined, split_name(name)[1]

    def launch(self, names: list[str]) -> None:
        assert not {*names} & {*self.used}
        self.used += names
        self.vms |= {*names}

    @rule(nodes=SIZES)
    def request(self, nodes: int) -> None:
        self.targets.request(GROUP, nodes)
        missing = self.retain(nodes)
        names = self.targets.provisional_names(GROUP, self.view(), missing)
        assert not {*names} & (self.vms | {*self.used} - self.specified)
        self.specified -= self.view().pending
        self.specified |= {*names}
        assert len(self.specified) == nodes
        self.requested = nodes

    @precondition(lambda self: self.specified)
    @rule(data=st.data())
    def scale_down(self, data: st.DataObject) -> None:
        names = data.draw(st.sets(st.sampled_from(sorted(self.specified)), min_size=1))
        self.targets.remove(GROUP, self.view(), names)
        if self.requested is not None:
            surplus = max(0, len(self.specified) - self.requested)
            self.requested -= max(0, len(names) - surplus)
        self.specified -= names

    @rule(data=st.data(), fails=st.booleans())
    def change(self, data: st.DataObject, fails: bool) -> None:
        """Take the lock, reserve names, terminate what is not specified, and launch the rest."""
        sizes = self.targets.take()
        assert not self.targets
        assert sizes == ({} if self.requested is None else {GROUP: self.requested})
        self.targets.next_index = {GROUP: self.next_index}
        granted: list[str] = []
        for nodes in sizes.values():
            missing = self.retain(nodes)
            granted = [node_name(GROUP, self.next_index + i) for i in range(missing)]
            self.next_index += missing
            self.targets.grant(granted)
            self.specified -= self.view().pending
            self.specified |= {*granted}
        terminated = self.vms - self.specified
        stuck = {name for name in sorted(terminated) if fails and data.draw(st.booleans())}
        self.closing = (self.closing & self.vms - terminated) | stuck
        self.vms -= terminated - stuck
        starting = [n for n in sorted(self.specified - self.vms) if self.targets.is_granted(n)]
        failed = {name for name in starting if fails and data.draw(st.booleans())}
        assert self.targets.end_launch() == {*granted}
        assert not any(map(self.targets.is_granted, granted))
        self.launch([name for name in starting if name not in failed])
        self.specified -= failed
        self.joined &= self.vms
        self.targets.drop_left(self.vms)
        assert self.targets.leaving <= self.vms
        if self.requested is not None and not fails:
            assert self.vms == self.specified
            assert len(self.vms) == self.requested
        self.requested = None

    @rule()
    def another_process_launches(self) -> None:
        name = node_name(GROUP, self.next_index)
        self.next_index += 1
        self.targets.next_index = {GROUP: self.next_index}
        self.specified.discard(name)  # of a pending node of that name
        self.launch([name])
        self.specified.add(name)

    @precondition(lambda self: self.vms)
    @rule(data=st.data())
    def another_process_terminates(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.vms)))
        for names in (self.vms, self.specified, self.joined, self.closing):
            names.discard(name)

    @precondition(lambda self: self.vms)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        self.joined.add(data.draw(st.sampled_from(sorted(self.vms))))

    @invariant()
    def no_node_that_leaves_is_specified(self) -> None:
        assert not self.targets.leaving & self.specified & self.vms


TestGroupTargets = SimulatedCluster.TestCase
TestGroupTargets.settings = settings(stateful_step_count=20)


def test_nodes_in_group() -> None:
    names = ["cpu", "cpu-0", "cpu-1-0", "gpu-0", "scheduler", 0, None, "cpu-01"]
    assert nodes_in_group(names, "cpu") == ["cpu-0"]
    assert nodes_in_group(names, "cpu-1") == ["cpu-1-0"]
