"""The check of `state push`."""

import pytest
from inline_snapshot import snapshot
from store.samples import format_error, state

from planapply.store import StateError, check_push


def test_equal_or_later_state_is_accepted() -> None:
    check_push(None, state(7))
    check_push(state(6), state(7))
    check_push(state(7), state(7))


def test_another_lineage_is_refused() -> None:
    with pytest.raises(StateError) as raised:
        check_push(state(6), state(9, lineage="2222", cluster="other"))
    assert format_error(raised.value) == snapshot("""\
cannot replace the state: the file is the state of a different cluster
The file belongs to cluster "other" (lineage 2222), the state to cluster "demo" (lineage
11111111-aaaa). Replacing the state would lose track of its VMs. Push the file to another
location with --state.\
""")


def test_older_state_is_refused() -> None:
    with pytest.raises(StateError) as raised:
        check_push(state(6), state(5))
    assert format_error(raised.value) == snapshot("""\
cannot replace the state: the file is older
The file has serial 5, and the state has serial 6. Replacing the state would lose track of
later changes. Run `planapply plan`: it finds VMs that are missing from the state by their
tags.\
""")


def test_different_state_of_the_same_serial_is_refused() -> None:
    with pytest.raises(StateError) as raised:
        check_push(state(6), state(6, pins={"image": "ami-1"}))
    assert format_error(raised.value) == snapshot("""\
cannot replace the state: the file has the same serial, but different content
Both have serial 6. Replacing the state would lose track of later changes. Run `planapply
plan`: it finds VMs that are missing from the state by their tags.\
""")
