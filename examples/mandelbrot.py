"""Mandelbrot set, rendered on a planapply cluster: python mandelbrot.py SPEC PICTURE.png

Each band of the picture is a task. Its tint shows which worker rendered it.
"""

import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

from distributed import get_worker

import planapply

WIDTH, HEIGHT, BANDS, DEPTH = 480, 320, 32, 60
TINTS = [(9, 132, 227), (0, 184, 148), (253, 203, 110), (214, 48, 49), (108, 92, 231)]


def render_band(band: int) -> tuple[str, list[list[int]]]:
    """Return the worker's name, and for each row of the band the steps that each point takes to escape."""
    rows = []
    for y in range(band * HEIGHT // BANDS, (band + 1) * HEIGHT // BANDS):
        row = []
        for x in range(WIDTH):
            c = complex(3.0 * x / WIDTH - 2.1, 2.0 * y / HEIGHT - 1.0)
            z, steps = 0j, 0
            while steps < DEPTH and z.real * z.real + z.imag * z.imag < 4.0:
                z, steps = z * z + c, steps + 1
            row.append(steps)
        rows.append(row)
    return str(get_worker().name), rows


def write_png(path: Path, pixels: list[bytes]) -> None:
    """Write 8-bit RGB rows as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in pixels))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def main(spec: str, picture: str) -> None:
    with planapply.connect(spec) as client:
        bands = client.gather(client.map(render_band, range(BANDS), pure=False))
    workers = sorted({worker for worker, _ in bands})
    pixels = []
    for worker, rows in bands:
        tint = TINTS[workers.index(worker) % len(TINTS)]
        for row in rows:
            shades = [0.0 if steps == DEPTH else min(1.0, steps / 20) for steps in row]
            pixels.append(bytes(int(c * (1 - s)) for s in shades for c in tint))
    write_png(Path(picture), pixels)
    counts = Counter(worker for worker, _ in bands)
    done = ", ".join(f"{name} {counts[name]}" for name in workers)
    print(f"{BANDS} bands rendered by {len(workers)} workers ({done}): {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
