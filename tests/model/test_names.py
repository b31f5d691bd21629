"""Names as ranges, in both forms."""

from hypothesis import given
from hypothesis import strategies as st

from planapply.model.names import (
    format_names,
    from_ranges,
    name_at,
    node_name,
    to_hostlist,
    to_ranges,
)

NAMES = st.lists(
    st.builds(node_name, st.sampled_from(["cpu", "gpu-a", "a-"]), st.integers(0, 12))
    | st.just("scheduler"),
    unique=True,
)


@given(NAMES)
def test_ranges_round_trip_names_in_order(names: list[str]) -> None:
    assert from_ranges(to_ranges(names)) == names
    assert from_ranges(to_hostlist(names)) == names


@given(NAMES, st.integers(-2, 15))
def test_name_at_returns_the_name_at_an_index(names: list[str], place: int) -> None:
    expected = names[place] if 0 <= place < len(names) else None
    assert name_at(to_ranges(names), place) == expected
    assert name_at(to_hostlist(names), place) == expected


def test_people_and_files_get_different_forms() -> None:
    names = ["cpu-1", "scheduler", "cpu-0", "gpu-a-7"]
    assert format_names(names) == "scheduler, cpu-[0-1], gpu-a-7"
    assert to_ranges(sorted(names)) == ["cpu-[0..1]", "gpu-a-7", "scheduler"]
