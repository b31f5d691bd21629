"""What can be known to fail before anything is launched, all at once."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from planapply.model.node import NodeConfig
from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.catalog import Names, words
from planapply_libcloud.launch import create_of
from planapply_libcloud.nested import at

OWN = ("name", "size", "image")
SHOWN = 5


def check(names: Names, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """All that is wrong; what the cloud can't be asked at all raises."""
    problems: dict[str, ProviderError] = {}
    for config in configs:
        for part in (_missing, _found, _refused, _arguments):
            try:
                for error in part(names, config):
                    problems.setdefault(error.summary, error)
            except ProviderError as error:
                if error.kind is not ErrorKind.REJECTED:
                    raise
                problems.setdefault(error.summary, error)
    return list(problems.values())


def _missing(names: Names, config: NodeConfig) -> Iterator[ProviderError]:
    client = names.client
    parameters = _parameters(names)
    if not config.size and "size" in parameters:
        yield _error(
            f"{config.group} has no size",
            f"Write size = … under [defaults]; the smallest are {_examples(names, config)}.",
        )
    if not config.image and _needs(parameters, "image"):
        yield _error(
            f"{config.group} has no image",
            "Write image = … under [defaults], by name or id: one with cloud-init and Python 3.",
        )
    if client.driver.needs_zone and not config.zones:
        yield _error(
            f"{config.group} has no zone, which {client.cloud} needs",
            f"Write zones = […] under [defaults]: {_zones(names)}.",
        )


def _found(names: Names, config: NodeConfig) -> Iterator[ProviderError]:
    """Sizes, images, zones and networks that the cloud does not have."""
    driver = names.client.driver
    wrong = {z: e for z in config.zones if driver.zone and (e := _missed(names.zone, z))}
    yield from wrong.values()
    zone = next((zone for zone in config.zones if zone not in wrong), None)
    tries: list[tuple[Callable[[str], Any], str]] = []
    if zone or not config.zones or driver.zone != "location":  # Azure has other sizes elsewhere
        tries += [(lambda size: names.size(size, zone), size) for size in config.size]
    tries += [(names.image, config.image)] if config.image else []
    create = create_of(names.client, config)
    networks = create.get(driver.named_networks, ())
    tries += [(names.network, name) for name in networks if isinstance(networks, list)]
    yield from (error for look, name in tries if (error := _missed(look, name)))


def _missed(look: Callable[[str], Any], name: str) -> ProviderError | None:
    try:
        look(name)
    except ProviderError as error:
        if error.kind is not ErrorKind.REJECTED:
            raise
        return error
    return None


def _refused(names: Names, config: NodeConfig) -> Iterator[ProviderError]:
    """What this driver has no argument for."""
    driver, cloud = names.client.driver, names.client.cloud
    if config.spot and not driver.spot:
        yield _error(f"{cloud}'s driver knows no spot VMs", "Leave `spot` out.")
    if config.disk and not driver.disk:
        yield _error(
            f"{cloud}'s driver takes no size of the root disk",
            "Leave `disk` out; a size with a larger disk, or an argument in `create`, may do.",
        )
    if config.zones and not driver.zone:
        yield _error(f"{cloud}'s driver knows no zones", "Leave `zones` out.")
    if wrong := driver.check_tags(config.tags):
        yield _error(f"{cloud} {wrong}", "Change or leave out `tags`.")


def _arguments(names: Names, config: NodeConfig) -> Iterator[ProviderError]:
    """What `create` lacks, and what it may not have."""
    driver, create = names.client.driver, create_of(names.client, config)
    for name in driver.lists:
        if name in create and not isinstance(create[name], list):
            yield _error(
                f"`create.{name}` takes a list", f"Write {name} = [{json.dumps(create[name])}]."
            )
    parameters = _parameters(names)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in create if not open_ended else ():
        if name not in parameters:
            near = get_close_matches(name, parameters, 1)
            yield _error(
                f"create_node of {driver.name!r} takes no argument {name!r}",
                f"Did you mean {near[0]!r}?"
                if near
                else f"It takes {', '.join(p for p in parameters if p not in OWN)}.",
            )
    for path in (*OWN, driver.user_data, driver.token):
        if path and at(create, path) is not None:
            yield _error(
                f"`create` can't have `{path}`", "planapply sets it itself, from the other keys."
            )
    given = {*create, *driver.always, *OWN, driver.zone, "auth", "root_pass"}
    for name, example in driver.requires.items():
        if name not in create:
            yield _error(
                f"create_node of {driver.name!r} needs {name!r}",
                f"Write {name} = {example} under [provider.create].",
            )
    for name in parameters:
        if _needs(parameters, name) and name not in given and name not in driver.requires:
            yield _error(
                f"create_node of {driver.name!r} needs {name!r}",
                f"Write {name} = … under [provider.create].",
            )
    if not driver.needs_zone and _needs(parameters, "location") and not config.zones:
        yield _error(
            f"create_node of {driver.name!r} needs a zone",
            f"Write zones = […] under [defaults]: {_zones(names)}.",
        )


def _parameters(names: Names) -> Mapping[str, inspect.Parameter]:
    def ask() -> Mapping[str, inspect.Parameter]:
        with names.client.asking() as lib:
            return dict(inspect.signature(lib.create_node).parameters)

    return names.client.remember("parameters", ask)


def _needs(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    found = parameters.get(name)
    return (
        found is not None
        and found.default is found.empty
        and found.kind not in (found.VAR_KEYWORD, found.VAR_POSITIONAL)
    )


def _examples(names: Names, config: NodeConfig) -> str:
    sizes = names.sizes(config.zones[0] if config.zones else None)
    smallest = sorted(sizes, key=lambda size: (size.ram or 0, str(size.name)))[:SHOWN]
    return ", ".join(words(size)[-1] for size in smallest)


def _zones(names: Names) -> str:
    with names.client.asking() as lib:
        found = [words(location)[0] for location in lib.list_locations()]
    return ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")


def _error(summary: str, detail: str) -> ProviderError:
    return ProviderError(ErrorKind.REJECTED, summary, detail)
