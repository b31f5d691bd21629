"""planapply list"""

from planapply import terminal
from planapply.cli.open_workspace import find_default_states, open_cloud
from planapply.cli.options import DEFAULT_FILE, Json, Overrides, ProviderName, SpecFile, State
from planapply.ops.list import list_clusters
from planapply.render.document import diagnostics_document
from planapply.render.listing import listing_lines


def command(
    file: SpecFile = DEFAULT_FILE,
    provider: ProviderName = None,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
) -> None:
    """List every cluster of this account, including those whose state is elsewhere or lost.

    The clusters are found by the VMs' tags. Needs only a provider and its settings, from a spec or
    from --provider and --set. Searches for states at the location in the spec, at --state, and in
    the folder of the spec.
    """
    workspace = open_cloud(file, provider, None, overrides, state)
    found, warnings = list_clusters(workspace, find_default_states(file))
    if json:
        document = found.model_dump(mode="json")
        terminal.show_json({**document, "diagnostics": diagnostics_document(warnings)})
    else:
        terminal.show(listing_lines(found, terminal.table_width()))
        terminal.report(warnings)
