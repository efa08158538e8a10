"""Damage files of every format and see what the readers do with them.

Cut, altered and crafted files are opened and read in processes of their own. What
counts as wrong: anything but a picture or an InputError, more than 500 MB or 5 seconds
for a file of less than 10 kB, and a file that was cut short yet gives other pixels
without an error or a warning.

    python scripts/damaged_files.py --count 10000 --keep wrong/
"""

from __future__ import annotations

import argparse
import io
import random
import re
import resource
import struct
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from denoisekit.errors import InputError
from denoisekit.formats import FORMATS, create_image, heif, open_image
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata

SMALL, MOST_BYTES, MOST_SECONDS = 10_000, 500 * 10**6, 5.0
LIMIT = 8 * 2**30
"""Address space of a process: what asks for more fails, and is counted by its error."""
BIG = (0, 1, 2, 255, 256, 4096, 16383, 20000, 65500, 65535, 2**20, 2**24, 2**31 - 1, 2**32 - 1)


def healthy() -> dict[str, bytes]:
    """Make sound files of every format, by several writers, small and larger."""
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(72), np.arange(96)).astype(np.float64)
    colour = np.stack([slope, slope[::-1], slope[:, ::-1]], -1) + rng.normal(0, 8, (72, 96, 3))
    rgb = np.clip(colour + 40, 0, 255).astype(np.uint8)
    files: dict[str, bytes] = {}

    def pillow(name: str, kind: str, array: np.ndarray[Any, Any] = rgb, **options: object) -> None:
        out = io.BytesIO()
        Image.fromarray(array).save(out, kind, **options)
        files[name] = out.getvalue()

    pillow("jpeg", "JPEG")
    pillow("jpeg-progressive", "JPEG", progressive=True)
    pillow("jpeg-restart", "JPEG", restart_marker_rows=1, quality=40)
    pillow("jpeg-gray", "JPEG", rgb[..., 0])
    pillow("webp-lossy", "WEBP", quality=70)
    pillow("webp-alpha", "WEBP", np.dstack([rgb, rgb[..., 0]]), lossless=True)
    pillow("avif-lossy", "AVIF", quality=70)
    pillow("bmp-palette", "BMP", rgb[..., 0])
    pillow("jp2-lossy", "JPEG2000", irreversible=True, quality_mode="dB", quality_layers=[40])
    pillow("png-palette", "PNG", rgb[..., 0] // 64)
    files["bmp-rle"] = _rle(72)
    files["jxl-lossy"] = bytes(imagecodecs.jpegxl_encode(rgb, distance=1.0))
    for compression in ("jpeg", "jpegxr", "zlib", "lzw", "packbits", "zstd", "lzma", "lerc"):
        files[f"tiff-{compression}"] = _tiff(rgb, compression=compression, rowsperstrip=24)
    for compression in ("jpeg2000", "webp", "jpegxl", "png", "jpeg"):
        files[f"tiff-tiles-{compression}"] = _tiff(rgb, compression=compression, tile=(32, 32))
    files["tiff-stack"] = _tiff(np.stack([rgb[..., 0]] * 5), photometric="minisblack")
    files["tiff-imagej"] = _tiff(np.stack([rgb[..., 0]] * 5), imagej=True, photometric=None)
    files["tiff-ome"] = _tiff(np.stack([rgb[..., 0]] * 5), ome=True, photometric="minisblack")
    with tempfile.TemporaryDirectory() as folder:
        for known in FORMATS:
            if known.id == "heif" and heif.missing():
                continue
            info = image_info("none", 72, 96, 3, "uint8", metadata=Metadata(dpi=(72, 72)))
            path = Path(folder) / known.id
            with create_image(path, known.check(info)) as writer:
                writer.write_rows(0, 0, rgb)
            files[known.id] = path.read_bytes()
    return files


def _tiff(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **{"photometric": "rgb"} | options)
    return out.getvalue()


def _rle(rows: int) -> bytes:
    body = b"".join(bytes([96, row, 0, 0]) for row in range(rows)) + b"\0\1"
    palette = b"".join(bytes([v, v, 255 - v, 0]) for v in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, 96, rows, 1, 8, 1, 0, 0, 0, 256, 256)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


# Damage: what becomes of the bytes, and whether pixels are certainly missing then.


def cut(data: bytes, rng: random.Random) -> bytes:
    """Leave the end away."""
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Alter a few bytes, most of them near the beginning."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        reach = rng.choice([40, 200, 1000, len(data)])
        changed[rng.randrange(min(reach, len(data)))] = rng.randrange(256)
    return bytes(changed)


def dropped(data: bytes, rng: random.Random) -> bytes:
    """Take a piece out of the middle."""
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, max(1, len(data) // 4)) :]


def crafted(data: bytes, rng: random.Random) -> bytes:
    """Put telling numbers where headers have theirs; checksums of PNG are made right."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        form = rng.choice(["<H", ">H", "<I", ">I"])
        value = rng.choice(BIG) % (2**16 if form[1] == "H" else 2**32)
        reach = rng.choice([40, 120, 400])
        at = rng.randrange(max(1, min(reach, len(data) - 4)))
        struct.pack_into(form, changed, at, value)
    return _checksums(bytes(changed))


def claiming(data: bytes, rng: random.Random) -> bytes:
    """Make the header claim another size."""
    sides = [rng.choice(BIG[3:12]) for _ in range(2)]
    changed = bytearray(data)
    for pattern, form, at in _SIZES:
        top = {"H": 2**16 - 1, "i": 2**31 - 1, "I": 2**32 - 1}[form[-1]]
        for match in re.finditer(pattern, data, re.DOTALL):
            start = match.start() + at
            if start + struct.calcsize(form) <= len(data):
                numbers = [min(side, top) for side in sides[: len(form) - 1]]
                struct.pack_into(form, changed, start, *numbers)
                sides.reverse()
    return _checksums(bytes(changed))


_SIZES = (
    (rb"IHDR", ">II", 4),
    (rb"\xff[\xc0-\xc2]\0[\x0b\x11]\x08", ">HH", 5),
    (rb"\x9d\x01\x2a", "<HH", 3),
    (rb"VP8X", "<HH", 12),
    (rb"VP8L.{4}\x2f", "<I", 9),
    (rb"^\xff\x0a", "<I", 2),
    (rb"jxlc\xff\x0a", "<I", 6),
    (rb"^BM.{12}\x28", "<ii", 18),
    (rb"ispe\0\0\0\0", ">II", 8),
    (rb"\xff\x51..\0\0", ">II", 6),
    (rb"ihdr", ">II", 4),
    (rb"[\x00\x01]\x01[\x03\x04]\0\x01\0\0\0", "<I", 8),
)


def halved(data: bytes, rng: random.Random) -> bytes:
    """Leave out compressed pixels so that the file around them stays whole."""
    share = rng.uniform(0.1, 0.9)
    if data[:3] == b"\xff\xd8\xff":
        start = data.rindex(b"\xff\xda") + 14
        kept = data[: start + int(share * (len(data) - 2 - start))].rstrip(b"\xff")
        return kept + b"\xff\xd9"
    if data[:4] in (b"II*\0", b"MM\0*"):
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            page = tif.pages[0]
            count = page.databytecounts[-1]
            code = 325 if page.is_tiled else 279
            tag = page.tags[code]
            size = {3: 2, 4: 4, 16: 8}[tag.dtype]
        place = tag.valueoffset + (tag.count - 1) * size
        less = int(share * count).to_bytes(size, "little" if data[:2] == b"II" else "big")
        return data[:place] + less + data[place + size :]
    keep = int(share * len(data))
    if data[:4] == b"RIFF":  # sizes of the file and of its last chunk
        at = max(data.rfind(kind, 0, 64) for kind in (b"VP8 ", b"VP8L"))
        body = data[at + 8 : max(keep, at + 40)]
        body += bytes(len(body) % 2)
        whole = data[8 : at + 4] + struct.pack("<I", len(body)) + body
        return b"RIFF" + struct.pack("<I", len(whole)) + whole
    if data[:2] == b"BM" or data[:6] == b"\x93NUMPY":  # zeros may be black pixels
        return data[:keep]
    return data[:keep].ljust(len(data), b"\0")


def _checksums(data: bytes) -> bytes:
    if data[:4] != b"\x89PNG":
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        if at + 12 + length > len(out):
            break
        struct.pack_into(">I", out, at + 8 + length, zlib.crc32(out[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(out)


DAMAGES: tuple[tuple[Callable[[bytes, random.Random], bytes], bool], ...] = (
    (cut, True),
    (halved, True),
    (flipped, False),
    (dropped, False),
    (crafted, False),
    (claiming, False),
)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def read_all(path: Path) -> tuple[str, str, int]:
    """Read a file; return how it ended, what was said, a sum of the pixels."""
    total = 0
    try:
        with closing(open_image(path)) as reader:
            info = reader.info
            for plane in range(info.planes):
                for top in range(0, info.height, 4096):
                    rows = reader.read_rows(plane, top, min(top + 4096, info.height))
                    total = zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data, total)
    except InputError as fault:
        return "error", fault.message, 0
    except Exception:  # noqa: BLE001 - this is what is looked for
        return "TRACEBACK", traceback.format_exc(), 0
    return "picture", "; ".join(info.warnings), total


def try_one(path: Path) -> tuple[str, str, int, float, int]:
    """Read a file; return how it ended, what was said, memory, seconds, a sum of the pixels."""
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _peak(), time.perf_counter()
    ended, said, total = read_all(path)
    return ended, said, _peak() - before, time.perf_counter() - began, total


def cases(count: int, seed: int) -> Iterator[tuple[str, str, bytes, bool]]:
    """Yield name of the sound file, name of the damage, the bytes, whether pixels are missing."""
    files = sorted(healthy().items())
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        name, data = files[number % len(files)]
        damage, missing = DAMAGES[number // len(files) % len(DAMAGES)]
        yield name, damage.__name__, damage(data, rng), missing


def main() -> None:
    """Count what goes wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    most = [0, 0.0]
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(given.workers, initializer=_limit) as pool,
    ):
        sound = {}
        for name, data in healthy().items():
            path = Path(folder) / name
            path.write_bytes(data)
            sound[name] = pool.submit(try_one, path).result()
            if sound[name][0] != "picture":
                raise SystemExit(f"the sound file {name} is refused: {sound[name][1]}")
        running = []
        for number, (name, damage, data, missing) in enumerate(cases(given.count, given.seed)):
            path = Path(folder) / f"{number}-{name}-{damage}"
            path.write_bytes(data)
            running.append((path, name, missing, data, pool.submit(try_one, path)))
        for path, name, missing, data, future in running:
            ended, said, memory, seconds, total = future.result()
            if len(data) < SMALL:
                most = [max(most[0], memory), max(most[1], seconds)]
            changed = ended == "picture" and not said and total != sound[name][4]
            wrong = [
                *(["traceback"] if ended == "TRACEBACK" else []),
                *(["memory"] if memory > MOST_BYTES and len(data) < SMALL else []),
                *(["time"] if seconds > MOST_SECONDS and len(data) < SMALL else []),
                *(["silent half"] if missing and changed else []),
            ]
            counts.update([ended, *wrong])
            if wrong:
                print(
                    f"{path.name}: {', '.join(wrong)}: {memory / 1e6:.0f} MB {seconds:.1f} s {said}"
                )
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    (given.keep / path.name).write_bytes(data)
            path.unlink()
        for name in sound:
            (Path(folder) / name).unlink()
        counts["left files"] = len(list(Path(folder).iterdir()))
    for what in ("picture", "error", "traceback", "memory", "time", "silent half", "left files"):
        print(f"{what:>12} {counts[what]}")
    print(f"files below 10 kB took at most {most[0] / 1e6:.0f} MB and {most[1]:.1f} s")


if __name__ == "__main__":
    main()
