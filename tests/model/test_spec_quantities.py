"""Durations and sizes have the same meaning as in Dask."""

import dask.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planapply.model.quantities import MAX_DURATION, MAX_SIZE, MIN_SIZE, parse_duration, parse_size

NUMBERS = st.one_of(
    st.integers(1, 10**6).map(str), st.floats(0.001, 1e6).map(repr), st.sampled_from(["1e3", "2."])
)
SPACES = st.sampled_from(["", " ", "  "])


@given(NUMBERS, SPACES, st.sampled_from([*dask.utils.timedelta_sizes, "s"]))
def test_durations_parse_as_in_dask(number: str, space: str, unit: str) -> None:
    expected = dask.utils.parse_timedelta(f"{number}{space}{unit}")
    if 0 < expected <= MAX_DURATION:
        assert parse_duration(f"{number}{space}{unit}") == pytest.approx(expected)
    else:
        with pytest.raises(ValueError, match="at most 10 years"):
            parse_duration(f"{number}{space}{unit}")


@given(NUMBERS, SPACES, st.sampled_from(list(dask.utils.byte_sizes)), st.booleans())
def test_sizes_parse_as_in_dask(number: str, space: str, unit: str, upper: bool) -> None:
    text = f"{number}{space}{unit.upper() if upper else unit}"
    expected = dask.utils.parse_bytes(text)
    if MIN_SIZE <= expected <= MAX_SIZE:
        assert parse_size(text) == pytest.approx(expected, rel=1e-9)
    else:
        with pytest.raises(ValueError, match="between 1 MiB"):
            parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30 min", 1800), ("1 minute", 60), ("12 h", 43200), ("10 mins", 600), (90, 90), (1.5, 1.5)],
)
def test_quantities_in_a_spec(text: object, expected: float) -> None:
    assert parse_duration(text) == expected


@given(st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.binary()))
def test_invalid_quantity_raises_with_an_example(value: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            parse(value)
        except ValueError as error:
            assert "Write a number and a unit" in str(error).partition("\n")[2]


def test_disk_without_a_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 MiB"):
        parse_size(100)
    assert parse_size(100 << 30) == 100 << 30
