"""PNG in every colour type, and each chunk that says something about the picture."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from samples import HEIGHT, WIDTH, copied, every, pixels, png, png_chunk, png_chunks, read, write

from denoisekit.errors import InputError


def indexed(transparency: bytes | None = None, gray: bool = False) -> tuple[bytes, np.ndarray]:
    """Return a palette file and the pixels it stands for."""
    index = (pixels(1)[..., 0] // 16).astype(np.uint8)
    palette = np.stack([np.arange(16) * 17, np.arange(16)[::-1] * 9, np.arange(16) * 3], 1)
    if gray:
        palette[:] = palette[:, :1]
    palette = palette.astype(np.uint8)
    before = [(b"PLTE", palette.tobytes())]
    alpha = np.full(16, 255, np.uint8)
    if transparency is not None:
        before.append((b"tRNS", transparency))
        alpha[: len(transparency)] = list(transparency)
    colours = palette[:, :1] if gray else palette
    shown = np.concatenate([colours, alpha[:, None]], 1) if transparency is not None else colours
    return png(index, 8, 3, tuple(before)), shown[index]


@every("bits", [8, 16])
@every("samples", [1, 2, 3, 4])
def test_pixels_survive(tmp_path, samples, bits):
    array = pixels(samples, bits)
    target, info, seen = copied(tmp_path, imagecodecs.png_encode(array))
    assert np.array_equal(seen, array)
    assert (info.dtype.itemsize * 8, info.samples, info.alpha) == (bits, samples, samples % 2 == 0)
    # A decoder that is not ours, and one that is.
    assert np.array_equal(imagecodecs.png_decode(target.read_bytes()).reshape(array.shape), array)
    with Image.open(target) as image:
        image.load()


@every("bits", [2, 4])
def test_small_gray_keeps_its_depth(tmp_path, bits):
    values = pixels(1, bits)[..., 0]
    padded = np.pad(values, ((0, 0), (0, -WIDTH % (8 // bits))))
    spread = padded.reshape(HEIGHT, -1, 8 // bits) << np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, 0, 0, 0, 0)
    packed = np.bitwise_or.reduce(spread, axis=2)
    data = png(packed, bits, 0)
    data = data.replace(png_chunks(data)[0][1], head)
    data = data[:8] + png_chunk(b"IHDR", head) + data[33:]
    target, info, seen = copied(tmp_path, data)
    assert info.bits == bits
    assert info.peak == 2**bits - 1
    assert np.array_equal(seen[..., 0], values)
    assert png_chunks(target.read_bytes())[0][1] == head
    with Image.open(target) as image:
        shown = np.asarray(image.convert("L"))
    assert np.array_equal(shown, values * (255 // (2**bits - 1)))


@every("gray", [False, True])
@every("transparency", [None, bytes(range(0, 96, 8)), b"\0"])
def test_palette_becomes_colours(tmp_path, transparency, gray):
    data, shown = indexed(transparency, gray)
    target, info, seen = copied(tmp_path, data)
    assert np.array_equal(seen, shown)
    assert info.colour == ("gray" if gray else "rgb")
    assert any("palette" in note for note in info.warnings)
    assert np.array_equal(imagecodecs.png_decode(target.read_bytes()).reshape(shown.shape), shown)


@every(("samples", "bits"), [(1, 8), (3, 8), (1, 16), (3, 16)])
def test_colour_key_becomes_opacity(tmp_path, samples, bits):
    array = pixels(samples, bits)
    key = array[5, 7]
    body = array.astype(">u2") if bits == 16 else array
    data = png(
        body.reshape(HEIGHT, -1).view(np.uint8),
        bits,
        0 if samples == 1 else 2,
        ((b"tRNS", b"".join(struct.pack(">H", v) for v in key)),),
    )
    target, info, seen = copied(tmp_path, data)
    peak = 2**bits - 1
    alpha = np.where((array == key).all(-1), 0, peak)
    assert info.alpha
    assert np.array_equal(seen[..., :-1], array)
    assert np.array_equal(seen[..., -1], alpha)
    assert np.array_equal(imagecodecs.png_decode(target.read_bytes()), seen)


CHUNKS = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", *range(31270, 31278))),
    (b"sRGB", b"\1"),
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"sBIT", bytes([5, 6, 5])),
    (b"bKGD", struct.pack(">HHH", 1, 2, 3)),
    (b"tIME", struct.pack(">H5B", 2024, 2, 29, 12, 30, 59)),
    (b"tEXt", b"Comment\0a plain comment"),
    (b"zTXt", b"Raw profile type iptc\0\0" + b"x\x9c\x03\0\0\0\0\1"),
    (b"iTXt", b"Title\0\0\0de\0Titel\0gr\xc3\xbcn"),
    (b"pHYs", struct.pack(">IIB", 3, 2, 0)),
    (b"sCAL", b"\x011.5E-9\x002.5E-9"),
    (b"oFFs", struct.pack(">iiB", -5, 6, 0)),
    (b"prVt", b"private, safe to copy"),
]


@every("chunk", CHUNKS, ids=lambda c: c[0].decode())
def test_chunk_is_kept(tmp_path, chunk):
    data = png(pixels(3).reshape(HEIGHT, -1), 8, 2, (chunk,))
    target, info, _ = copied(tmp_path, data)
    assert info.warnings == ()
    assert chunk in png_chunks(target.read_bytes())


@every(
    ("before", "after"),
    [((b"sBIT", bytes([5, 6, 5])), (b"sBIT", bytes([5, 6, 5, 8]))), ((b"bKGD", b"\2"), None)],
)
def test_chunks_follow_the_palette(tmp_path, before, after):
    palette = bytes(range(48))
    index = (pixels(1)[..., 0] // 16).astype(np.uint8)
    data = png(index, 8, 3, (before, (b"PLTE", palette), (b"tRNS", b"\0")))
    target, _, _ = copied(tmp_path, data)
    expected = after or (b"bKGD", struct.pack(">HHH", *palette[6:9]))
    assert expected in png_chunks(target.read_bytes())


def test_chunk_about_old_pixels_is_dropped_and_told(tmp_path):
    data = png(pixels(3).reshape(HEIGHT, -1), 8, 2, ((b"caBX", b"a signature of the pixels"),))
    target, info, _ = copied(tmp_path, data)
    assert any("caBX" in note for note in info.warnings)
    assert b"caBX" not in dict(png_chunks(target.read_bytes()))


def test_broken_comment_does_not_spoil_the_picture(tmp_path):
    data = png(pixels(3).reshape(HEIGHT, -1), 8, 2, ((b"tEXt", b"Comment\0hello"),))
    target, info, seen = copied(tmp_path, data.replace(b"hello", b"jello"))
    assert np.array_equal(seen, pixels(3))
    assert any("tEXt" in note for note in info.warnings)
    assert b"tEXt" not in dict(png_chunks(target.read_bytes()))


def test_damaged_pixels_are_an_error(tmp_path):
    data = bytearray(imagecodecs.png_encode(pixels(3)))
    data[len(data) // 2] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match="checksum"):
        read(path)


def test_unknown_critical_chunk_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(pixels(3).reshape(HEIGHT, -1), 8, 2, ((b"CgBI", b"\0"),)))
    with pytest.raises(InputError, match="CgBI"):
        read(path)


def test_too_little_data_for_the_size_is_refused_before_decoding(tmp_path):
    data = png(pixels(1)[..., 0], 8, 0)
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(data[:8] + png_chunk(b"IHDR", head) + data[33:])
    with pytest.raises(InputError, match="too little data"):
        read(path)


def test_bands_do_not_change_the_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(pixels(4, 16)))
    info, array = read(path)
    files = []
    for band in (1, 5, HEIGHT):
        write(tmp_path / f"{band}", info, array, band)
        files.append(imagecodecs.png_decode((tmp_path / f"{band}").read_bytes()))
    assert all(np.array_equal(f, array) for f in files)


def test_drawings_are_packed_by_searching_for_matches(tmp_path):
    # Runs alone would leave this at a fifth of its size, matches find its period.
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (16, 48, 3), dtype=np.uint8)
    array = np.tile(tile, (20, 10, 1))
    target, _, _ = copied(tmp_path, imagecodecs.png_encode(array))
    assert target.stat().st_size < array.size / 20
