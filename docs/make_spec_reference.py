"""Writes docs/spec.md from the models of the spec: `python docs/make_spec_reference.py`."""

from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import BaseModel

from planapply import catalog
from planapply.model.spec import (
    ClusterSettings,
    EnvironmentSettings,
    NodeSettings,
    SchedulerSettings,
    Spec,
    WorkerGroup,
)
from planapply.provider import Plugin
from planapply.specfile.docstrings import describe_models
from planapply.specfile.errors import keys_of
from planapply.specfile.schema import unwrap_paragraphs
from planapply.specfile.toml_format import format_key, format_value

EMBEDDED = ("local", "ec2", "libcloud")
PAGE = Path(__file__).with_name("spec.md")

_HEAD = """\
# The spec file

<!-- Made by docs/make_spec_reference.py from the models in planapply/model/spec.py: change those. -->

One TOML file is one Dask cluster: a scheduler and groups of workers. `planapply init` writes a
first one, `planapply validate` checks one, and `planapply schema` prints its JSON Schema, with which
an editor can complete and check it.

A duration is a number and a unit (`"90 s"`, `"30 min"`, `"12 h"`, `"7 d"`) or a number of seconds; a
size is a number and a unit (`"100 GiB"`, `"1.5 TB"`). The units are Dask's.

What changing a key does to nodes that exist:

- **nothing**: they stay as they are; a changed number of nodes adds or removes some.
- **update**: it is changed on the running VMs, where the provider can.
- **replacement**: another VM takes the node's place.
- **refusal**: the plan is an error; destroy the cluster first.
"""


def reference(plugins: list[Plugin]) -> str:
    """The page."""
    describe_models()
    inherited = set(NodeSettings.model_fields)
    node = "And every key of `[defaults]`, which it says for itself then."
    groups = unwrap_paragraphs(Spec.model_fields["workers"].description or "")
    parts = [
        _HEAD,
        *_table("`[cluster]`", ClusterSettings),
        *_table("`[defaults]`", NodeSettings),
        *_table("`[environment]`", EnvironmentSettings),
        *_table("`[scheduler]`", SchedulerSettings, inherited, node),
        *_table("`[workers.NAME]`", WorkerGroup, inherited, f"{groups}\n\n{node}"),
    ]
    for plugin in plugins:
        parts += _table(f"`[provider]`, with `provider = {format_value(plugin.name)}`", plugin.settings)
    return "\n".join(parts)


def embedded() -> list[Plugin]:
    """The providers that come with planapply, as far as this installation has them."""
    names = catalog.provider_names()
    return [catalog.load_plugin(name) for name in EMBEDDED if name in names]


def _table(
    title: str, model: type[BaseModel], left_out: Collection[str] = (), more: str = ""
) -> Iterator[str]:
    yield f"## {title}\n\n{unwrap_paragraphs(model.__doc__ or '')}\n"
    if more:
        yield f"{more}\n"
    for name, field in keys_of(model).items():
        if name in left_out:
            continue
        extra = field.json_schema_extra
        effect = extra.get("effect", "nothing") if isinstance(extra, dict) else "nothing"
        facts = [f"`{format_key(name)} = {format_value(example)}`" for example in field.examples or []]
        facts += ["required"] if field.is_required() else []
        facts += [f"a change: **{effect}**"]
        yield f"### `{name}`\n\n{' · '.join(facts)}\n\n{unwrap_paragraphs(field.description or '')}\n"


if __name__ == "__main__":
    PAGE.write_text(reference(embedded()), encoding="utf-8")
