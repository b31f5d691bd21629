"""planapply list"""

from planapply.cli import terminal
from planapply.cli.open_workspace import find_default_states, open_cloud
from planapply.cli.options import DEFAULT_FILE, File, Json, Overrides, ProviderName, State
from planapply.ops.list import list_clusters
from planapply.render.document import diagnostics_document
from planapply.render.listing import listing_lines


def command(
    file: File = DEFAULT_FILE,
    provider: ProviderName = None,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
) -> None:
    """Show every cluster of this account, also those whose state is elsewhere or lost.

    The VMs' tags tell of them. Needs the provider and its settings only: of a spec, or from
    --provider and --set. States are looked for at the spec's place, at --state, and beside the spec.
    """
    workspace = open_cloud(file, provider, None, overrides, state)
    found, warnings = list_clusters(workspace, find_default_states(file))
    if json:
        document = found.model_dump(mode="json")
        terminal.show_json({**document, "diagnostics": diagnostics_document(warnings)})
    else:
        terminal.show(listing_lines(found, terminal.table_width()))
        terminal.report(warnings)
