"""States for tests of the store: small ones, and any that Hypothesis generates."""

import textwrap
from typing import Any

from hypothesis import strategies as st

from planapply.model.node import NodeConfig
from planapply.model.state import TLS, Choice, Endpoint, Intent, NodeRecord, Resource, State
from planapply.store import LockInfo


def state(serial: int = 1, **fields: Any) -> State:
    """Return a state of one and the same cluster."""
    return State(
        **{"lineage": "11111111-aaaa", "cluster": "demo", "provider": "local"} | fields,
        serial=serial,
    )


def format_error(error: BaseException, **names: object) -> str:
    """Return an error as a user sees it, in 90 columns; `names` replace values that vary."""
    text = str(error)
    for name, value in names.items():
        text = text.replace(str(value), name)
    return "\n".join(
        textwrap.fill(line, 90, break_on_hyphens=False, break_long_words=False)
        for line in text.splitlines()
    )


def format_lock_error(error: BaseException, info: LockInfo) -> str:
    """Return an error that describes a lock holder; see `format_error`."""
    since = info.created.replace("T", " ").replace("+00:00", " UTC")
    return format_error(error, PID=f" {info.pid}", ID=info.id, WHO=info.who, SINCE=since).replace(
        "PID", " PID"
    )


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_number = st.floats() | st.integers(-(2**63), 2**64)
_anything = st.recursive(
    st.none() | st.booleans() | _number | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_details = st.dictionaries(_text, _anything, max_size=3)
_maybe = st.none() | _text
_tags = st.dictionaries(_text, _text, max_size=2)
_names = st.lists(_text, max_size=3)
_configs = st.builds(
    NodeConfig,
    group=_text,
    cls=_text,
    options=_details,
    processes=st.integers(1, 9),
    size=_names.map(tuple),
    spot=st.booleans() | st.just("prefer"),
    ttl=st.none() | st.floats(0, 1e9),
    tags=_tags,
)
_records = st.builds(
    NodeRecord,
    vm=_text,
    config=_text,
    batch=_text,
    status=st.sampled_from(["launched", "joined", "terminating"]),
    private_address=_maybe,
    port=st.none() | st.integers(0, 65535),
    launched_at=st.none() | st.floats(0, 1e10),
    tags=_tags,
)
_intents = st.builds(
    Intent,
    names=_names,
    config=_text,
    choice=st.builds(Choice, size=_maybe, zone=_maybe, spot=st.booleans()),
    scheduler_address=_maybe,
    requested_at=st.floats(0, 1e10),
)
states = st.builds(
    State,
    planapply_version=_text,
    lineage=_text,
    serial=st.integers(0, 2**40),
    cluster=_text,
    provider=_text,
    cloud=_tags,
    settings=_details,
    tls=st.none() | st.builds(TLS, certificate=_text, key=_text),
    endpoint=st.none() | st.builds(Endpoint, private=_text, public=_maybe, dashboard=_maybe),
    configs=st.dictionaries(_text, _configs, max_size=2),
    nodes=st.dictionaries(_text, _records, max_size=3),
    intents=st.dictionaries(_text, _intents, max_size=2),
    resources=st.dictionaries(
        _text, st.builds(Resource, kind=_text, id=_maybe, detail=_details), max_size=2
    ),
    pins=_details,
    next_index=st.dictionaries(_text, st.integers(0, 10**6), max_size=2),
)
