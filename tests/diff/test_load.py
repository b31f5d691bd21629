"""An elastic group that follows the load: when it grows, and which nodes leave it."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from planapply.diff.load import ElasticGroup, Load, Resize, follow_load
from planapply.model.names import worker_names

OTHERS = ["io-0", "io-1", "a worker of no node"]


def cluster(nodes: int, processes: int = 1, **options: int) -> ElasticGroup:
    names = frozenset(f"cpu-{i}" for i in range(nodes))
    return ElasticGroup(
        nodes=names, processes=processes, **{"min": 0, "max": 8, "idle": 10, **options}
    )


def load(target: int, joined: list[str], closable: list[str] | None = None) -> Load:
    return Load(target, frozenset(joined), frozenset(joined if closable is None else closable))


def test_group_grows_at_once_within_its_bounds() -> None:
    def added(target: int, group: ElasticGroup, joined: list[str]) -> int:
        return follow_load(group, load(target, joined), {}, 0.0)[1].add

    assert added(0, cluster(0), []) == 0
    assert added(3, cluster(0), []) == 3
    assert added(99, cluster(0), []) == 8
    assert added(0, cluster(0, min=2), []) == 2
    assert added(5, cluster(2), ["cpu-0", "cpu-1"]) == 3
    # Nodes that boot are counted.
    assert added(5, cluster(4), ["cpu-0", "cpu-1"]) == 1
    assert added(2, cluster(4), ["cpu-0", "cpu-1"]) == 0
    # The workers of other groups are not this group's.
    assert added(7, cluster(1), ["cpu-0", *OTHERS]) == 3
    # A node has several workers, or, before there is any, several threads.
    pair = worker_names("cpu-0", 2)
    assert added(7, cluster(1, processes=2), pair) == 3
    assert added(7, cluster(0, processes=2), []) == 4
    assert added(7, cluster(0, processes=2, threads=4), []) == 2


def test_idle_nodes_leave_after_their_time() -> None:
    group = cluster(3, min=1)
    joined = ["cpu-0", "cpu-1", "cpu-2", *OTHERS]
    since: dict[str, float] = {}

    def step(now: float, closable: list[str], target: int = 1) -> Resize:
        nonlocal since
        since, resize = follow_load(group, load(target, joined, closable), since, now)
        return resize

    assert not step(0.0, ["cpu-0", "cpu-1"])
    assert not step(5.0, ["cpu-0", "cpu-1", "cpu-2", "io-0"])
    assert not step(9.0, ["cpu-1", "cpu-2"])  # cpu-0 works again
    assert step(10.0, ["cpu-0", "cpu-1", "cpu-2"]) == Resize(remove=("cpu-1",))
    assert step(15.0, ["cpu-0", "cpu-1", "cpu-2"]) == Resize(remove=("cpu-1", "cpu-2"))
    # One stays, and none leaves while all are required.
    assert step(90.0, ["cpu-0", "cpu-1", "cpu-2"]) == Resize(remove=("cpu-1", "cpu-2"))
    assert not step(90.0, ["cpu-0", "cpu-1", "cpu-2"], target=6)


def test_a_node_with_one_busy_worker_stays() -> None:
    group = cluster(2, processes=2, idle=0)
    joined = [*worker_names("cpu-0", 2), *worker_names("cpu-1", 2)]
    idle = ["cpu-0-0", "cpu-1-0", "cpu-1-1"]
    assert follow_load(group, load(1, joined, idle), {}, 0.0)[1] == Resize(remove=("cpu-1",))


@st.composite
def stories(draw: st.DrawFn) -> tuple[ElasticGroup, list[Load]]:
    processes = draw(st.integers(1, 3))
    least = draw(st.integers(0, 4))
    group = cluster(draw(st.integers(0, 6)), processes, min=least, max=draw(st.integers(least, 8)))
    names = [w for node in sorted(group.nodes) for w in worker_names(node, processes)]
    workers = st.frozensets(st.sampled_from([*names, *OTHERS]))
    loads = []
    for _ in range(draw(st.integers(1, 6))):
        joined = draw(workers)
        loads.append(Load(draw(st.integers(0, 40)), joined, joined & draw(workers)))
    return group, loads


@given(stories())
def test_what_holds_for_every_load(story: tuple[ElasticGroup, list[Load]]) -> None:
    group, loads = story
    since: Mapping[str, float] = {}
    for now, seen in enumerate(loads):
        since, resize = follow_load(group, seen, since, now * 4.0)
        assert not (resize.add and resize.remove)
        size = len(group.nodes) + resize.add - len(resize.remove)
        if resize.add:
            assert group.min <= size <= group.max
        if resize.remove:
            assert size >= group.min
            assert seen.target < len(seen.workers)
        for node in resize.remove:
            recent = [past for i, past in enumerate(loads[: now + 1]) if (now - i) * 4.0 <= 12]
            assert len(recent) == 4  # 12 seconds, the first multiple of 4 after `idle`
            for past in recent:
                joined = past.workers.intersection(worker_names(node, group.processes))
                assert joined
                assert joined <= past.closable
