"""Checks for errors that can be found before anything is launched; all are reported at once."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import NodeConfig, collect_rejections, rejection, suggest
from planapply_libcloud.catalog import Catalog, list_names
from planapply_libcloud.launch import merge_create
from planapply_libcloud.nested import get_path

OWN_ARGUMENTS = ("name", "size", "image")
MAX_SHOWN = 5


def check(catalog: Catalog, configs: Sequence[NodeConfig]) -> list[ProviderError]:
    """Return all errors in VMs of these configs; raise ProviderError if the cloud cannot be called."""
    checks = (_check_required, _check_existence, _check_unsupported, _check_arguments)
    return collect_rejections(
        partial(check_part, catalog, config) for config in configs for check_part in checks
    )


def _check_required(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    client = catalog.client
    parameters = _read_parameters(catalog)
    if not config.size and "size" in parameters:
        yield rejection(
            f"{config.group} has no size",
            f"Set `size` under [defaults]; the smallest are {_list_smallest_sizes(catalog, config)}.",
        )
    if not config.image and _is_required(parameters, "image"):
        yield rejection(
            f"{config.group} has no image",
            "Set `image` under [defaults] to the name or ID of an image with cloud-init and Python 3.",
        )
    if client.driver.needs_zone and not config.zones:
        yield rejection(
            f"{config.group} has no zone, but {client.cloud} needs one",
            f"Set `zones` under [defaults]; available are {_list_zones(catalog)}.",
        )


def _check_existence(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    """Check that the cloud has the sizes, images, zones, and networks."""
    driver = catalog.client.driver
    missing_zones = {
        z: e for z in config.zones if driver.zone and (e := _find_lookup_error(catalog.zone, z))
    }
    yield from missing_zones.values()
    zone = next((zone for zone in config.zones if zone not in missing_zones), None)
    lookups: list[tuple[Callable[[str], Any], str]] = []
    if zone or not config.zones or driver.zone != "location":  # Azure's sizes differ by zone
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
    """Check for settings that the driver has no argument for."""
    driver, cloud = catalog.client.driver, catalog.client.cloud
    if config.spot and not driver.spot:
        yield rejection(f"the {cloud} driver does not support spot VMs", "Remove `spot`.")
    if config.disk and not driver.disk:
        yield rejection(
            f"the {cloud} driver does not support a size of the root disk",
            "Remove `disk`. Choose a size with a larger disk, or an argument in `create`, instead.",
        )
    if config.zones and not driver.zone:
        yield rejection(f"the {cloud} driver does not support zones", "Remove `zones`.")
    if problem := driver.check_tags(config.tags):
        yield rejection(f"{cloud} {problem}", "Change or remove `tags`.")


def _check_arguments(catalog: Catalog, config: NodeConfig) -> Iterator[ProviderError]:
    """Check for missing and impossible arguments in `create`."""
    driver, create = catalog.client.driver, merge_create(catalog.client, config)
    for name in driver.list_arguments:
        if name in create and not isinstance(create[name], list):
            yield rejection(
                f"`create.{name}` must be a list", f"Write {name} = [{json.dumps(create[name])}]."
            )
    parameters = _read_parameters(catalog)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in create if not open_ended else ():
        if name not in parameters:
            others = ", ".join(p for p in parameters if p not in OWN_ARGUMENTS)
            yield rejection(
                f"create_node of {driver.name!r} has no argument {name!r}",
                suggest(name, parameters, f"It has {others}.", limit=1),
            )
    for path in (*OWN_ARGUMENTS, driver.user_data, driver.token):
        if path and get_path(create, path) is not None:
            yield rejection(
                f"`create` cannot contain `{path}`",
                "Remove it: planapply sets it from the other keys.",
            )
    given = {*create, *driver.fixed_arguments, *OWN_ARGUMENTS, driver.zone, "auth", "root_pass"}
    for name, example in driver.required_arguments.items():
        if name not in create:
            yield rejection(
                f"create_node of {driver.name!r} requires {name!r}",
                f"Write, for example, {name} = {example} under [provider.create].",
            )
    for name in parameters:
        if (
            _is_required(parameters, name)
            and name not in given
            and name not in driver.required_arguments
        ):
            yield rejection(
                f"create_node of {driver.name!r} requires {name!r}",
                f"Set `{name}` under [provider.create].",
            )
    if not driver.needs_zone and _is_required(parameters, "location") and not config.zones:
        yield rejection(
            f"create_node of {driver.name!r} requires a zone",
            f"Set `zones` under [defaults]; available are {_list_zones(catalog)}.",
        )


def _read_parameters(catalog: Catalog) -> Mapping[str, inspect.Parameter]:
    def read_signature() -> Mapping[str, inspect.Parameter]:
        with catalog.client.borrow_driver() as lib:
            return dict(inspect.signature(lib.create_node).parameters)

    return catalog.client.cache.get("parameters", read_signature)


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
