"""Plan files of format 1, whose reasons for changes were texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import NodeConfig
from planapply.model.plan import FORMAT_VERSION, ChangeReason, Mode, Plan
from planapply.store.planfile import read_plan, write_plan

CONFIG = NodeConfig(group="cpu", cls="distributed.Nanny")


def document(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "format_version": 1,
        "cluster": "demo",
        "provider": "local",
        "lineage": "l",
        "serial": 3,
        "spec_digest": "0" * 16,
        "configs": {CONFIG.digest: CONFIG.model_dump(mode="json")},
        "changes": list(changes),
        "refresh_only": False,
        **more,
    }


def change(reason: Any, **more: Any) -> dict[str, Any]:
    return {"name": "cpu-0", "action": "replace", "reason": reason, "vm": "i-1", **more}


def read(path: Path, content: dict[str, Any]) -> Plan:
    file = path / "plan"
    file.write_text(json.dumps(content))
    before = file.read_bytes()
    try:
        return read_plan(str(file))
    finally:
        assert file.read_bytes() == before  # reading migrates nothing on disk


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ({}, Mode.NORMAL),
        ({"refresh_only": True}, Mode.REFRESH_ONLY),
        ({"spec_digest": None}, Mode.DESTROY),
    ],
)
def test_mode_is_derived(tmp_path: Path, more: dict[str, Any], mode: Mode) -> None:
    plan = read(tmp_path, document(**more))
    assert (plan.mode, plan.format_version) == (mode, FORMAT_VERSION)
    write_plan(str(tmp_path / "new"), plan)
    assert read_plan(str(tmp_path / "new")) == plan


@pytest.mark.parametrize(
    ("text", "reason", "facts"),
    [
        ("not there yet", ChangeReason.NEW, {}),
        ("its VM i-1 is gone", ChangeReason.VM_GONE, {}),
        ("its VM is gone", ChangeReason.VM_GONE, {}),
        ("an earlier request for it is still open", ChangeReason.REQUEST_UNRESOLVED, {}),
        (
            "an earlier request for it is still open, so it may exist",
            ChangeReason.REQUEST_UNRESOLVED,
            {},
        ),
        ("asked for with --replace", ChangeReason.REPLACE_REQUESTED, {}),
        ("destroy was asked for", ChangeReason.DESTROY_REQUESTED, {}),
        ("the scheduler is replaced", ChangeReason.SCHEDULER_REPLACED, {}),
        ("its end was already under way", ChangeReason.TERMINATION_IN_PROGRESS, {}),
        ("its VM i-1 is on its way to its end", ChangeReason.VM_STOPPING, {}),
        ("its VM i-1 is there and does not run", ChangeReason.VM_STOPPED, {}),
        ("it was made from another configuration", ChangeReason.CONFIG_CHANGED, {}),
        ("size, tags.a b changed", ChangeReason.FIELDS_CHANGED, {}),
        ("max of its group is 5", ChangeReason.MAX_LOWERED, {"max": 5}),
        ("not needed any more", ChangeReason.RESOURCE_UNNEEDED, {}),
        ("one VM too many: cpu-3 is another one", ChangeReason.DUPLICATE_VM, {"node": "cpu-3"}),
        ("its tags name no node", ChangeReason.UNKNOWN_NODE, {}),
        ("not in the spec", ChangeReason.OTHER, {"text": "not in the spec"}),
    ],
)
def test_reasons_become_codes(
    tmp_path: Path, text: str, reason: ChangeReason, facts: dict[str, Any]
) -> None:
    [migrated] = read(tmp_path, document(change(text))).changes
    assert (migrated.reason, migrated.facts, migrated.vm) == (reason, facts, "i-1")


@pytest.mark.parametrize(
    "damaged",
    [
        document(changes=1),
        document(change(1)),
        document(changes=["x"]),
        document(change("not there yet", after="0" * 16)),
        {key: value for key, value in document().items() if key != "spec_digest"},
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damaged: dict[str, Any]) -> None:
    with pytest.raises(PlanapplyError, match="is damaged"):
        read(tmp_path, damaged)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", True, None])
def test_other_formats_are_refused(tmp_path: Path, version: Any) -> None:
    with pytest.raises(PlanapplyError, match="another version of planapply"):
        read(tmp_path, document(format_version=version))
