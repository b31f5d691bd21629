"""The desired state of a spec: merged defaults, provider settings, and pins."""

from typing import Any

from specs import CLOUD, LOCAL

from planapply.model.desired import DesiredState, build_desired_state, requirements_key
from planapply.model.node import NodeConfig, Requirements
from planapply.model.spec import NodeSettings, SchedulerSettings, Spec, WorkerGroup
from planapply.provider import Plugin


def wanted(
    document: dict[str, Any], plugin: Plugin = CLOUD, pins: dict[str, Any] | None = None
) -> DesiredState:
    cluster = {"name": "genomics", **document.pop("cluster", {})}
    return build_desired_state(
        Spec.model_validate({"cluster": cluster, **document}), plugin, pins or {}
    )


def group(document: dict[str, Any], plugin: Plugin = CLOUD, **pins: Any) -> NodeConfig:
    """Return the config of [workers.cpu]."""
    document["workers"] = {"cpu": {"count": 1, **document.get("cpu", {})}}
    document.pop("cpu", None)
    return wanted(document, plugin, pins).groups[0].config


def test_defaults_apply_to_unset_node_settings() -> None:
    want = wanted(
        {
            "defaults": {"size": "small", "spot": True, "disk": "100 GiB", "zones": ("a",)},
            "scheduler": {"spot": False},
            "workers": {"cpu": {"count": 1, "size": ("big", "bigger")}},
        }
    )
    assert (want.scheduler.size, want.scheduler.spot) == (("small",), False)
    assert want.groups[0].config.size == ("big", "bigger")
    assert want.groups[0].config.spot is True
    assert want.groups[0].config.disk == 100 << 30
    assert want.groups[0].config.zones == ("a",)


def test_tags_and_create_are_merged_and_the_most_specific_wins() -> None:
    config = group(
        {
            "cluster": {"tags": {"a": "cluster", "b": "cluster", "c": "cluster"}},
            "defaults": {"tags": {"b": "defaults", "c": "defaults"}, "create": {"x": 1, "y": 1}},
            "cpu": {"tags": {"c": "own"}, "create": {"y": 2}},
        },
        LOCAL,
    )
    assert config.tags == {"a": "cluster", "b": "defaults", "c": "own"}
    assert config.create == {"x": 1, "y": 2}


def test_size_and_requirements_replace_each_other() -> None:
    named = group({"defaults": {"cpus": 8}, "cpu": {"size": "big"}})
    assert (named.size, named.requirements) == (("big",), None)
    described = group({"defaults": {"size": "big", "arch": "arm64"}, "cpu": {"cpus": 4}})
    assert described.size == ()
    assert described.requirements == Requirements(cpus=4, arch="arm64")


def test_pinned_sizes_replace_requirements_in_the_digest() -> None:
    requirements = Requirements(cpus=4, memory=32 << 30)
    assert requirements_key(requirements) == "cpus=4,memory=34359738368"
    document = {"cpu": {"cpus": 4, "memory": "32 GiB"}}
    pinned = group(document, sizes={requirements_key(requirements): ["big", "bigger"]})
    assert pinned.size == ("big", "bigger")
    assert pinned.digest == group({"cpu": {"size": ["big", "bigger"]}}).digest


def test_provider_settings_reach_nodes_only_if_they_affect_them() -> None:
    want = wanted({"provider": {"folder": "/x", "region": "eu-west-1"}})
    assert want.settings == {"folder": "/x", "region": "eu-west-1"}
    assert want.scheduler.provider == {"region": "eu-west-1"}


def test_timeouts_reach_the_scheduler_and_the_groups() -> None:
    want = wanted(
        {
            "cluster": {"idle_timeout": "30 min", "ttl": "12 h"},
            "workers": {"cpu": {"max": 3, "processes": 2}},
        }
    )
    [cpu] = want.groups
    assert (want.scheduler.idle_timeout, cpu.config.idle_timeout) == (1800, None)
    assert want.scheduler.ttl == cpu.config.ttl == 43200
    assert (cpu.count, cpu.min, cpu.max, cpu.config.processes) == (None, 0, 3, 2)


def test_max_unavailable_is_no_part_of_the_config() -> None:
    limited = {"count": 4, "max_unavailable": 2}
    [cpu] = wanted({"workers": {"cpu": limited}}).groups
    [default] = wanted({"workers": {"cpu": {"count": 4}}}).groups
    assert (cpu.max_unavailable, default.max_unavailable) == (2, "25%")
    assert cpu.config == default.config


def test_security_defaults_to_the_providers() -> None:
    assert wanted({}, CLOUD).security == "tls"
    assert wanted({}, LOCAL).scheduler.security == "none"
    assert wanted({"cluster": {"security": "none"}}, CLOUD).scheduler.security == "none"


def test_settings_ignored_by_the_provider_do_not_change_the_digest() -> None:
    plain = group({})
    assert group({"cpu": {"create": {"x": 1}}}).digest == plain.digest
    assert group({"environment": {"docker": "x"}}).digest == plain.digest
    assert group({"environment": {"docker": "x"}}, LOCAL).digest != plain.digest


def test_every_node_setting_reaches_the_config() -> None:
    for name in NodeSettings.model_fields:
        assert name in {**NodeConfig.model_fields, **Requirements.model_fields}
    for model in (SchedulerSettings, WorkerGroup):
        own = model.model_fields.keys() - NodeSettings.model_fields
        assert own <= {*NodeConfig.model_fields, "count", "min", "max", "adapt", "max_unavailable"}
