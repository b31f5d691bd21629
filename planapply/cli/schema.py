"""planapply schema"""

from planapply import specfile, terminal
from planapply.cli.options import DEFAULT_FILE, File
from planapply.ops.plugins import list_plugins


def command(file: File = DEFAULT_FILE) -> None:
    """Print the JSON Schema of the spec, with the settings of every installed provider.

    The schema is the same for every spec: --file is accepted, as in every command, but not read.
    """
    plugins = [plugin for _, plugin in list_plugins() if not isinstance(plugin, str)]
    terminal.show_json(specfile.json_schema(plugins))
