"""Plans in a notebook."""

from planapply.model.plan import Action, Change, ChangeReason, FieldChange, Plan
from planapply.render.html import plan_html


def test_secrets_are_hidden_and_texts_are_escaped() -> None:
    fields = (
        FieldChange(path="environment.env.API_TOKEN", before="s3cret-old", after="s3cret-new"),
        FieldChange(path="options.x", before="<b>", after="https://me:s3cret-url@host/"),
    )
    change = Change(
        name="cpu-0", action=Action.REPLACE, reason=ChangeReason.FIELDS_CHANGED, fields=fields
    )
    plan = Plan(
        cluster="zoo", provider="local", lineage=None, serial=0, spec_digest=None, changes=(change,)
    )
    html = plan_html(plan)
    assert "s3cret" not in html
    assert "environment.env.API_TOKEN: (hidden value changed) (forces replacement)" in html
    assert "options.x: &quot;&lt;b&gt;&quot; -&gt; &quot;https://…@host/&quot;" in html
