"""Plans in a notebook."""

import re
from typing import Any

import pytest
from inline_snapshot import snapshot

from planapply.api.lifecycle import ApplyReport, ClusterPlan
from planapply.model.diagnostics import warning
from planapply.model.plan import (
    Action,
    Change,
    ChangeReason,
    Cost,
    ElasticGroup,
    FieldChange,
    Mode,
    Plan,
)
from planapply.model.state import Resource
from planapply.render.html import plan_html


def make_plan(*changes: Change, **more: Any) -> Plan:
    return Plan.model_validate(
        {
            "cluster": "zoo",
            "provider": "local",
            "lineage": None,
            "serial": 0,
            "spec_digest": None,
            "changes": changes,
            **more,
        }
    )


def test_secrets_are_hidden_and_texts_are_escaped() -> None:
    fields = (
        FieldChange(path="environment.env.API_TOKEN", before="s3cret-old", after="s3cret-new"),
        FieldChange(path="options.x", before="<b>", after="https://me:s3cret-url@host/"),
    )
    change = Change(
        name="cpu-0", action=Action.REPLACE, reason=ChangeReason.FIELDS_CHANGED, fields=fields
    )
    plan = make_plan(change)
    html = plan_html(plan)
    assert "s3cret" not in html
    assert "environment.env.API_TOKEN: (hidden value changed) (forces replacement)" in html
    assert "options.x: &quot;&lt;b&gt;&quot; -&gt; &quot;https://…@host/&quot;" in html


def test_everything_below_the_changes() -> None:
    group = ElasticGroup(nodes=1, min=0, max=3)
    resource = Resource(
        kind="security-group",
        id="sg-1",
        detail={"allow_from": ["10.0.0.0/8", "<i>"], "ports": [8786, 8787]},
    )
    html = plan_html(
        make_plan(
            Change(name="cpu-0", action=Action.CREATE, reason=ChangeReason.NEW),
            provider="ec2",
            cloud={"region": "eu-west-1"},
            elastic={"burst": group},
            resources={"security-group": resource},
            recorded=(
                FieldChange(path="protect", before=False, after=True),
                FieldChange(path="provider.secret", before="s3cret-1", after="s3cret-2"),
            ),
            cost=Cost(before=0.0, after=1.5, source="<prices>", not_counted=("disks",)),
            diagnostics=(warning("<b> is odd", "Change & retry."),),
        )
    )
    assert "s3cret" not in html
    assert re.sub(r"(<br>|</p>|</tr>)", r"\1\n", html) == snapshot("""\
<div><p>planapply will change cluster &quot;zoo&quot; (ec2, eu-west-1):</p>
<table><thead><tr><th style="text-align: left">Action</th><th style="text-align: left">Nodes</th></tr>
</thead><tbody><tr><td style="text-align: left; vertical-align: top"><span style="color: #1a7f37">+ create</span></td><td style="text-align: left; vertical-align: top">cpu-0</td></tr>
</tbody></table><p><b>Plan:</b> 1 to add, 0 to change, 0 to destroy.<br>
<b>Settings:</b> protect false -&gt; true (recorded by apply)<br>
<b>Settings:</b> provider.secret changed (recorded by apply)<br>
<b>Cost:</b> 0.00 USD/h -&gt; 1.50 USD/h (&lt;prices&gt;)<br>
<b>Not counted:</b> disks.<br>
<b>Access:</b> ports 8786, 8787 from 10.0.0.0/8, &lt;i&gt;<br>
<b>Elastic:</b> burst has 1 node (min 0, max 3); its size changes only through <code>scale</code> and <code>adapt</code>.</p>
<p><b>Warning:</b> &lt;b&gt; is odd. Change &amp; retry.</p>
</div>\
""")


def test_waves_are_below_the_summary() -> None:
    changes = [
        Change(name=f"cpu-{i}", action=Action.REPLACE, reason=ChangeReason.REPLACE_REQUESTED)
        for i in range(2)
    ]
    html = plan_html(make_plan(*changes, waves=(("cpu-0",), ("cpu-1",))))
    assert "<br><b>Waves:</b> 2 (cpu: 1 node at a time)" in html


def test_a_long_value_is_shown_as_what_it_loses_and_gains() -> None:
    before = [f"package-{i}==1.0" for i in range(9)]
    field = FieldChange(
        path="environment.packages", before=before, after=[*before[:8], "<other>==2"]
    )
    change = Change(
        name="cpu-0", action=Action.REPLACE, reason=ChangeReason.FIELDS_CHANGED, fields=(field,)
    )
    assert (
        "environment.packages: <br>- &quot;package-8==1.0&quot;<br>+ &quot;&lt;other&gt;==2&quot; "
        "(forces replacement)"
    ) in plan_html(make_plan(change))


def test_a_plan_that_destroys_some_nodes_only_changes_the_cluster() -> None:
    change = Change(name="cpu-0", action=Action.DESTROY, reason=ChangeReason.DESTROY_REQUESTED)
    html = plan_html(make_plan(change, mode=Mode.DESTROY))
    assert "planapply will change cluster &quot;zoo&quot; (local):" in html


def test_a_plan_and_a_report_in_a_notebook_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    diagnostics = (warning("odd", "SDK: s3cret-value"),)
    made = make_plan(diagnostics=diagnostics, cost=Cost(before=1, after=2))
    plan = ClusterPlan.model_validate(dict(made))
    assert "odd" in str(plan)
    assert "s3cret" not in str(plan) + repr(plan) + plan._repr_html_() + repr(plan.__repr_args__())
    report = ApplyReport(1, 0, 2, 61.2, plan)
    assert repr(report) == "Apply complete: 1 added, 0 changed, 2 destroyed (61 s)"
    removal = ApplyReport(0, 0, 2, 1.2, plan.model_copy(update={"mode": Mode.DESTROY}))
    assert repr(removal) == "Destroy complete: 2 destroyed (1 s)"
    assert re.sub("<[^>]*>", "|", report._repr_html_()) == snapshot(
        "|||Apply complete: cluster zoo||||||Added||Changed||Destroyed||Time||Cost||||||1||0||2||61 s||1.00 USD/h -&gt; 2.00 USD/h|||||"
    )
