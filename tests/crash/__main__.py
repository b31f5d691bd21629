"""`make crash`: many lives, one after the other, and the figures: `python -m crash LIVES [GROUND]`."""

import sys
import tempfile
from pathlib import Path

from crash.environment import GROUNDS, environment
from crash.forkserver import Zygote
from crash.scenario import Figures, Life, Violation

WAYS = {
    "local": ("point", "time", "point", "point"),
    "ec2": ("point", "call"),
    "libcloud": ("point", "call"),
}


def main(lives: int, grounds: list[str]) -> int:
    """Gives the number of violations."""
    violations = 0
    with tempfile.TemporaryDirectory() as name:
        zygote = Zygote(environment(Path(name)))
        for ground in grounds:
            figures = Figures()
            ways = WAYS[ground]
            paces = {}
            for alone in (False, True):
                folder = Path(name, f"{ground}-{alone}")
                with GROUNDS[ground](folder) as place:
                    paces[alone] = Life(place, folder / "life", zygote, 1).pace(alone=alone)
            for seed in range(lives):
                how, folder = ways[seed % len(ways)], Path(name, f"{ground}-{seed}")
                try:
                    with GROUNDS[ground](folder) as place:
                        life = Life(place, folder / "life", zygote, seed, figures)
                        life.live(paces[how == "time"], how)
                except Violation as violation:
                    violations += 1
                    print(f"{ground}, killed by {how}: {violation}", flush=True)
            print(
                f"{ground}: {', '.join(f'{n} {what}' for what, n in figures.items())}", flush=True
            )
        zygote.close()
    print(f"{violations} violations")
    return violations


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), sys.argv[2:] or list(GROUNDS))))
