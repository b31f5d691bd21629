"""A plan in Markdown, whole; and no text from a plan is anything but text in it."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot
from markdown_it import MarkdownIt

from planapply.model.diagnostics import warning
from planapply.model.node import NodeConfig
from planapply.model.plan import (
    Action,
    Change,
    ChangeReason,
    Cost,
    DriftItem,
    DriftKind,
    ElasticGroup,
    FieldChange,
    Mode,
    Plan,
)
from planapply.render.markdown import MAX_LENGTH, plan_markdown

PARSER = MarkdownIt("commonmark").enable("table")
CPU = NodeConfig(group="cpu", cls="distributed.Nanny", size=("m7i.2xlarge",), spot=True)
HOSTILE = [
    "a | b",
    "`code` ``more``",
    "\n\n# title\n",
    "</code></details><script>alert(1)</script>",
    "```\n```mermaid\nflowchart\n",
    '"]; click g0 "https://evil" ',
    "[x](javascript:alert(1)) ![y](https://evil/pixel.png)",
    "@everyone #1 https://evil www.evil.org a@b.example",
    "&lt;b&gt; &#124; \\| **b** _i_ ~s~ $x$ :tada:",
    "<!-- planapply -->",
    "| --- |",
    "x" * 5000,
]


def make_plan(text: str = "x", *, number: int = 2, **more: Any) -> Plan:
    """Return a plan with every kind of row, and `text` wherever a spec or a cloud may put one."""
    fields = (
        FieldChange(path=f"options.{text}", before=text, after=[text, {text: 1}]),
        FieldChange(path="environment.env.TOKEN", before="s3cret-1", after="s3cret-2"),
    )
    created = [
        Change(name=f"cpu-{i}", action=Action.CREATE, reason=ChangeReason.NEW, after=CPU.digest)
        for i in range(number)
    ]
    config = CPU.model_copy(update={"size": (text,), "group": "gpu"})
    values: dict[str, Any] = {
        "cluster": text,
        "provider": "ec2",
        "cloud": {"region": text},
        "lineage": None,
        "serial": 0,
        "spec_digest": None,
        "configs": {CPU.digest: CPU, config.digest: config},
        "changes": (
            *created,
            Change(
                name="gpu-0",
                action=Action.REPLACE,
                reason=ChangeReason.FIELDS_CHANGED,
                fields=fields,
                after=config.digest,
            ),
            Change(
                name=text,
                action=Action.DESTROY,
                kind="stray",
                reason=ChangeReason.OTHER,
                facts={"text": text},
            ),
        ),
        "cost": Cost(before=9.41, after=12.8, source=text),
        "elastic": {"burst": ElasticGroup(nodes=0, min=0, max=10)},
        "recorded": (FieldChange(path="protect", before=False, after=text),),
        "diagnostics": (warning(text, text),),
    }
    return Plan(**{**values, **more})


def structure(markdown: str) -> list[tuple[str, ...]]:
    """Return what Markdown is made of, without its texts: blocks, cells, and HTML."""
    tokens = PARSER.parse(markdown)
    parts = [child for token in tokens for child in [token, *(token.children or [])]]
    return [
        (part.type, *(re.findall("<[^>]*>", part.content) if "html" in part.type else (part.tag,)))
        for part in parts
        if part.type not in ("text", "text_special")
    ]


def test_whole_plan() -> None:
    assert plan_markdown(make_plan("a|b")) == snapshot("""\
### planapply will change cluster <code>a&#124;b</code> (<code>ec2, a&#124;b</code>)

**Plan:** 3 to add, 0 to change, 2 to destroy.

**Cost:** <code>9.41 USD/h -&#62; 12.80 USD/h &#40;a&#124;b&#41;</code>

|  | Action | Nodes |  | Size | Reason |
| --- | --- | --- | --- | --- | --- |
| <code>+</code> | create | <code>cpu-&#91;0-1&#93;</code> | (2) | <code>a&#124;b  spot</code> |  |
| <code>-/+</code> | replace | <code>gpu-0</code> |  | <code>a&#124;b  spot</code> |  |
| <code>-</code> | destroy | <code>a&#124;b</code> |  |  | <code>a&#124;b</code> |

```mermaid
flowchart LR
  subgraph cluster["a#124;b"]
  g0["cpu<br>+2"]:::create
  g1["gpu<br>-/+1"]:::replace
  g2["a#124;b<br>-1"]:::destroy
  end
  classDef create stroke:#1a7f37,stroke-width:2px
  classDef update stroke:#9a6700,stroke-width:2px
  classDef replace stroke:#9a6700,stroke-width:2px,stroke-dasharray:5
  classDef destroy stroke:#cf222e,stroke-width:2px
```

- **Warning:** <code>a&#124;b. a&#124;b</code>

<details><summary>Changed settings</summary>

| Nodes | Setting | Before | After |  |
| --- | --- | --- | --- | --- |
| <code>gpu-0</code> | <code>options.a&#124;b</code> | <code>&#34;a&#124;b&#34;</code> | <code>&#91;&#34;a&#124;b&#34;, &#123; &#34;a&#124;b&#34; &#61; 1 &#125;&#93;</code> | replaces |
| <code>gpu-0</code> | <code>environment.env.TOKEN</code> | (hidden) | (hidden, changed) | replaces |

</details>

<details><summary>Access, settings, and elastic groups</summary>

- <code>Settings&#58; protect false -&#62; &#34;a&#124;b&#34; &#40;recorded by apply&#41;</code>
- <code>Elastic&#58; burst has no nodes &#40;min 0, max 10&#41;&#59; its size changes only through &#96;scale&#96; and &#96;adapt&#96;.</code>

</details>
""")


def test_waves_are_a_line() -> None:
    shown = plan_markdown(make_plan("zoo", waves=(("cpu-0", "cpu-1"), ("gpu-0",))))
    assert shown.splitlines()[4] == snapshot(
        "**Waves:** <code>2 &#40;new nodes first, gpu&#58; 1 node at a time&#41;</code>"
    )


def test_plan_without_changes_and_drift() -> None:
    assert plan_markdown(make_plan("zoo", changes=(), diagnostics=())) == snapshot("""\
### Plan of cluster <code>zoo</code> (<code>ec2, zoo</code>)

<pre>No nodes change. Cluster &#34;zoo&#34; has the nodes and resources of its spec.
Settings&#58; protect false -&#62; &#34;zoo&#34; &#40;recorded by apply&#41;
Cost&#58; 9.41 USD/h -&#62; 12.80 USD/h &#40;zoo&#41;
Elastic&#58; burst has no nodes &#40;min 0, max 10&#41;&#59; its size changes only through
&#96;scale&#96; and &#96;adapt&#96;.</pre>
""")
    drift = (DriftItem(name="cpu-0", kind=DriftKind.GONE, vm="i-<b>"),)
    shown = plan_markdown(make_plan("zoo", changes=(), drift=drift, mode=Mode.REFRESH_ONLY))
    assert shown == snapshot("""\
### Plan of cluster <code>zoo</code> (<code>ec2, zoo</code>)

<pre>planapply will update the state of cluster &#34;zoo&#34; &#40;ec2, zoo&#41;&#58;

  cpu-0   VM i-&#60;b&#62; is gone

No VM will be launched or terminated.

Settings&#58; protect false -&#62; &#34;zoo&#34; &#40;recorded by apply&#41;</pre>

- **Warning:** <code>zoo. zoo</code>
""")


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=40) | st.sampled_from(HOSTILE))
@pytest.mark.parametrize("changes", [True, False])
def test_no_text_is_more_than_text(changes: bool, text: str) -> None:
    more: dict[str, Any] = {} if changes else {"changes": (), "cost": None}
    markdown = plan_markdown(make_plan(text, **more))
    assert structure(markdown) == structure(plan_markdown(make_plan(**more)))
    assert "s3cret" not in markdown
    prose = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    assert not re.search(r"https?:|www\.|@|<script|<!--", prose)
    assert len(markdown) <= MAX_LENGTH
    picture = re.findall(r"```mermaid\n(.*?)```", markdown, re.DOTALL)
    assert len(picture) == changes
    label = r"\[\"(?:[\w \-.,/+]|#\d+;|<br>)*\"\]"
    box = rf"flowchart LR|  subgraph cluster{label}|  g\d+{label}:::\w+|  end|  classDef [\w #,:-]+"
    assert all(re.fullmatch(box, line, re.ASCII) for line in "".join(picture).splitlines())


@pytest.mark.parametrize("number", [1, 30, 300])
def test_long_plan_is_cut(number: int) -> None:
    text = "|" * 300
    changes = tuple(
        Change(
            name=f"g{i}x-0",
            action=Action.CREATE,
            reason=ChangeReason.OTHER,
            facts={"text": text},
            fields=(FieldChange(path=text, before=text, after=text + "x"),),
        )
        for i in range(number)
    )
    notes = (warning(text, text),) * number
    markdown = plan_markdown(make_plan(changes=changes, diagnostics=notes))
    assert len(markdown) <= MAX_LENGTH
    assert f"**Plan:** {number} to add" in markdown
    assert ("more rows" in markdown) is (number > 1)
