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
the file is of another state
It is of cluster "other" (lineage 2222), the state in place of cluster "demo" (lineage
11111111-aaaa). Replacing one by the other would forget VMs. Push it to a place of its own
with --state.\
""")


def test_older_state_is_refused() -> None:
    with pytest.raises(StateError) as raised:
        check_push(state(6), state(5))
    assert format_error(raised.value) == snapshot("""\
the file is older than the state in place
The file has serial 5, the state serial 6. Replacing it would forget what happened since.
Run `planapply plan`: VMs that the state doesn't know are found by their tags.\
""")


def test_different_state_of_the_same_serial_is_refused() -> None:
    with pytest.raises(StateError) as raised:
        check_push(state(6), state(6, pins={"image": "ami-1"}))
    assert format_error(raised.value) == snapshot("""\
the file is as old as, but not the same as, the state in place
The file has serial 6, the state serial 6. Replacing it would forget what happened since.
Run `planapply plan`: VMs that the state doesn't know are found by their tags.\
""")
