"""`max_cost` binds at launch, and never prevents a change that lowers the cost."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli import fake_plugin
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.model.node import NodeConfig
from planapply.model.state import Choice
from planapply.provider import ErrorKind, LaunchRequest, LaunchResult, Price, ProviderError
from planapply.providerkit import make_alternatives

USD = {("small", False): 0.1, ("large", False): 0.5, ("large", True): 0.2, ("huge", False): 3.0}
SPOT_SPEC = SPEC.replace("count = 3", 'count = 2\nspot = "prefer"')


class Market(fake_plugin.Provider):
    """A provider with spot VMs, of which `available` can be launched."""

    available = 0

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        return make_alternatives(config)

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        return Price(USD.get((size or "", spot)), "list prices of 2025-03-02")

    def launch(self, request: LaunchRequest) -> LaunchResult:
        if request.choice.spot and len(request.names) > Market.available:
            raise ProviderError(ErrorKind.CAPACITY, "no spot capacity")
        return super().launch(request)


@pytest.fixture
def market(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    monkeypatch.setattr(Market, "available", 0)
    plugin = replace(fake_plugin.PLUGIN, connect=lambda settings: Market(cloud), costs_money=True)
    monkeypatch.setattr(fake_plugin, "PLUGIN", plugin)
    Path("planapply.toml").write_text(SPOT_SPEC)
    return cloud


def limit(usd: float, *more: str) -> list[str]:
    return ["--set", f"cluster.max_cost={usd}", *(w for m in more for w in ("--set", m))]


def apply(run: Run, *options: str) -> Any:
    # Nothing here is a real scheduler, which could move results.
    return run("apply", "--auto-approve", "--no-wait", "--no-retire", *options)


def without_times(err: str) -> str:
    return re.sub(r"(?m)^ +[\d:]+  ", "  ", err)


def test_plan_shows_expected_and_highest_cost(run: Run, market: FakeCloud) -> None:
    assert run("plan").out.splitlines()[-2:] == snapshot(
        [
            "Cost: 0.00 USD/h -> 0.50 USD/h, at most 1.10 USD/h (list prices of 2025-03-02)",
            "Not counted: disks, addresses, traffic.",
        ]
    )
    # No alternative that exceeds the limit is launched, so that is the highest cost.
    assert run("plan", *limit(0.8)).out.splitlines()[-2] == snapshot(
        "Cost: 0.00 USD/h -> 0.50 USD/h, at most 0.80 USD/h (list prices of 2025-03-02)"
    )
    cost = json.loads(run("plan", "--json", *limit(0.8)).out)["cost"]
    assert (cost["after"], cost["highest"], cost["limit"]) == (0.5, 0.8, 0.8)
    assert cost["not_counted"] == ["disks", "addresses", "traffic"]


def test_fallback_above_the_limit_is_not_launched(run: Run, market: FakeCloud) -> None:
    """Two spot VMs cost 0.40 USD/h; on demand they would cost 1.00."""
    result = apply(run, *limit(0.7))
    assert result.code == 1
    assert [vm.name for vm in market.live_vms()] == ["scheduler"]
    assert result.out.partition("\n\nApply ")[2] == snapshot("""\
incomplete: 1 added, 0 changed, 0 destroyed, 2 failed.
Failed: cpu-[0-1]. Run `planapply apply` again to retry.

scheduler_address = tcp://127.0.0.1:1
""")
    assert without_times(result.err) == snapshot("""\

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].
  scheduler: launching (small)
  scheduler: launched
  cpu-[0-1]: launching (large, spot)
  cpu-[0-1]: not trying large, on-demand: the cluster would cost 1.10 USD/h, more than `max_cost` (0.70)

Error: cpu-[0-1]: no spot capacity
  `max_cost` does not allow large, on-demand: the cluster would cost 1.10 USD/h, more than
  `max_cost` (0.70). Raise `max_cost` under [cluster], make the cluster smaller, or try again later.
""")
    # The limit leaves room for them now.
    assert apply(run, *limit(1.1)).code == 0
    assert sorted(vm.spot for vm in market.live_vms()) == [False, False, False]


def test_batches_at_once_share_the_limit(run: Run, market: FakeCloud) -> None:
    """Each of two groups alone would be within the limit."""
    more = '[workers.gpu]\ncount = 2\nsize = "large"\nspot = "prefer"\n'
    Path("planapply.toml").write_text(SPOT_SPEC + more)
    assert apply(run, *limit(1.2)).code == 1
    assert len(market.live_vms()) == 3
    assert "would cost 1.50 USD/h" in run("plan", *limit(1.2)).err


def test_what_lowers_the_cost_is_always_allowed(run: Run, market: FakeCloud) -> None:
    assert apply(run).code == 0  # 1.10 USD/h, on demand
    assert run("plan", *limit(0.7)).out.startswith("No changes.")
    assert run("plan", *limit(0.7, "workers.cpu.count=3")).err == snapshot("""\
Error: the cluster would cost 1.30 USD/h, more than `max_cost` (0.70)
  Make the cluster smaller, or raise `max_cost` under [cluster].
""")
    # A replacement that does not raise the cost, and a smaller cluster that still exceeds the limit.
    assert apply(run, *limit(0.7), "--replace", "cpu-0").code == 0
    assert len(market.live_vms()) == 3
    assert apply(run, *limit(0.5, "workers.cpu.count=1")).code == 0
    assert {vm.name for vm in market.live_vms()} == {"scheduler", "cpu-0"}
    assert run("destroy", "--auto-approve").code == 0


def test_vms_that_are_gone_are_not_counted(run: Run, market: FakeCloud) -> None:
    assert apply(run).code == 0
    market.end_vm(next(vm.id for vm in market.live_vms() if vm.name == "cpu-1"))
    cost = json.loads(run("plan", "--json").out)["cost"]
    assert (cost["before"], cost["after"], cost["highest"]) == (0.6, 0.8, 1.1)
    # With the VM that is gone, it would have been 1.10 before, and thus allowed.
    assert run("plan", *limit(0.7)).code == 1


def test_a_plan_marks_what_is_really_spot(run: Run, market: FakeCloud) -> None:
    """Of nodes that prefer spot VMs, one group got them and the other did not."""
    apply(run)
    Market.available = 9
    apply(run, "--set", "workers.cpu.count=4")
    assert run("plan", "--destroy").out.splitlines()[2:5] == snapshot(
        [
            "  -   cpu-[2-3]   (2)   large  spot",
            "  -   cpu-[0-1]   (2)   large",
            "  -   scheduler         small",
        ]
    )
    changed = run("plan", "--set", "cluster.tags={team='bio'}", "--set", "workers.cpu.count=4").out
    assert changed.count("spot") == 1


@pytest.mark.parametrize("spot", ["true", "'prefer'", "false"])
def test_a_size_without_a_price_is_an_error(run: Run, market: FakeCloud, spot: str) -> None:
    options = limit(9, f"workers.cpu.spot={spot}", "workers.cpu.size=['large', 'odd']")
    assert run("plan", *options).err.startswith(
        "Error: cannot enforce `max_cost`: no price known for odd\n"
    )
    assert run("plan", *options[2:]).code == 0


def test_a_cluster_without_a_time_limit_is_noted(run: Run, market: FakeCloud) -> None:
    assert run("plan").err == snapshot("""\

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].
""")
    assert run("plan", "--set", "cluster.ttl='1 h'").err == ""
    assert run("plan", "--set", "cluster.idle_timeout='1 h'").err == ""
    apply(run)
    assert run("plan").err == ""
    assert run("plan", "--destroy").err == ""


def test_a_provider_without_prices_and_bills_ignores_the_limit(run: Run, folder: Path) -> None:
    spec = '[cluster]\nname = "a"\nmax_cost = 0.01\n[workers.cpu]\ncount = 1\n'
    Path("planapply.toml").write_text(spec)
    result = run("plan")
    assert result.code == 0
    assert result.err == snapshot("""\

Note: `max_cost` is ignored: VMs of the provider local cost nothing
  Remove `max_cost` under [cluster].
""")
