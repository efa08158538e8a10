"""An image through a method: the only joiner of method, tiles, device and weights.

`load` makes a `Denoiser`; a `Denoiser` takes arrays, or anything that is read and
written by planes and row bands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from denoisekit.engine.device import (
    choose_plan,
    choose_precision,
    resolve_device,
    settle_after_fork,
    tile_memory,
)
from denoisekit.engine.network import Network, Telling
from denoisekit.engine.run import Run, WriteRows
from denoisekit.engine.signal import Signal, channel_of, find_signal
from denoisekit.engine.tiling import Floats, Plan, plan_tiles
from denoisekit.engine.view import ROWS, View
from denoisekit.image import ImageInfo, Reader
from denoisekit.interop import Array, denoise_array
from denoisekit.methods import LoadedMethod, MethodInfo, get_method
from denoisekit.options import Options, Strength
from denoisekit.ranges import parse_range
from denoisekit.weights import LoadedWeights, load_weights

if TYPE_CHECKING:
    from denoisekit.engine.restoration import Restoring

METER = "aprrd.camera"
"""Weights that ship, and take away hardly anything but noise."""
METER_BOXES = 256, 6, 3
"""Side of the boxes in which noise is measured, most of them, and most planes of a channel."""
OWN_BOXES = 192, 1, 1
"""The same for those weights themselves, of whose work it is to be a small part."""
AGREEMENT_SIDE, AGREEMENT_BOXES = 96, 4
"""Side of the boxes in which a method is compared with that network, and most of them."""
METER_LEAST = 32
"""Shortest side of an image whose noise is measured."""
CLEAN = 0.98
"""Part of what was taken away that was given back, from which on there was no noise."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one image.

    Attributes
    ----------
    tile : (int, int)
        Height and width of a tile's core; the padded image's where it was not cut.
    tiles : int
        Tiles of a plane.
    range : (float, float)
        File values taken for black and white.
    warnings : tuple of str
        What the user should know.
    notes : tuple of str
        What was found in the image and done about it, where it is not plain.
    returned : float or None
        With the strength ``auto``: the part of what the network took away, in squares, that
        was no noise and was given back.
    weights, weights_sha256 : str
        Those that it was denoised with.
    estimates : tuple of (str, float)
        Where they were chosen for the image: what each set is expected to reach, PSNR in dB, the
        best first.
    """

    tile: tuple[int, int]
    tiles: int
    range: tuple[float, float]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    returned: float | None = None
    weights: str = ""
    weights_sha256: str = ""
    estimates: tuple[tuple[str, float], ...] = ()


class Denoiser:
    """A method with its weights on a device, ready for any number of images.

    Parameters
    ----------
    info : MethodInfo
        The method.
    weights : LoadedWeights
        Weights that fit it. Those fitted to one image say in their configuration which file
        values it had (``range``, used where none is asked for), and what is added to each
        channel on 0..1 so that its mean stays (``offset``).
    options : Options
        How to denoise.

    Attributes
    ----------
    device : torch.device
        Where it runs.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    traits : Traits
        Facts of the network of those weights.
    network : Network
        The method there.
    """

    def __init__(self, info: MethodInfo, weights: LoadedWeights, options: Options) -> None:
        self.own_range = options.range == "auto" and "range" in weights.config
        if self.own_range:
            options = replace(options, range=weights.config["range"])
        self.info, self.weights, self.options = info, weights, options
        self.offset: tuple[float, ...] = tuple(weights.config.get("offset", ()))
        self.device = resolve_device(options.device)
        self.precision = choose_precision(self.device, options.precision)
        self.settings = info.choose(options.settings)
        self.traits = info.traits(weights.config, self.settings)
        self.network = Network(info.scale, self.traits, self._prepared, self.device, self.precision)

    def _prepared(self, precision: str) -> LoadedMethod:
        method = self.info.build(self.weights.config, self.settings)
        method.load(self.weights.state)
        method.prepare(self.device, precision)
        return method

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew where it arrives: what a device holds and networks in their fast form stay.
        return _made_anew, (self.info.id, self.weights, self.options)

    def __call__(self, noisy: Array, *, axes: str | None = None) -> Array:
        """Denoise an array.

        Parameters
        ----------
        noisy : array
            Of numpy, masked or not, torch, xarray or dask, or a PIL image; any number type and
            any axes. See `denoisekit.denoise` for how each is understood.
        axes : str, optional
            A letter an axis, in any order: ``Y`` and ``X``, ``S`` for colour samples, any
            other for axes whose planes are denoised apart. Default: what the array says, or
            a guess from its shape.

        Returns
        -------
        array
            Of the same kind, shape and dtype.

        Raises
        ------
        InputError
            Not an image: complex, bool, empty, too few axes.
        UsageError
            The axes do not fit, or it is the name of a file.
        """
        return denoise_array(self.run, noisy, axes)

    def plan(self, height: int, width: int, reserved: int = 0) -> Plan:
        """Return how a plane would be cut.

        Parameters
        ----------
        height, width : int
            Its size.
        reserved : int
            Bytes it will take beside the tiles.
        """
        if self.options.tile is not None:
            side = self.options.tile or max(height, width)
            return plan_tiles(height, width, self.traits.limits, (side, side))
        memory = tile_memory(self.device, self.options.max_memory, reserved)
        return choose_plan(height, width, self.traits, self.precision, memory)

    @property
    def strength(self) -> Strength:
        """Blend with the input: what is asked for, or suits the weights."""
        asked = self.options.strength
        return self.weights.strength if asked is None else asked

    def run(
        self,
        reader: Reader,
        write: WriteRows,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> Report:
        """Denoise an open image, plane by plane and band by band.

        Parameters
        ----------
        reader : Reader
            The noisy image.
        write : callable
            Takes the denoised rows, in order, in the reader's dtype.
        on_progress : callable, optional
            Called with the pixels done so far.
        reserved : int
            Bytes the image will take beside the tiles.

        Returns
        -------
        Report
            What was done.
        """
        settle_after_fork(self.device)
        image = reader.info
        signal = self.signal(reader)
        reserved += self._window_bytes(image)
        plan = self.plan(image.height, image.width, reserved)
        share = image.height * image.width / (plan.read_pixels * self.passes(image))
        telling = Telling(on_progress and (lambda work: on_progress(work * share)))
        telling.warnings += image.warnings
        run = Run(self, reader, signal, plan, telling)
        studied = self._study_pixels(plan, reserved)
        restoring: dict[int, Restoring] = {}
        for plane in range(image.planes):
            channel = channel_of(image, plane)
            if channel not in restoring:
                restoring[channel] = self._restoring(reader, signal, channel)
            for top, rows in run.bands(plane, studied, restoring[channel]):
                write(plane, top, rows)
        return Report(
            plan.tile,
            plan.count,
            (signal.scale.low, signal.scale.high),
            tuple(dict.fromkeys(telling.warnings)),
            tuple(_notes(run)),
            run.restored.share if self.strength == "auto" else None,
            self.weights.id,
            self.weights.sha256,
        )

    def signal(self, reader: Reader) -> Signal:
        """Return what of an image's values is signal."""
        options = self.options
        spec = parse_range(options.range)
        return find_signal(spec, reader, options.hot_pixels, own_range=self.own_range)

    def _window_bytes(self, image: ImageInfo) -> int:
        """Return what is held of an image beside its tiles: some rows, noisy and denoised."""
        row = image.width * image.samples * (8 + image.dtype.itemsize)
        return row * min(image.height, 16 * ROWS)

    def _restoring(self, reader: Reader, signal: Signal, channel: int) -> Restoring:
        """Return what is given back: patterns, and texture by the noise that the meter sees."""
        from denoisekit.engine.restoration import (
            Restoring,
            agreement,
            measure_noise,
        )

        image, auto = reader.info, self.strength == "auto"
        # A fit keeps the mean by itself, or was told not to.
        what = Restoring(
            structure=auto,
            means=signal.measured and not self.own_range,
            colour=image.colour == "rgb",
        )
        if not auto or min(image.height, image.width) < METER_LEAST:
            return what
        axes = "YXS" if what.colour else "YXC"
        own = self.weights.id == METER
        if own and signal.measured:  # no clean photograph's texture is at stake
            return what
        meter = _meter(str(self.device))
        pairs = [
            (noisy, np.asarray(meter(noisy, axes=axes)))
            for noisy in _boxes(reader, signal, channel, *(OWN_BOXES if own else METER_BOXES))
        ]
        what = replace(what, noises=measure_noise(pairs, self.device, colour=what.colour))
        if own:
            return replace(what, trusted=True)
        removed, noise = [], []
        for noisy, clean in (map(_middle, pair) for pair in pairs[:AGREEMENT_BOXES]):
            mine = self._restored_box(noisy, axes, what)
            removed.append(noisy - mine)
            noise.append(noisy - clean)
        return replace(what, agreed=agreement(removed, noise))

    def _restored_box(self, noisy: Floats, axes: str, what: Restoring) -> Floats:
        """Return what becomes of a box (h, w, C) on 0..1."""
        from denoisekit.engine.restoration import Restored, restore

        plain = on_unit(self)
        plain.options = replace(plain.options, strength=1.0)
        bands = [(0, np.asarray(plain(noisy, axes=axes)))]

        def rows(top: int, bottom: int) -> Floats:
            return noisy[top:bottom]

        parts = restore(bands, rows, noisy.shape[:2], self.device, what, Restored())
        return np.concatenate([part for _, part in parts])

    def _study_pixels(self, plan: Plan, reserved: int) -> int:
        """Return how much of an image fits in one call: as much as its tiles, or memory, allow."""
        pixels = math.prod(plan.largest_read)
        if self.traits.studies and plan.count > 1 and self.options.tile is not None:
            memory = tile_memory(self.device, self.options.max_memory, reserved)
            pixels = max(pixels, int(memory / self.traits.bytes_per_pixel[self.precision]))
        return min(pixels, plan.read_pixels)

    def direct(self, image: ImageInfo) -> bool:
        """Return whether the network takes all of an image's channels at once."""
        colours = image.samples - image.alpha
        return colours == self.traits.channels and (colours == 1 or image.colour == "rgb")

    def passes(self, image: ImageInfo) -> int:
        """Return how often the network reads each tile of an image."""
        turns = 8 if self.options.self_ensemble else 1
        return turns * (1 if self.direct(image) else image.samples - image.alpha)


def _notes(run: Run) -> Iterator[str]:
    """Say what was found in an image and done about it."""
    signal, restored = run.signal, run.restored
    if line := signal.line():
        yield line
    if wrong := run.view.hot + run.view.dead:
        done = "removed" if signal.remove else "left as they are"
        yield f"{wrong} hot or dead pixels, {done} (see --hot-pixels)"
    if run.view.masked:
        yield "values that are no measurement were left as they are"
    if run.strength == "auto" and restored.share >= CLEAN:
        told = "there is no noise to speak of"
        if run.denoiser.weights.id != METER:
            told = f"{run.denoiser.weights.id} takes hardly any noise from it"
        yield f"{told}: the picture is as it was"


@cache
def _meter(device: str) -> Denoiser:
    """Return what takes away hardly anything but noise, to measure that."""
    return load(
        Options(weights=METER, strength=1.0, device=device, range="0,1"), allow_download=False
    )


def _middle(box: Floats) -> Floats:
    """Return the part of a box in which two networks are compared."""
    top, left = (max(0, (size - AGREEMENT_SIDE) // 2) for size in box.shape[:2])
    return np.ascontiguousarray(box[top:, left:][:AGREEMENT_SIDE, :AGREEMENT_SIDE])


def _boxes(
    reader: Reader, signal: Signal, channel: int, longest: int, most: int, most_planes: int
) -> Iterator[Floats]:
    """Yield boxes spread over a channel of an image, (h, w, C) on 0..1."""
    image, view = reader.info, View(reader, signal)
    planes = [p for p in range(image.planes) if channel_of(image, p) == channel]
    side = min(longest, image.height), min(longest, image.width)
    room = image.height // side[0], image.width // side[1]
    count = min(most_planes, len(planes))
    down = min(room[0], max(1, round((most / count * room[0] / room[1]) ** 0.5)))
    across = min(room[1], max(1, most // (count * down)))
    for index in range(count):
        plane = planes[(2 * index + 1) * len(planes) // (2 * count)]
        for top in _amid(image.height, side[0], down):
            rows = view.unit(plane, top, top + side[0])
            for left in _amid(image.width, side[1], across):
                yield np.ascontiguousarray(rows[:, left : left + side[1]])


def _amid(length: int, side: int, count: int) -> list[int]:
    """Return where boxes begin amid equal shares of a length."""
    return [((2 * i + 1) * length // count - side) // 2 for i in range(count)]


def _made_anew(method: str, weights: LoadedWeights, options: Options) -> Denoiser:
    return Denoiser(get_method(method), weights, options)


def on_unit(denoiser: Denoiser) -> Denoiser:
    """Return the same denoiser for arrays on 0..1, to try it on parts of an image."""
    other = Denoiser.__new__(Denoiser)  # with the same network, which copy.copy would make anew
    vars(other).update(vars(denoiser))
    other.options = replace(denoiser.options, range="0,1")
    other.own_range = False
    return other


def load(
    options: Options | None = None,
    *,
    allow_download: bool = True,
    progress: Callable[[int, int], Any] | None = None,
) -> Denoiser:
    """Find, verify and load a method's weights.

    Parameters
    ----------
    options : Options, optional
        What to load and how to run it.
    allow_download : bool
        Fetch weights that are not here.
    progress : callable, optional
        Called with bytes done and in all while fetching.

    Returns
    -------
    Denoiser
        Ready for arrays and files.

    Raises
    ------
    UsageError
        Unknown method, weights, device or precision.
    WeightsError
        The weights are absent and cannot be fetched, or are damaged.
    """
    options = options or Options()
    info = get_method(options.method)
    resolve_device(options.device)
    weights = load_weights(
        options.weights,
        info,
        allow_download=allow_download,
        progress=progress,
    )
    return Denoiser(info, weights, options)
