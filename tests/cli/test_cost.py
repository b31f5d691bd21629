"""Costs with unknown prices: every command reports them in the same words."""

import json
from pathlib import Path

from cli.commands import SPEC, Result, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot


def test_unknown_price_is_reported_with_every_cost(run: Run, cloud: FakeCloud) -> None:
    spec = Path("planapply.toml")
    spec.write_text(SPEC.replace('"large"', '"odd"'))
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert cost(run("plan")) == snapshot(
        "Cost: at least 0.10 USD/h (list prices of 2025-03-02; no price known for odd)"
    )
    assert cost(run("status")) == snapshot(
        "Cost:       at least 0.10 USD/h, at least 0.00 USD so far (list prices of 2025-03-02; no price known for odd)"
    )
    assert cost(run("plan", "--destroy")) == snapshot(
        "Cost: at least 0.10 USD/h -> 0.00 USD/h (list prices of 2025-03-02; no price known for odd)"
    )
    assert json.loads(run("status", "--json").out)["unknown_prices"] == ["odd"]
    told = json.loads(run("plan", "--destroy", "--json").out)["cost"]
    assert (told["unknown_before"], told["unknown"]) == (["odd"], [])
    assert run("destroy", "--auto-approve", "--target", "scheduler").code == 0
    spec.write_text(SPEC.replace('"small"', '"odd"').replace('"large"', '"odd"'))
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert cost(run("status")) == snapshot("Cost:       unknown (no price known for odd)")


def cost(result: Result) -> str:
    [line] = [line for line in result.out.splitlines() if line.startswith("Cost:")]
    return line
