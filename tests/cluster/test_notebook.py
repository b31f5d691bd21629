"""HTML and reprs of a cluster, its nodes, and its spec."""

import re
from pathlib import Path

import pytest
from cluster.conftest import SPEC, Open
from cluster.helpers import wait_until
from cluster.inprocess import Cloud
from distributed.core import Status
from inline_snapshot import snapshot

from planapply import Cluster, load_spec
from planapply.api.summary import records_of
from planapply.fleet import PriceList
from planapply.model.diagnostics import PlanapplyError
from planapply.provider import Price
from planapply.render.cluster import ClusterSummary, GroupSummary, cluster_html

GROUPS = (
    SPEC.replace("min = 0", "min = 1").replace("nthreads = 1 }", "nthreads = 1 }\nprocesses = 2")
    + '[workers.io]\ncount = 2\nclass = "distributed.Worker"\n'
)


def rows(html: str) -> list[list[str]]:
    """Return the texts of the first table's rows."""
    found = re.search("<tbody>(.*?)</tbody>", html)
    assert found
    return [re.findall("<td[^>]*>(.*?)</td>", row) for row in found[1].split("</tr>")[:-1]]


def test_html_distinguishes_nodes_and_workers(cloud: Cloud, applied: Open) -> None:
    workspace = applied(GROUPS)
    with Cluster.adopt(workspace) as cluster:
        html = cluster._repr_html_()
        assert "Group</th>" in html
        assert "Dask workers</th>" in html
        assert rows(html) == [
            ["cpu", "1 of 1 joined", "2 of 2 joined", "min 1, max 8"],
            ["io", "2 of 2 joined", "2 of 2 joined", "count 2"],
        ]
        assert f"<b>State:</b> {workspace.store.location}</p>" in html
        assert f'<a href="{cluster.dashboard_link}" target="_blank">' in html
        assert "<b>Cost:</b> none<br>" in html
        cloud.remove_vm("io-0")
        wait_until(lambda: "io-0" not in cluster.workers)
        # The lost node is still desired, since its group has a count.
        assert rows(cluster._repr_html_())[1][1:3] == ["1 of 2 joined", "1 of 2 joined"]
    assert "<b>Status:</b> closed<br>" in cluster._repr_html_()


def test_html_of_a_cluster_without_a_dashboard(applied: Open) -> None:
    spec = GROUPS + "[scheduler]\noptions = { dashboard = false }\n"
    with Cluster.adopt(applied(spec)) as cluster:
        assert "<b>Dashboard:</b> none<br>" in cluster._repr_html_()


class Prices:
    """A provider's client with prices, which fails for the first request."""

    has_prices = costs_money = True
    requests = 0

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        self.requests += 1
        if self.requests == 1:
            raise PlanapplyError("the cloud does not answer")
        return Price(0.25, "list prices")


def test_cost_is_shown_without_a_request(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(GROUPS)) as cluster:
        context, prices = cluster._context, Prices()
        context.prices = PriceList(prices)  # type: ignore[arg-type]
        context.load_prices(records_of(cluster))
        unknown = "<b>Cost:</b> unknown (no price known for the default size)<br>"
        assert unknown in cluster._repr_html_()
        assert prices.requests == 1
        context.load_prices(records_of(cluster))
        assert "<b>Cost:</b> 1.00 USD/h (list prices)<br>" in cluster._repr_html_()
        assert prices.requests == 2


def test_handles_have_a_readable_repr(cloud: Cloud, applied: Open) -> None:
    with Cluster.adopt(applied(GROUPS)) as cluster:
        handle, scheduler = cluster.workers["io-0"], cluster.scheduler
        assert repr(handle) == f"<VMWorker io-0: running, {cloud.vm('io-0').id}>"
        assert repr(scheduler) == (
            f"<VMScheduler scheduler: running, {cloud.vm('scheduler').id}, {scheduler.address}>"
        )
        assert handle._repr_html_() == (
            f"<p><b>VMWorker io-0:</b> running<br><b>VM:</b> {cloud.vm('io-0').id}</p>"
        )
        handle.release()
        assert handle.status == Status.closed
        assert repr(handle).startswith("<VMWorker io-0: closed")


def test_spec_has_a_readable_repr_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "zoo.toml"
    path.write_text(
        """
[cluster]
name = "zoo"
state = "s3://bucket/zoo.json"

[environment]
env = { API_TOKEN = "s3cret" }

[workers.cpu]
count = 3

[workers.burst]
max = 8
"""
    )
    with pytest.warns(UserWarning, match="`API_TOKEN` looks like a credential"):
        spec = load_spec(path)
    assert (
        repr(spec)
        == str(spec)
        == snapshot(
            "LoadedSpec(cluster='zoo', provider='local', workers={'cpu': 'count 3', 'burst': 'min 0, max 8'}, state='s3://bucket/zoo.json')"
        )
    )


def test_everything_is_escaped() -> None:
    text = "<script>"
    html = cluster_html(
        ClusterSummary(
            title=text,
            name=text,
            status=text,
            location=text,
            groups=[GroupSummary(text, 1, 2, 1, 2, text, text)],
            threads=1,
            memory=text,
            cost=text,
            scheduler=text,
            dashboard=f"javascript:{text}",
            state=f"https://me:s3cret@host/{text}",
        ),
        "<details>",
    )
    assert text not in html
    assert "s3cret" not in html
    assert "href" not in html
