"""Wrapping of prose."""

from hypothesis import given
from hypothesis import strategies as st

from planapply.render.text import display_width, wrap

WORDS = st.text("ab-", min_size=1, max_size=9)
CODE = st.lists(WORDS, min_size=1, max_size=6).map(lambda words: f"`{' '.join(words)}`,")


@given(st.lists(WORDS | CODE, min_size=1, max_size=20), st.integers(20, 60))
def test_inline_code_is_never_wrapped(parts: list[str], width: int) -> None:
    lines = wrap(" ".join(parts), width, "  ")
    assert " ".join(line.removeprefix("  ") for line in lines) == " ".join(parts)
    for line in lines:
        assert line.count("`") % 2 == 0
        assert display_width(line) <= width or line.strip() in parts


def test_command_stays_on_one_line() -> None:
    text = "Wait with --lock-timeout; or run `planapply unlock 1a2b --state demo.json`, then plan."
    assert wrap(text, 40) == [
        "Wait with --lock-timeout; or run",
        "`planapply unlock 1a2b --state demo.json`,",
        "then plan.",
    ]
