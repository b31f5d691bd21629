"""The result of one round of `watch`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from planapply.model.diagnostics import Diagnostic, PlanapplyError
from planapply.model.names import format_names, sort_key, split_name
from planapply.model.plan import Change

MAX_ATTEMPTS = 3
"""Failed VMs of a node in a row after which no other one is launched for it."""


@dataclass
class Round:
    """The findings and the changes of one round."""

    end: str = ""
    """How the cluster has ended, in words; empty if it exists."""
    lost: tuple[Change, ...] = ()
    """Nodes that are lost, or will be, as removals with a reason; also those about which nothing is done."""
    launched: tuple[str, ...] = ()
    not_launched: tuple[str, ...] = ()
    """Nodes that could not be launched; `failures` has the reasons."""
    removed: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    """Nodes that were recorded as joined."""
    strays: tuple[str, ...] = ()
    """IDs of duplicate VMs that were terminated."""
    adopted: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    """Nodes for which nothing is launched any more, because too many attempts have failed."""
    failures: dict[str, PlanapplyError] = field(default_factory=dict)
    """Errors by node."""
    problems: tuple[PlanapplyError, ...] = ()
    """Why nothing could be launched."""
    warnings: tuple[Diagnostic, ...] = ()
    is_scheduler_silent: bool = False
    """Whether nodes are expected to join, or may be reclaimed, but the scheduler does not answer."""

    @property
    def has_changed(self) -> bool:
        """Return whether the round did something."""
        return bool(self.launched or self.removed or self.joined or self.strays or self.adopted)

    @property
    def is_incomplete(self) -> bool:
        """Return whether something could not be done."""
        return bool(self.failures or self.problems or self.given_up or self.is_scheduler_silent)

    def problems_by_kind(self) -> dict[str, PlanapplyError]:
        """Return errors and warnings by a key that stays the same while the problem persists."""
        found = {error.diagnostics[0].code: error for error in self.problems}
        found |= {each.code: PlanapplyError(diagnostics=(each,)) for each in self.warnings}
        for group in sorted({split_name(name)[0] for name in self.failures}):
            names = [name for name in self.failures if split_name(name)[0] == group]
            error = self.failures[min(names, key=sort_key)]
            found[f"{group}: {error.diagnostics[0].code}"] = error
        if self.is_scheduler_silent:
            found["scheduler_unreachable"] = PlanapplyError(
                "the scheduler does not answer",
                "Launched nodes count as booting until it does. Check with `planapply status` that its VM is "
                "running, and that its network allows this machine.",
                code="scheduler_unreachable",
            )
        if self.given_up:
            found[f"given_up: {' '.join(self.given_up)}"] = given_up_error(self.given_up)
        return found


def given_up_error(names: Sequence[str]) -> PlanapplyError:
    """Return the error about nodes for which nothing more is launched."""
    return PlanapplyError(
        f"gave up on {format_names(names)}: {MAX_ATTEMPTS} VMs in a row did not join, or were lost "
        "soon after",
        f"Find the cause with `planapply logs {names[0]}`. The next `planapply apply` tries again.",
        code="given_up",
    )
