"""What may replace a state by hand."""

import pytest
from inline_snapshot import snapshot
from store.samples import state, wrapped

from planapply.store import StateError, check_push


def test_the_same_or_a_later_one_may() -> None:
    check_push(None, state(7))
    check_push(state(6), state(7))
    check_push(state(7), state(7))


def test_another_lineage_may_not() -> None:
    with pytest.raises(StateError) as httpstub:
        check_push(state(6), state(9, lineage="2222", cluster="other"))
    assert wrapped(httpstub.value) == snapshot("""\
the file is of another state
It is of cluster "other" (lineage 2222), the state in place of cluster "demo" (lineage
11111111-aaaa). Replacing one by the other would forget VMs. Push it to a place of its own
with --state.\
""")


def test_an_older_one_may_not() -> None:
    with pytest.raises(StateError) as httpstub:
        check_push(state(6), state(5))
    assert wrapped(httpstub.value) == snapshot("""\
the file is older than the state in place
The file has serial 5, the state serial 6. Replacing it would forget what happened since.
Run `planapply plan`: VMs that the state doesn't know are found by their tags.\
""")


def test_another_one_of_the_same_serial_may_not() -> None:
    with pytest.raises(StateError) as httpstub:
        check_push(state(6), state(6, pins={"image": "ami-1"}))
    assert wrapped(httpstub.value) == snapshot("""\
the file is as old as, but not the same as, the state in place
The file has serial 6, the state serial 6. Replacing it would forget what happened since.
Run `planapply plan`: VMs that the state doesn't know are found by their tags.\
""")
