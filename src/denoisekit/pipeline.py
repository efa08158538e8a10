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
from denoisekit.draws import Draws
from denoisekit.errors import WeightsError
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
    traits : Traits
        Facts of the network of those weights.
    network : Network
        The method there.
    """

    def __init__(self, info: MethodInfo, weights: LoadedWeights, options: Options) -> None:
        self.info, self.weights, self.options = info, weights, options
        self.device = resolve_device(options.device)
        self.precision = choose_precision(self.device, options.precision)
        self.settings = info.choose(options.settings)
        self.traits = info.traits(weights.config, self.settings)
        self._warnings: list[str] = []
        self.network = Network(
            info.scale, self.traits, self._prepared, self.device, self.precision, self.warn
        )

    def _prepared(self, precision: str) -> LoadedMethod:
        method = self.info.build(self.weights.config, self.settings)
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
        plan = self.plan(image.height, image.width, reserved)
        share = image.height * image.width / (plan.read_pixels * self.passes(image))
        self.network.work = 0.0
        self.network.on_work = lambda work: on_progress(work * share) if on_progress else None
        for plane in range(image.planes):
            _Plane(self, reader, plane, scale).run(plan, write)
        unique = tuple(dict.fromkeys(self._warnings))
        return Report(plan.tile, plan.count, (scale.low, scale.high), unique)

    def warn(self, text: str) -> None:
        """Add a line to the report of the image under way."""
        self._warnings.append(text)

    def direct(self, image: ImageInfo) -> bool:
        """Return whether the network takes all of an image's channels at once."""
        colours = image.samples - image.alpha
        return colours == self.traits.channels and (colours == 1 or image.colour == "rgb")

    def passes(self, image: ImageInfo) -> int:
        """Return how often the network reads each tile of an image."""
        turns = 8 if self.options.self_ensemble else 1
        return turns * (1 if self.direct(image) else image.samples - image.alpha)


class _Plane:
    """One plane on its way: file values to 0..1, through the network, and back."""

    def __init__(self, denoiser: Denoiser, reader: Reader, plane: int, scale: Range) -> None:
        self.denoiser, self.reader, self.plane, self.scale = denoiser, reader, plane, scale
        self.info = reader.info
        self.colours = self.info.samples - self.info.alpha
        self.strength = denoiser.options.strength
        self.contexts: list[Any] = [None] * self.colours

    def run(self, plan: Plan, write: WriteRows) -> None:
        if self.strength == 0:
            self._copy(plan, write)
            return
        options = self.denoiser.options
        draws = Draws(options.seed)
        if self.denoiser.traits.studies and plan.count > 1:
            self._study(plan)
        bands = run_tiled(self._tile, self._unit, plan, draws=draws, ensemble=options.self_ensemble)
        for top, band in bands:
            write(self.plane, top, self._file_values(top, band))

    def _study(self, plan: Plan) -> None:
        """Show the whole plane to a method that wants to see it, for each of its passes."""
        denoiser = self.denoiser
        channels = denoiser.traits.channels

        def rows(top: int, bottom: int) -> Floats:
            return self._unit(top, bottom)

        def one(index: int) -> Callable[[int, int], Floats]:
            def rows_of_one(top: int, bottom: int) -> Floats:
                return repeat(self._unit(top, bottom)[..., index], "h w -> h w c", c=channels)

            return rows_of_one

        views = [rows] if denoiser.direct(self.info) else [one(i) for i in range(self.colours)]
        self.contexts = [
            denoiser.network.study(view, plan, denoiser.options.seed) for view in views
        ]

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

    def _tile(self, noisy: Floats, draws: Draws) -> Floats:
        """Fit the image's channels to the network's.

        Colour goes through as it is. Any other channel goes through on its own: it is
        repeated for the network's channels, and their results are averaged.
        """
        denoiser = self.denoiser
        channels = denoiser.traits.channels
        if denoiser.direct(self.info):
            return denoiser.network(noisy, draws, self.contexts[0])
        denoised = np.empty_like(noisy)
        for index, channel in enumerate(noisy):
            repeated = repeat(channel, "h w -> c h w", c=channels)
            denoised[index] = denoiser.network(repeated, draws, self.contexts[index]).mean(0)
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
    name = options.weights or info.default_weights
    if name is None:
        raise WeightsError(f"no weights for {info.id} are published", info.without_weights)
    weights = load_weights(
        name,
        info,
        allow_download=allow_download,
        progress=progress,
    )
    return Denoiser(info, weights, options)
