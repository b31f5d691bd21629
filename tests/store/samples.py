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
_plain = _text.filter(str.isprintable)
_nonempty = _plain.filter(bool)
_node_names = st.just("scheduler") | st.builds("cpu-{}".format, st.integers(0, 10**9))
_hosts = st.from_regex(r"\A[A-Za-z0-9:._%-]{1,12}\Z")
_ports = st.integers(1, 65535)
_addresses = st.builds("{}://{}:{}".format, st.sampled_from(["tcp", "tls"]), _hosts, _ports)
_number = st.floats() | st.integers(-(2**63), 2**64)
_anything = st.recursive(
    st.none() | st.booleans() | _number | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_details = st.dictionaries(_text, _anything, max_size=3)
_plain_details = st.dictionaries(_plain, _anything, max_size=3)
_maybe = st.none() | _plain
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
    vm=_nonempty,
    config=_plain,
    batch=_text,
    status=st.sampled_from(["launched", "joined", "terminating"]),
    private_address=st.none() | _hosts,
    port=st.none() | _ports,
    launched_at=st.none() | st.floats(0, 1e10),
    tags=_tags,
)
_intents = st.builds(
    Intent,
    names=st.lists(_node_names, max_size=3),
    config=_plain,
    choice=st.builds(Choice, size=_maybe, zone=_maybe, spot=st.booleans()),
    scheduler_address=st.none() | _addresses,
    requested_at=st.floats(0, 1e10),
)
states = st.builds(
    State,
    planapply_version=_text,
    lineage=_plain,
    serial=st.integers(0, 2**40),
    cluster=_nonempty,
    provider=_nonempty,
    cloud=st.dictionaries(_plain, _plain, max_size=2),
    settings=_plain_details,
    tls=st.none() | st.builds(TLS, certificate=_text, key=_text),
    endpoint=st.none()
    | st.builds(
        Endpoint,
        private=_addresses,
        public=st.none() | _addresses,
        dashboard=st.none() | st.builds("http://{}:{}/status".format, _hosts, _ports),
    ),
    configs=st.dictionaries(_plain, _configs, max_size=2),
    nodes=st.dictionaries(_node_names, _records, max_size=3),
    intents=st.dictionaries(_plain, _intents, max_size=2),
    resources=st.dictionaries(
        _plain,
        st.builds(Resource, kind=_nonempty, id=st.none() | _nonempty, detail=_details),
        max_size=2,
    ),
    pins=_plain_details,
    next_index=st.dictionaries(_text, st.integers(0, 10**6), max_size=2),
)
