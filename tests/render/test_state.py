"""A state as `planapply show` prints it."""

import json

from inline_snapshot import snapshot
from pydantic import SecretStr

from planapply.model.node import NodeConfig
from planapply.model.state import TLS, Choice, Endpoint, Intent, NodeRecord, Resource, State
from planapply.render.state import state_document, state_lines
from planapply.render.text import to_plain_text

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny", size=("m7i.large",))


def record(number: int) -> NodeRecord:
    return NodeRecord(
        vm=f"i-{number}",
        config=CONFIG.digest,
        batch="b",
        private_address=f"10.0.0.{number}",
        public_address="54.1.2.3" if number == 0 else None,
        size="m7i.large",
        zone="eu-west-1a",
        spot=number > 0,
        launched_at=1_740_916_800.0 + number,
        status="joined" if number < 2 else "launched",
    )


STATE = State(
    lineage="5a1e1d38-0d0c-4d8e-9d0c-2f1f6f7f8f9f",
    serial=12,
    cluster="genomics",
    provider="ec2",
    cloud={"account": "123456789012", "region": "eu-west-1"},
    settings={"region": "eu-west-1", "allow_from": ["me"]},
    tls=TLS(certificate="-----BEGIN CERTIFICATE-----", key=SecretStr("-----BEGIN PRIVATE KEY")),
    endpoint=Endpoint(
        private="tls://10.0.0.0:8786",
        public="tls://54.1.2.3:8786",
        dashboard="http://54.1.2.3:8787/status",
    ),
    configs={CONFIG.digest: CONFIG},
    nodes={"cpu-10": record(2), "scheduler": record(0), "cpu-2": record(1)},
    intents={
        "t": Intent(
            names=["cpu-3", "cpu-4"],
            config=CONFIG.digest,
            choice=Choice(),
            requested_at=1_740_916_800.0,
        )
    },
    resources={"security-group": Resource(kind="security_group", id="sg-1")},
    pins={"image": "ami-1"},
    protect=True,
)


def test_complete_state() -> None:
    assert to_plain_text(state_lines(STATE)) == snapshot("""\
Cluster "genomics" (ec2, account 123456789012, eu-west-1)
Lineage 5a1e1d38-0d0c-4d8e-9d0c-2f1f6f7f8f9f, serial 12

  scheduler   joined     i-0   54.1.2.3  10.0.0.0   m7i.large  eu-west-1a         2025-03-02 12:00:00 UTC
  cpu-2       joined     i-1   10.0.0.1             m7i.large  eu-west-1a  spot   2025-03-02 12:00:01 UTC
  cpu-10      launched   i-2   10.0.0.2             m7i.large  eu-west-1a  spot   2025-03-02 12:00:02 UTC

Requested, result unknown:   cpu-[3-4]   2025-03-02 12:00:00 UTC
security-group:              security_group sg-1
Scheduler, for the nodes:    tls://10.0.0.0:8786
Scheduler, for clients:      tls://54.1.2.3:8786
Dashboard:                   http://54.1.2.3:8787/status
TLS:                         one key pair for all nodes and clients, key (hidden)
provider.region:             "eu-west-1"
provider.allow_from:         ["me"]
Pinned image:                "ami-1"
Protected:                   no node can be destroyed or replaced
""")


def test_empty_state() -> None:
    assert to_plain_text(
        state_lines(State(lineage="l", cluster="c", provider="local"))
    ) == snapshot("""\
Cluster "c" (local)
Lineage l, serial 0
""")


def test_key_is_in_no_output() -> None:
    document = state_document(STATE)
    assert document["tls"] == {"certificate": "-----BEGIN CERTIFICATE-----", "key": "(hidden)"}
    assert "PRIVATE" not in json.dumps(document) + to_plain_text(state_lines(STATE))
    assert document["serial"] == 12
    assert document["nodes"]["cpu-2"]["vm"] == "i-1"
