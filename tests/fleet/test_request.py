"""Splitting names into batches."""

from hypothesis import given
from hypothesis import strategies as st

from planapply.fleet.request import MAX_TAG_LENGTH, split_batches
from planapply.model.names import to_ranges


@given(st.sets(st.integers(0, 99_999), max_size=300), st.integers(1, 100))
def test_batches_are_limited_and_their_names_fit_a_tag(indexes: set[int], most: int) -> None:
    names = [f"group-{index}" for index in indexes]
    batches = list(split_batches(names, most))
    assert [name for batch in batches for name in batch] == names
    assert all(0 < len(batch) <= most for batch in batches)
    assert all(len(" ".join(to_ranges(batch))) <= MAX_TAG_LENGTH for batch in batches)


def test_consecutive_names_are_one_batch() -> None:
    names = [f"cpu-{index}" for index in range(1000)]
    assert [len(batch) for batch in split_batches(names, 400)] == [400, 400, 200]
    assert list(split_batches([], 5)) == []
