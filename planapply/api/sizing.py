"""The arguments of `scale` and `adapt`, checked and converted to nodes of one elastic group."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

from dask.utils import parse_bytes

from planapply.model.spec import WorkerGroup


@dataclass(frozen=True)
class Sizing:
    """The arguments of one call for one group; errors begin with `cannot VERB 'GROUP'`."""

    verb: str
    group: str
    settings: WorkerGroup
    find_joined: Callable[[str], float | None]
    """Return the `nthreads` or the `memory_limit` of a Dask worker of the group; None until one has
    joined."""

    def check_nodes(self, n: object) -> int:
        """Return a number of nodes; raise TypeError or ValueError if it is not a whole number."""
        number = self._check_number("n", "a number of nodes", n)
        if number != math.floor(number):
            raise ValueError(f"cannot {self.verb} {self.group!r} to {n} nodes: not a whole number")
        return int(number)

    def to_nodes(
        self,
        prefix: str = "",
        *,
        workers: object = None,
        cores: object = None,
        memory: object = None,
    ) -> list[float]:
        """Return the number of nodes, not rounded, for each amount that is given.

        `prefix` is the beginning of the arguments' names. Raise TypeError or ValueError for an amount
        that is no number, or negative, and if the amount of a node is unknown.
        """
        names = {
            "workers": prefix,
            "cores": f"{prefix}_cores" if prefix else "cores",
            "memory": f"{prefix}_memory" if prefix else "memory",
        }
        amounts = []
        if workers is not None:
            number = self._check_amount(names["workers"], "a number of Dask workers", workers)
            amounts.append(number / self.settings.processes)
        if cores is not None:
            number = self._check_amount(names["cores"], "a number of cores", cores)
            amounts.append(number / self._amount_per_node("nthreads"))
        if memory is not None:
            number = self._check_memory(names["memory"], memory)
            amounts.append(number / self._amount_per_node("memory_limit"))
        return amounts

    def bounds(self, minimums: Sequence[float], maximums: Sequence[float]) -> tuple[int, int]:
        """Return the bounds of adaptivity in nodes, before they are clamped to the group's bounds.

        The defaults are the group's bounds. Raise ValueError if no number of nodes is within them.
        """
        low, high = max(minimums, default=None), min(maximums, default=None)
        minimum = (self.settings.min or 0) if low is None else math.ceil(low)
        maximum = (self.settings.max or 0) if high is None else math.floor(high)
        if low is None or high is None or minimum <= maximum:
            return minimum, maximum
        processes = self.settings.processes
        in_workers = [f"{amount * processes:g}" for amount in (low, high)]
        if low > high:
            raise ValueError(
                f"cannot {self.verb} {self.group!r}: minimum ({in_workers[0]} Dask workers) is greater "
                f"than maximum ({in_workers[1]})"
            )
        each = f"{processes} Dask worker{'s' if processes > 1 else ''} each"
        raise ValueError(
            f"cannot {self.verb} {self.group!r}: no whole number of nodes ({each}) lies between "
            f"{in_workers[0]} and {in_workers[1]} workers"
        )

    def _check_memory(self, name: str, value: object) -> float:
        if not isinstance(value, str):
            return self._check_amount(name, 'bytes, or a text such as "100 GiB"', value)
        try:
            return self._check_amount(name, "", parse_bytes(value))
        except ValueError:
            raise ValueError(
                f'cannot {self.verb} {self.group!r}: {name} must be bytes, or a text such as "100 GiB", '
                f"not {value!r}"
            ) from None

    def _check_amount(self, name: str, kind: str, value: object) -> float:
        number = self._check_number(name, kind, value)
        if number < 0:
            raise ValueError(
                f"cannot {self.verb} {self.group!r}: {name} must not be negative, but is {value}"
            )
        return number

    def _check_number(self, name: str, kind: str, value: object) -> float:
        if is_real(value):
            number = float(value)  # type: ignore[arg-type]
            if math.isfinite(number):
                return number
        raise (ValueError if is_real(value) else TypeError)(
            f"cannot {self.verb} {self.group!r}: {name} must be {kind}, not {value!r}"
        )

    def _amount_per_node(self, option: str) -> float:
        """Return what a node gives to Dask, by its options or else by a node that has joined."""
        settings = self.settings
        value = settings.options.get(option)
        if option == "memory_limit" and isinstance(value, str) and value != "auto":
            value = parse_bytes(value)
        if value == 0 and option == "memory_limit" and not isinstance(value, bool):
            raise ValueError(
                f"cannot convert memory to nodes of {self.group!r}: its workers have no memory limit "
                f"(`memory_limit = {json.dumps(settings.options[option])}` in [workers.{self.group}])"
            )
        # A memory limit of 1 or less is a fraction of the machine's memory.
        # No threads mean those of the machine.
        if isinstance(value, int | float) and (value > 1 or (option == "nthreads" and value)):
            return float(value) * settings.processes
        joined = self.find_joined(option)
        if joined:
            return joined * settings.processes
        raise ValueError(
            f"cannot convert to nodes of {self.group!r}: the `{option}` of a node is unknown until one has "
            f"joined. Scale to a number of nodes first, or set `options.{option}` in "
            f"[workers.{self.group}]."
        )


def is_real(value: object) -> bool:
    """Return whether a value is a number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)
