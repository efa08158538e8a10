"""Checks shared by several test files."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from denoisekit.engine.run import Report, Run
from denoisekit.engine.signal import Channel, Signal
from denoisekit.engine.tiling import Piece
from denoisekit.engine.view import View
from denoisekit.limits import Limits


def assert_limits_are_true(
    net_fn: Callable[[np.ndarray], np.ndarray],
    limits: Limits,
    *,
    channels: int = 3,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Fail when a network does not behave as its `Limits` say.

    Perturbs every pixel beyond the halo of some output pixels: they must not change.
    Cuts strips out of a longer one: on the grid with the halo they must give the same
    pixels, off it (for every prime factor of ``align``) they must not, or a smaller
    ``align`` would do. Everything is done along both axes, on thin strips, so it is
    cheap for a network with a wide halo.

    Parameters
    ----------
    net_fn : callable
        (C, h, w) float32 on 0..1 -> (C, h, w) float32 without any padding or tiling of
        its own; sizes are multiples of ``limits.multiple_of``. Its weights must be such
        that the output depends on more than the centre pixel (trained, or random and
        not too small): a difference counts as real above ten times the tolerance.
    limits : Limits
        The claim.
    channels : int
        C.
    tolerance : float
        Largest difference that counts as rounding, in units of the output.
    seed : int
        Of the random strips.
    """
    grid = math.lcm(limits.multiple_of, limits.align)
    halo = -(-limits.halo // grid) * grid
    start = halo + grid * 2
    length = start + grid + halo + grid * 2
    thickness = -(-8 // grid) * grid
    rng = np.random.default_rng(seed)
    strip, other = rng.random((2, channels, thickness, length), np.float32)

    for axis, turn in (("x", lambda a: a), ("y", lambda a: a.transpose(0, 2, 1))):

        def net(pixels: np.ndarray, turn=turn) -> np.ndarray:
            return turn(net_fn(np.ascontiguousarray(turn(pixels))))

        whole = net(strip)
        assert whole.shape == strip.shape, f"{strip.shape} came back as {whole.shape}"

        for phase in {0, grid // 2, grid - 1}:
            at = start + phase
            near = np.abs(np.arange(length) - at) <= limits.halo
            change = net(np.where(near, strip, other))[:, :, at] - whole[:, :, at]
            assert np.abs(change).max() <= tolerance, (
                f"output pixel {axis}={at} sees farther than halo={limits.halo}: "
                f"it changed by {np.abs(change).max():.2g}"
            )

        def error(offset: int, net=net, whole=whole) -> float:
            left, right = start + offset - halo, start + offset + grid + halo
            core = net(strip[:, :, left:right])[:, :, halo : halo + grid]
            return np.abs(core - whole[:, :, start + offset :][:, :, :grid]).max()

        for offset in (0, grid):
            assert error(offset) <= tolerance, (
                f"a tile on the grid of {grid} along {axis} is wrong by {error(offset):.2g}"
            )
        for prime in (p for p in range(2, limits.align + 1) if limits.align % p == 0):
            if all(prime % q for q in range(2, prime)):
                assert error(limits.align // prime) > 10 * tolerance, (
                    f"align={limits.align} is more than needed along {axis}: "
                    f"tiles at offset {limits.align // prime} are right too"
                )


def on_pieces(fn: Callable[..., np.ndarray]) -> Callable[[Piece], np.ndarray]:
    """Return what runs a network of tiles and their draws as tiling asks for it."""

    def run(piece: Piece) -> np.ndarray:
        keep = piece.keep
        return fn(piece.noisy, piece.draws)[:, keep.top : keep.bottom, keep.left : keep.right]

    return run


def finished(run: Run) -> tuple[np.ndarray, Report]:
    """Return the rows of all planes, one below the other, and the report."""
    rows = np.concatenate([rows for _, _, rows in run])
    return rows, run.report()


def view_of(reader, scale):
    """Return how a network sees a reader's rows with a given range, without looking into them."""
    channel = Channel(scale, (scale.low + scale.high) / 2)
    signal = Signal((channel,), measured=False, absent=(), spikes=False, grey=False, remove=True)
    return View(reader, signal)


def load_script(name: str) -> ModuleType:
    """Import a module of ``scripts/``."""
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
