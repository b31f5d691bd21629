"""The options that follow-up commands in messages need to mean the same spec and state."""

import re
import shlex

_COMMAND = re.compile(r"`planapply (?P<name>state [a-z]+|[a-z]+)(?P<rest>[^`\n]*)`")
_OWN_OPTIONS = re.compile(r" (-f|--file|--state)\b")
_WITHOUT_STATE = frozenset({"init", "validate"})
_WITHOUT_SPEC = frozenset({"providers", "schema"})
_WITH_PROVIDER = frozenset({"list", "recover"})

_selected: dict[str, str] = {}
"""The options of the command that runs now: the spec, the state, and the provider."""


def reset() -> None:
    """Forget the options of an earlier command of this process."""
    _selected.clear()


def select(option: str, value: str) -> None:
    """Record an option of this command that its follow-up commands repeat."""
    _selected[option] = value


def add_options(text: str) -> str:
    """Return a message whose commands have the options of this command that select its cluster.

    Commands that name a spec or a state keep theirs. Values of --set are not repeated, since one may be
    a secret.
    """
    return _COMMAND.sub(_with_options, text) if _selected else text


def _with_options(match: re.Match[str]) -> str:
    name, rest = match["name"], match["rest"]
    if name in _WITHOUT_SPEC or _OWN_OPTIONS.search(rest):
        return match[0]
    options = "".join(
        f" {option} {shlex.quote(value)}"
        for option, value in _selected.items()
        if _takes(name, option) and f" {option} " not in rest
    )
    return f"`planapply {name}{options}{rest}`"


def _takes(command: str, option: str) -> bool:
    """Return whether a command has an option."""
    if option == "--provider":
        return command in _WITH_PROVIDER
    return option == "-f" or command not in _WITHOUT_STATE
