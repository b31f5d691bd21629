"""What can be known to fail before anything is launched, all at once."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from planapply.model.node import NodeConfig
from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud.catalog import Catalog, list_names
from planapply_libcloud.launch import merge_create
from planapply_libcloud.nested import get_path

OWN_ARGUMENTS = ("name", "size", "image")
MAX_SHOWN = 5


def check(catalog: Catalog, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """All that is wrong; what the cloud can't be asked at all raises."""
    problems: dict[str, ProviderError] = {}
    for config in configs:
        for check_part in (_check_required, _check_existence, _check_unsupported, _check_arguments):
            try:
                for error in check_part(catalog, config):
                    problems.setdefault(error.summary, error)
            except ProviderError as error:
                if error.kind is not ErrorKind.REJECTED:
                    raise
                problems.setdefault(error.summary, error)
    return list(problems.values())


def _check_required(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    client = catalog.client
    parameters = _read_parameters(catalog)
    if not config.size and "size" in parameters:
        yield _make_rejection(
            f"{config.group} has no size",
            f"Write size = … under [defaults]; the smallest are {_list_smallest_sizes(catalog, config)}.",
        )
    if not config.image and _is_required(parameters, "image"):
        yield _make_rejection(
            f"{config.group} has no image",
            "Write image = … under [defaults], by name or id: one with cloud-init and Python 3.",
        )
    if client.driver.needs_zone and not config.zones:
        yield _make_rejection(
            f"{config.group} has no zone, which {client.cloud} needs",
            f"Write zones = […] under [defaults]: {_list_zones(catalog)}.",
        )


def _check_existence(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    """Sizes, images, zones and networks that the cloud does not have."""
    driver = catalog.client.driver
    missing_zones = {
        z: e for z in config.zones if driver.zone and (e := _find_lookup_error(catalog.zone, z))
    }
    yield from missing_zones.values()
    zone = next((zone for zone in config.zones if zone not in missing_zones), None)
    lookups: list[tuple[Callable[[str], Any], str]] = []
    if zone or not config.zones or driver.zone != "location":  # Azure has other sizes elsewhere
        lookups += [(lambda size: catalog.size(size, zone), size) for size in config.size]
    lookups += [(catalog.image, config.image)] if config.image else []
    create = merge_create(catalog.client, config)
    networks = create.get(driver.networks_argument, ())
    lookups += [(catalog.network, name) for name in networks if isinstance(networks, list)]
    yield from (error for lookup, name in lookups if (error := _find_lookup_error(lookup, name)))


def _find_lookup_error(lookup: Callable[[str], Any], name: str) -> ProviderError | None:
    try:
        lookup(name)
    except ProviderError as error:
        if error.kind is not ErrorKind.REJECTED:
            raise
        return error
    return None


def _check_unsupported(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    """What this driver has no argument for."""
    driver, cloud = catalog.client.driver, catalog.client.cloud
    if config.spot and not driver.spot:
        yield _make_rejection(f"{cloud}'s driver knows no spot VMs", "Leave `spot` out.")
    if config.disk and not driver.disk:
        yield _make_rejection(
            f"{cloud}'s driver takes no size of the root disk",
            "Leave `disk` out; a size with a larger disk, or an argument in `create`, may do.",
        )
    if config.zones and not driver.zone:
        yield _make_rejection(f"{cloud}'s driver knows no zones", "Leave `zones` out.")
    if problem := driver.check_tags(config.tags):
        yield _make_rejection(f"{cloud} {problem}", "Change or leave out `tags`.")


def _check_arguments(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    """What `create` lacks, and what it may not have."""
    driver, create = catalog.client.driver, merge_create(catalog.client, config)
    for name in driver.list_arguments:
        if name in create and not isinstance(create[name], list):
            yield _make_rejection(
                f"`create.{name}` takes a list", f"Write {name} = [{json.dumps(create[name])}]."
            )
    parameters = _read_parameters(catalog)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in create if not open_ended else ():
        if name not in parameters:
            matches = get_close_matches(name, parameters, 1)
            yield _make_rejection(
                f"create_node of {driver.name!r} takes no argument {name!r}",
                f"Did you mean {matches[0]!r}?"
                if matches
                else f"It takes {', '.join(p for p in parameters if p not in OWN_ARGUMENTS)}.",
            )
    for path in (*OWN_ARGUMENTS, driver.user_data, driver.token):
        if path and get_path(create, path) is not None:
            yield _make_rejection(
                f"`create` can't have `{path}`", "planapply sets it itself, from the other keys."
            )
    given = {*create, *driver.fixed_arguments, *OWN_ARGUMENTS, driver.zone, "auth", "root_pass"}
    for name, example in driver.required_arguments.items():
        if name not in create:
            yield _make_rejection(
                f"create_node of {driver.name!r} needs {name!r}",
                f"Write {name} = {example} under [provider.create].",
            )
    for name in parameters:
        if (
            _is_required(parameters, name)
            and name not in given
            and name not in driver.required_arguments
        ):
            yield _make_rejection(
                f"create_node of {driver.name!r} needs {name!r}",
                f"Write {name} = … under [provider.create].",
            )
    if not driver.needs_zone and _is_required(parameters, "location") and not config.zones:
        yield _make_rejection(
            f"create_node of {driver.name!r} needs a zone",
            f"Write zones = […] under [defaults]: {_list_zones(catalog)}.",
        )


def _read_parameters(catalog: Catalog) -> Mapping[str, inspect.Parameter]:
    def read_signature() -> Mapping[str, inspect.Parameter]:
        with catalog.client.borrow_driver() as lib:
            return dict(inspect.signature(lib.create_node).parameters)

    return catalog.client.get_cached("parameters", read_signature)


def _is_required(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    found = parameters.get(name)
    return (
        found is not None
        and found.default is found.empty
        and found.kind not in (found.VAR_KEYWORD, found.VAR_POSITIONAL)
    )


def _list_smallest_sizes(catalog: Catalog, config: NodeConfig) -> str:
    sizes = catalog.sizes(config.zones[0] if config.zones else None)
    smallest = sorted(sizes, key=lambda size: (size.ram or 0, str(size.name)))[:MAX_SHOWN]
    return ", ".join(list_names(size)[-1] for size in smallest)


def _list_zones(catalog: Catalog) -> str:
    with catalog.client.borrow_driver() as lib:
        found = [list_names(location)[0] for location in lib.list_locations()]
    return ", ".join(found[:MAX_SHOWN]) + (", …" if len(found) > MAX_SHOWN else "")


def _make_rejection(summary: str, detail: str) -> ProviderError:
    return ProviderError(ErrorKind.REJECTED, summary, detail)
