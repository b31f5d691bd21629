"""Provider `local`: each VM is a process session on this machine that outlives planapply."""

import os
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from planapply.provider import Plugin
from planapply.providerkit import Model, Text, home_problem, rejection

if TYPE_CHECKING:
    from planapply_local.provider import LocalProvider


class LocalSettings(Model):
    """The `[provider]` table of a spec whose provider is `local`."""

    folder: Text | None = Field(None, json_schema_extra={"effect": "refusal"})
    """Folder for logs and scratch files: an absolute path, or a path that begins with `~`.

    Default: `planapply/local` in the user's state folder. Each node works in its own subfolder, which
    is removed with the node.
    """

    @field_validator("folder")
    @classmethod
    def _check_absolute(cls, folder: str | None) -> str | None:
        # A relative path would be a different folder in each working directory.
        if folder is not None and not os.path.isabs(folder) and not folder.startswith("~"):
            raise ValueError(
                "the path is relative\nWrite an absolute path, or one that begins with ~."
            )
        if problem := home_problem(folder or ""):
            raise ValueError(f"{problem}\nWrite an absolute path.")
        return folder


def _connect(settings: LocalSettings) -> "LocalProvider":
    if os.name != "posix":
        raise rejection(
            "provider `local` needs Linux or macOS", "Choose another provider in the spec."
        )
    from planapply_local.provider import LocalProvider

    return LocalProvider(settings.folder)


PLUGIN = Plugin(
    name="local",
    summary="processes on this machine",
    settings=LocalSettings,
    connect=_connect,
    security="none",
    costs_money=False,
    ignored_settings=frozenset(
        {
            *("size", "cpus", "memory", "gpus", "arch", "image", "zones", "spot", "disk", "create"),
            *(f"environment.{key}" for key in ("python", "packages", "requirements", "docker")),
            "environment.setup",
        }
    ),
    starter="""\
[provider]
# folder = "~/planapply"      # for logs and scratch files; default: in your state folder
""",
)
