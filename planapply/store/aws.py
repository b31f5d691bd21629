"""Settings of a spec's provider for a state in S3."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class AWSSettings(NamedTuple):
    """The profile whose credentials are used, and the region of last resort."""

    profile: str | None = None
    region: str | None = None

    @classmethod
    def of_provider(cls, provider: object, settings: object) -> "AWSSettings":
        """Return the settings in the table `[provider]`; without effect unless the provider is `ec2`."""
        values: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
        if provider != "ec2":
            return cls()
        profile, region = (
            text if isinstance(text := values.get(key), str) and text.strip() else None
            for key in ("profile", "region")
        )
        return cls(profile, region)

    @property
    def command_prefix(self) -> str:
        """The assignment with which a command uses the same profile without the spec."""
        import shlex

        return f"AWS_PROFILE={shlex.quote(self.profile)} " if self.profile else ""


NO_SETTINGS = AWSSettings()
"""For a state that is opened without a spec."""
