"""The plots of Dask's dashboard, which need bokeh in the Python of the nodes."""

import re
from collections.abc import Mapping
from importlib import metadata
from typing import Protocol

from planapply.bootstrap.requirements import logical_lines, parse_options
from planapply.model.diagnostics import Diagnostic, note
from planapply.model.state import State
from planapply.specfile.package_names import normalize

_OLDEST_BOKEH = (3, 1)
"""The oldest version with which distributed shows plots; without it, the dashboard is one line of text."""

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[(?P<extras>[^\]]*)\])?")
_REQUIRES_BOKEH = {"bokeh", "dask-labextension", "holoviews", "hvplot", "jupyter-bokeh", "panel"}
_DASK_EXTRAS = {"complete", "diagnostics"}
_UNREADABLE = {"--requirement", "--editable"}
"""Options whose packages only the nodes know."""
_OR_NONE = "or set `dashboard = false` in the scheduler's options."
_MISSING_HERE = (
    "the dashboard has no plots: this Python has no bokeh 3.1 or newer",
    f"Run `pip install 'bokeh>=3.1'` before the scheduler starts, {_OR_NONE}",
)
_NOT_NAMED = (
    "the dashboard has no plots: the nodes' environment does not name bokeh",
    f'Add "bokeh>=3.1" to the packages under [environment], {_OR_NONE}',
)


class _Environment(Protocol):
    """The settings of an environment, in a spec or in a node's configuration."""

    @property
    def packages(self) -> object: ...
    @property
    def requirements(self) -> str | None: ...
    @property
    def docker(self) -> object: ...
    @property
    def setup(self) -> object: ...


def missing_plots(
    options: Mapping[str, object], environment: _Environment, provider: str
) -> Diagnostic | None:
    """Return a note if a scheduler with these options has a dashboard, but no bokeh for its plots.

    None if it has plots or no dashboard, and if only the node knows. Nodes of the provider local run
    this Python.
    """
    if options.get("dashboard") is False:
        return None
    if provider == "local":
        return None if _is_usable(bokeh_version()) else note(*_MISSING_HERE)
    return note(*_NOT_NAMED) if _provides_bokeh(environment) is False else None


def missing_plots_of(state: State) -> Diagnostic | None:
    """Return the note of `missing_plots` for the scheduler in a state; None if there is no scheduler."""
    record = state.scheduler
    config = state.configs.get(record.config) if record else None
    if config is None:
        return None
    return missing_plots(config.options, config.environment, state.provider)


def omit_empty_dashboard(state: State) -> State:
    """Return the state as it is shown, without the URL of a dashboard that has no plots."""
    if state.endpoint is None or missing_plots_of(state) is None:
        return state
    endpoint = state.endpoint.model_copy(update={"dashboard": None})
    return state.model_copy(update={"endpoint": endpoint})


def bokeh_version() -> str | None:
    """Return the version of bokeh in this Python, without importing it; None if there is none."""
    try:
        return metadata.version("bokeh")
    except metadata.PackageNotFoundError:
        return None


def _is_usable(version: str | None) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version or "0.0")
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= _OLDEST_BOKEH


def _provides_bokeh(environment: _Environment) -> bool | None:
    """Return whether an environment has bokeh; None if only the nodes know."""
    if environment.docker or environment.setup:
        return None  # the container image, or a command, may have it
    if environment.requirements is not None:
        return _names_bokeh(environment.requirements)
    if isinstance(environment.packages, tuple):
        return _names_bokeh("\n".join(environment.packages))
    return None


def _names_bokeh(text: str) -> bool | None:
    """Return whether requirements name bokeh, or a package that requires it; None if only the nodes know."""
    found: bool | None = False
    for _, line in logical_lines(text):
        if line.startswith("-"):
            if any(option.name in _UNREADABLE for option in parse_options(line)):
                found = None
            continue
        match = _REQUIREMENT.match(line)
        if match is None or "://" in line:
            found = None  # a package of another source may require anything
        if match is None:
            continue
        name = normalize(match["name"])
        extras = {normalize(extra.strip()) for extra in (match["extras"] or "").split(",")}
        if name in _REQUIRES_BOKEH or (name == "dask" and extras & _DASK_EXTRAS):
            return True
    return found
