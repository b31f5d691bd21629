"""Durations and sizes mean what they mean to Dask."""

import dask.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planapply.model.quantities import LARGEST, LONGEST, SMALLEST, seconds, size_in_bytes

NUMBERS = st.one_of(
    st.integers(1, 10**6).map(str), st.floats(0.001, 1e6).map(repr), st.sampled_from(["1e3", "2."])
)
SPACES = st.sampled_from(["", " ", "  "])


@given(NUMBERS, SPACES, st.sampled_from([*dask.utils.timedelta_sizes, "s"]))
def test_a_duration_is_dasks(number: str, space: str, unit: str) -> None:
    expected = dask.utils.parse_timedelta(f"{number}{space}{unit}")
    if 0 < expected <= LONGEST:
        assert seconds(f"{number}{space}{unit}") == pytest.approx(expected)
    else:
        with pytest.raises(ValueError, match="at most 10 years"):
            seconds(f"{number}{space}{unit}")


@given(NUMBERS, SPACES, st.sampled_from(list(dask.utils.byte_sizes)), st.booleans())
def test_a_size_is_dasks(number: str, space: str, unit: str, upper: bool) -> None:
    text = f"{number}{space}{unit.upper() if upper else unit}"
    expected = dask.utils.parse_bytes(text)
    if SMALLEST <= expected <= LARGEST:
        assert size_in_bytes(text) == pytest.approx(expected, rel=1e-9)
    else:
        with pytest.raises(ValueError, match="at least 1 MiB"):
            size_in_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30 min", 1800), ("1 minute", 60), ("12 h", 43200), ("10 mins", 600), (90, 90), (1.5, 1.5)],
)
def test_what_a_spec_says(text: object, expected: float) -> None:
    assert seconds(text) == expected


@given(st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.binary()))
def test_anything_else_is_a_value_error_that_says_what_to_write(value: object) -> None:
    for parse in (seconds, size_in_bytes):
        try:
            parse(value)
        except ValueError as error:
            assert "Write a number and a unit" in str(error).partition("\n")[2]


def test_a_bare_number_is_no_disk() -> None:
    with pytest.raises(ValueError, match="at least 1 MiB"):
        size_in_bytes(100)
    assert size_in_bytes(100 << 30) == 100 << 30
