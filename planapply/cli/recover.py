"""planapply recover"""

from typing import Annotated

import typer

from planapply import terminal
from planapply.cli.open_workspace import open_cloud, print_event
from planapply.cli.options import (
    DEFAULT_FILE,
    Json,
    LockTimeout,
    Overrides,
    ProviderName,
    SpecFile,
    State,
)
from planapply.model.names import sort_key
from planapply.render.document import diagnostics_document
from planapply.render.state_node import moved_state_document, moved_state_line


def command(
    cluster: Annotated[
        str | None,
        typer.Argument(
            metavar="CLUSTER", help="Name of the cluster, if --provider is used without a spec."
        ),
    ] = None,
    file: SpecFile = DEFAULT_FILE,
    provider: ProviderName = None,
    lineage: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="Select one of several clusters with the same name."),
    ] = None,
    json: Json = False,
    overrides: Overrides = None,
    state: State = None,
    lock_timeout: LockTimeout = 0.0,
) -> None:
    """Rebuild a lost state from the VMs' tags; change nothing in the cloud.

    With the spec that was applied last, plan then shows no changes. Without a spec, pass --provider,
    its settings with --set, and the name of the cluster; destroy then works.
    """
    workspace = open_cloud(file, provider, cluster, overrides, state, needs_cluster=True)
    from planapply.ops.recover import recover  # imports distributed

    found = recover(workspace, lineage, lock_timeout, on_event=print_event)
    location = workspace.store.location
    if json:
        terminal.show_json(
            {
                **moved_state_document(found.state, location),
                "nodes": sorted(found.state.nodes, key=sort_key),
                "diagnostics": diagnostics_document(found.diagnostics),
            }
        )
    else:
        terminal.show([moved_state_line(found.state, location)])
        terminal.report(found.diagnostics)
