"""An image through a method: the only joiner of method, tiles, device and weights.

`load` makes a `Denoiser`; a `Denoiser` takes arrays, or anything that is read and
written by planes and row bands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import repeat

from denoisekit.device import (
    choose_plan,
    choose_precision,
    resolve_device,
    tile_memory,
)
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.inference import Network
from denoisekit.methods import LoadedMethod, MethodInfo, get_method
from denoisekit.options import Options
from denoisekit.ranges import (
    Range,
    fill_nonfinite,
    from_unit,
    narrow_warning,
    parse_range,
    resolve_range,
    to_unit,
)
from denoisekit.tiling import Floats, Plan, plan_tiles, run_tiled
from denoisekit.weights import LoadedWeights, load_weights

WriteRows = Callable[[int, int, Pixels], None]
"""``write(plane, top, rows)``, as `denoisekit.image.Writer.write_rows`."""


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
    """

    tile: tuple[int, int]
    tiles: int
    range: tuple[float, float]
    warnings: tuple[str, ...]


class Denoiser:
    """A method with its weights on a device, ready for any number of images.

    Parameters
    ----------
    info : MethodInfo
        The method.
    weights : LoadedWeights
        Weights that fit it.
    options : Options
        How to denoise.

    Attributes
    ----------
    device : torch.device
        Where it runs.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    network : Network
        The method there.
    """

    def __init__(self, info: MethodInfo, weights: LoadedWeights, options: Options) -> None:
        self.info, self.weights, self.options = info, weights, options
        self.device = resolve_device(options.device)
        self.precision = choose_precision(self.device, options.precision)
        self._warnings: list[str] = []
        self.network = Network(
            info, self._prepared, self.device, self.precision, options.seed, self.warn
        )

    def _prepared(self, precision: str) -> LoadedMethod:
        method = self.info.build(self.weights.config)
        method.load(self.weights.state)
        method.prepare(self.device, precision)
        return method

    def __call__(self, noisy: Pixels, *, axes: str | None = None) -> Pixels:
        """Denoise an array.

        Parameters
        ----------
        noisy : numpy.ndarray
            Any number type and any axes.
        axes : str, optional
            A letter an axis, ending in ``YX`` or ``YXS`` (S: colour samples). None:
            ``YXS`` where the last axis of at least three is 3 or 4 long, otherwise the
            last two are Y and X.

        Returns
        -------
        numpy.ndarray
            Same shape and dtype.

        Raises
        ------
        InputError
            Not an image: complex, bool, empty, too few axes.
        """
        from denoisekit.formats.raw_array import ArrayReader

        noisy = np.asarray(noisy)
        reader = ArrayReader(noisy, axes)
        info = reader.info
        denoised = np.empty((info.planes, info.height, info.width, info.samples), info.dtype)

        def write(plane: int, top: int, rows: Pixels) -> None:
            denoised[plane, top : top + len(rows)] = rows

        self.run(reader, write)
        # Another byte order than the machine's is kept too.
        return denoised.reshape(noisy.shape).astype(noisy.dtype, copy=False)

    def plan(self, image: ImageInfo, reserved: int = 0) -> Plan:
        """Return how the planes of an image would be cut.

        Parameters
        ----------
        image : ImageInfo
            The image.
        reserved : int
            Bytes it will take beside the tiles.
        """
        if self.options.tile is not None:
            side = self.options.tile or max(image.height, image.width)
            return plan_tiles(image.height, image.width, self.info.limits, (side, side))
        memory = tile_memory(self.device, self.options.max_memory, reserved)
        return choose_plan(image.height, image.width, self.info, self.precision, memory)

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
        image = reader.info
        self._warnings = list(image.warnings)
        scale = resolve_range(parse_range(self.options.range), reader)
        if warning := narrow_warning(scale, reader):
            self._warnings.append(warning)
        plan = self.plan(image, reserved)
        passes = 1 if image.colour == "rgb" else image.samples - image.alpha
        passes *= 8 if self.options.self_ensemble else 1
        share = image.height * image.width / (plan.read_pixels * passes)
        self.network.work = 0.0
        self.network.on_work = lambda work: on_progress(work * share) if on_progress else None
        for plane in range(image.planes):
            _Plane(self, reader, plane, scale).run(plan, write)
        unique = tuple(dict.fromkeys(self._warnings))
        return Report(plan.tile, plan.count, (scale.low, scale.high), unique)

    def warn(self, text: str) -> None:
        """Add a line to the report of the image under way."""
        self._warnings.append(text)

    def seconds_per_pixel(self) -> float:
        """Measure what a pixel costs here, self-ensemble included; for the time estimate."""
        return (8 if self.options.self_ensemble else 1) * self.network.seconds_per_pixel()


class _Plane:
    """One plane on its way: file values to 0..1, through the network, and back."""

    def __init__(self, denoiser: Denoiser, reader: Reader, plane: int, scale: Range) -> None:
        self.denoiser, self.reader, self.plane, self.scale = denoiser, reader, plane, scale
        self.info = reader.info
        self.colours = self.info.samples - self.info.alpha
        self.strength = denoiser.options.strength

    def run(self, plan: Plan, write: WriteRows) -> None:
        if self.strength == 0:
            self._copy(plan, write)
            return
        ensemble = self.denoiser.options.self_ensemble
        for top, band in run_tiled(self._tile, self._unit, plan, ensemble=ensemble):
            write(self.plane, top, self._file_values(top, band))

    def _copy(self, plan: Plan, write: WriteRows) -> None:
        for band in plan.bands():
            bottom = min(band.core_bottom, plan.height)
            # A copy, because a reader may hand out the same buffer again.
            write(self.plane, band.core_top, np.array(self._read(band.core_top, bottom)))

    def _read(self, top: int, bottom: int) -> Pixels:
        return self.reader.read_rows(self.plane, top, bottom)

    def _unit(self, top: int, bottom: int) -> Floats:
        """Return rows for the network: (n, W, C) float32 on 0..1, finite."""
        rows = self._read(top, bottom)[..., : self.colours]
        filled, holes = fill_nonfinite(rows)
        if holes is not None:
            self.denoiser.warn("pixels that are not numbers were left as they are")
        return to_unit(filled, self.scale)

    def _tile(self, noisy: Floats) -> Floats:
        """Fit the image's channels to the network's.

        Colour goes through as it is. Any other channel goes through on its own: it is
        repeated for the network's channels, and their results are averaged.
        """
        denoiser = self.denoiser
        channels = denoiser.info.channels
        if self.info.colour == "rgb" and channels == len(noisy):
            return denoiser.network(noisy)
        denoised = np.empty_like(noisy)
        for index, channel in enumerate(noisy):
            repeated = repeat(channel, "h w -> c h w", c=channels)
            denoised[index] = denoiser.network(repeated).mean(0)
        return denoised

    def _file_values(self, top: int, band: Floats) -> Pixels:
        """Return denoised rows as the file keeps them, with the input's alpha and holes."""
        info = self.info
        floats = info.dtype.kind == "f"
        if self.strength == 1 and not info.alpha and not floats:
            return from_unit(band, self.scale, info)
        noisy = self._read(top, top + len(band))
        rows = np.array(noisy)
        colour = noisy[..., : self.colours]
        filled, holes = fill_nonfinite(colour)
        if self.strength < 1:
            unit = to_unit(filled, self.scale)
            band = unit + np.float32(self.strength) * (band - unit)
        denoised = from_unit(band, self.scale, info)
        rows[..., : self.colours] = denoised if holes is None else np.where(holes, colour, denoised)
        return rows


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
        options.weights or info.default_weights,
        info,
        allow_download=allow_download,
        progress=progress,
    )
    return Denoiser(info, weights, options)
