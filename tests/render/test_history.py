"""The history as people and programs read it."""

import json

from inline_snapshot import snapshot

from planapply.model.history import CLUSTER_CHANGE, History, PastChange, Spend
from planapply.render.history import history_document, history_lines
from planapply.render.text import to_plain_text

NOON = 1772452800.0  # 2026-03-02 12:00 UTC
FOUND = History(
    cluster="genomics",
    changes=[
        PastChange(
            started_at=NOON,
            who="ann@laptop",
            pid=7,
            lock="0a1b2c3d",
            what="apply",
            added=22,
            seconds=131.2,
            usd_per_hour=12.8,
            outcome="done",
        ),
        PastChange(
            started_at=NOON + 3600,
            who="ci-runner-with-a-long-name@github-runner-1234.internal.example.com",
            what="apply --target 'cpu-[0-9]' --replace cpu-3 --replace cpu-4 --replace cpu-5",
            added=3,
            changed=7,
            destroyed=3,
            seconds=4000,
            usd_per_hour=12.8,
            unknown_prices=["x9.huge"],
            outcome="incomplete",
        ),
        PastChange(
            started_at=NOON + 7200,
            who="ann@laptop",
            pid=7,
            what=CLUSTER_CHANGE,
            group="cpu",
            times=12,
            added=8,
            destroyed=8,
            seconds=240,
            usd_per_hour=12.8,
            outcome="done",
        ),
        PastChange(
            started_at=NOON + 7300,
            who="eve\u202e\x1b]0;x\x07@host",
            what="destroy",
            destroyed=4,
            seconds=3,
            unknown_prices=["x9.huge"],
            outcome="interrupted",
        ),
    ],
    spend=Spend(usd=40.2, until=NOON + 7303, at_least=True),
)


def shown(history: History, width: int | None) -> str:
    text = to_plain_text(history_lines(history, width))
    assert width is None or max(map(len, text.splitlines())) <= width
    return text


def test_history_in_80_columns() -> None:
    assert shown(FOUND, 80) == snapshot("""\
Changes of cluster "genomics":

  WHEN (UTC)        CHANGES   TIME     USD/H     OUTCOME      WHAT      WHO
  2026-03-02 12:00  +22       2:11     12.80     done         apply     ann@lap…
  2026-03-02 13:00  +3 ~7 -3  1:06:40  >= 12.80  incomplete   apply -…  ci-runn…
  2026-03-02 14:00  +8 -8     4:00     12.80     done         Cluster…  ann@lap…
  2026-03-02 14:01  -4        0:03     unknown   interrupted  destroy   eve??]0…

Cost so far: at least 40.20 USD (as of 2026-03-02 14:01:43 UTC)
""")


def test_history_in_120_columns() -> None:
    assert shown(FOUND, 120) == snapshot("""\
Changes of cluster "genomics":

  WHEN (UTC)        CHANGES   TIME     USD/H     OUTCOME      WHAT                          WHO
  2026-03-02 12:00  +22       2:11     12.80     done         apply                         ann@laptop
  2026-03-02 13:00  +3 ~7 -3  1:06:40  >= 12.80  incomplete   apply --target 'cpu-[0-9]' …  ci-runner-with-a-long-name@…
  2026-03-02 14:00  +8 -8     4:00     12.80     done         Cluster cpu (12 times)        ann@laptop
  2026-03-02 14:01  -4        0:03     unknown   interrupted  destroy                       eve??]0;x?@host

Cost so far: at least 40.20 USD (as of 2026-03-02 14:01:43 UTC)
""")


def test_history_in_a_pipe_shortens_nothing() -> None:
    assert shown(FOUND, None) == snapshot("""\
Changes of cluster "genomics":

  WHEN (UTC)        CHANGES   TIME     USD/H     OUTCOME      WHAT                                                                        WHO
  2026-03-02 12:00  +22       2:11     12.80     done         apply                                                                       ann@laptop
  2026-03-02 13:00  +3 ~7 -3  1:06:40  >= 12.80  incomplete   apply --target 'cpu-[0-9]' --replace cpu-3 --replace cpu-4 --replace cpu-5  ci-runner-with-a-long-name@github-runner-1234.internal.example.com
  2026-03-02 14:00  +8 -8     4:00     12.80     done         Cluster cpu (12 times)                                                      ann@laptop
  2026-03-02 14:01  -4        0:03     unknown   interrupted  destroy                                                                     eve??]0;x?@host

Cost so far: at least 40.20 USD (as of 2026-03-02 14:01:43 UTC)
""")


def test_history_without_prices_has_no_costs() -> None:
    changes = [
        change.model_copy(update={"usd_per_hour": None, "unknown_prices": []})
        for change in FOUND.changes[:1]
    ]
    assert shown(History(cluster="genomics", changes=changes), 80) == snapshot("""\
Changes of cluster "genomics":

  WHEN (UTC)        CHANGES  TIME  OUTCOME  WHAT   WHO
  2026-03-02 12:00  +22      2:11  done     apply  ann@laptop
""")


def test_a_state_of_an_older_version_has_no_history() -> None:
    assert shown(History(cluster="genomics", changes=[]), 80) == snapshot(
        'The state of cluster "genomics" records no changes.\n'
    )


def test_document() -> None:
    few = FOUND.model_copy(update={"changes": FOUND.changes[1:2]})
    assert json.dumps(history_document(few), indent=1) == snapshot("""\
{
 "format_version": 2,
 "cluster": "genomics",
 "changes": [
  {
   "time": "2026-03-02T13:00:00Z",
   "who": "ci-runner-with-a-long-name@github-runner-1234.internal.example.com",
   "pid": 0,
   "what": "apply --target 'cpu-[0-9]' --replace cpu-3 --replace cpu-4 --replace cpu-5",
   "group": "",
   "times": 1,
   "added": 3,
   "changed": 7,
   "destroyed": 3,
   "seconds": 4000.0,
   "usd_per_hour": 12.8,
   "unknown_prices": [
    "x9.huge"
   ],
   "outcome": "incomplete"
  }
 ],
 "cost": {
  "usd": 40.2,
  "until": "2026-03-02T14:01:43Z",
  "at_least": true,
  "at_most": false
 }
}\
""")
