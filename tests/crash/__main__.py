"""`make crash`: many lives, one after another, and their figures: `python -m crash LIVES [GROUND]`."""

import sys
import tempfile
from pathlib import Path

from crash.environment import ENVIRONMENTS
from crash.forkserver import ForkServer
from crash.scenario import Scenario, Statistics, Violation

KILL_MODES = {
    "local": ("point", "time", "point", "point"),
    "ec2": ("point", "call"),
    "libcloud": ("point", "call"),
}


def main(runs: int, kinds: list[str]) -> int:
    """Run the lives, and return the number of violations."""
    violations = 0
    with tempfile.TemporaryDirectory() as name:
        fork_server = ForkServer()
        for kind in kinds:
            statistics = Statistics()
            modes = KILL_MODES[kind]
            step_costs = {}
            for as_subprocess in (False, True):
                folder = Path(name, f"{kind}-{as_subprocess}")
                with ENVIRONMENTS[kind](folder) as environment:
                    step_costs[as_subprocess] = Scenario(
                        environment, folder / "life", fork_server, 1
                    ).measure(as_subprocess=as_subprocess)
            for seed in range(runs):
                kill_by, folder = modes[seed % len(modes)], Path(name, f"{kind}-{seed}")
                try:
                    with ENVIRONMENTS[kind](folder) as environment:
                        scenario = Scenario(
                            environment, folder / "life", fork_server, seed, statistics
                        )
                        scenario.run_with_kills(step_costs[kill_by == "time"], kill_by)
                except Violation as violation:
                    violations += 1
                    print(f"{kind}, killed by {kill_by}: {violation}", flush=True)
            print(
                f"{kind}: {', '.join(f'{n} {what}' for what, n in statistics.items())}", flush=True
            )
        fork_server.close()
    print(f"{violations} violations")
    return violations


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), sys.argv[2:] or list(ENVIRONMENTS))))
