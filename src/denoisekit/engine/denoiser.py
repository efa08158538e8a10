"""A method with its weights on a device: `load` makes a `Denoiser`, which takes images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from denoisekit.engine.device import (
    all_devices,
    choose_plan,
    choose_precision,
    forget_lost_threads,
    resolve_device,
    tile_memory,
    tiles_at_once,
)
from denoisekit.engine.network import Network
from denoisekit.engine.run import Report, Run
from denoisekit.engine.signal import Signal, find_signal
from denoisekit.engine.tiling import Plan, plan_tiles
from denoisekit.engine.workers import Workers
from denoisekit.image import ImageInfo, Reader
from denoisekit.interop import Array, denoise_array
from denoisekit.methods import LoadedMethod, MethodInfo, get_method
from denoisekit.options import Options, Strength
from denoisekit.ranges import parse_range
from denoisekit.weights import LoadedWeights, load_weights

if TYPE_CHECKING:
    import torch

__all__ = ["Denoiser", "Report", "load"]


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
        Where it runs; ``cuda`` without a number: on all GPUs.
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
        workers = Workers(all_devices(self.device), options.threads)
        self.network = Network(info.scale, self.traits, self._prepared, workers, self.precision)

    def _prepared(self, device: torch.device, precision: str) -> LoadedMethod:
        method = self.info.build(self.weights.config, self.settings)
        method.load(self.weights.state)
        method.prepare(device, precision)
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

    def run(
        self,
        reader: Reader,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> Run:
        """Denoise an open image, plane by plane and band by band.

        Parameters
        ----------
        reader : Reader
            The noisy image.
        on_progress : callable, optional
            Called with the pixels done so far.
        reserved : int
            Bytes the image will take beside the tiles.

        Returns
        -------
        Run
            An iterator of ``(plane, top, rows)``, the denoised rows in order, in the reader's
            dtype; its `report` says afterwards what was done.
        """
        forget_lost_threads(self.device)
        image = reader.info
        signal = self.signal(reader)
        if self.strength == "auto" or signal.measured:
            from denoisekit.engine.restoration import restoring_bytes

            reserved += restoring_bytes(image, means=signal.measured)
        # Rows are held as they are, as the network sees them, and denoised; of measured data also
        # what lies outside of 0..1, and what is kept.
        each = image.dtype.itemsize + (13 if signal.measured else 9)
        row = image.width * image.samples * each
        plan, at_once = self.plan(image.height, image.width, reserved, row)
        return Run(self, reader, signal, plan, at_once, on_progress)

    def plan(self, height: int, width: int, reserved: int = 0, row: int = 0) -> tuple[Plan, int]:
        """Return how a plane would be cut, and how many tiles memory allows at once.

        Parameters
        ----------
        height, width : int
            Its size.
        reserved : int
            Bytes it will take beside tiles and rows.
        row : int
            Bytes of a row that is held.
        """
        memory = tile_memory(self.device, self.options.max_memory, reserved)
        workers, traits = self.network.workers.count, self.traits
        asked = self.options.tile
        if asked is None:
            return choose_plan(height, width, traits, self.precision, memory, workers, row)
        side = asked or max(height, width)
        plan = plan_tiles(height, width, traits.limits, (side, side))
        return plan, max(1, tiles_at_once(plan, traits, self.precision, memory, workers, row))

    @property
    def strength(self) -> Strength:
        """Blend with the input: what is asked for, or suits the weights."""
        asked = self.options.strength
        return self.weights.strength if asked is None else asked

    def signal(self, reader: Reader) -> Signal:
        """Return what of an image's values is signal."""
        options = self.options
        spec = parse_range(options.range)
        return find_signal(spec, reader, options.hot_pixels, own_range=self.own_range)

    def direct(self, image: ImageInfo) -> bool:
        """Return whether the network takes all of an image's channels at once."""
        colours = image.samples - image.alpha
        return colours == self.traits.channels and (colours == 1 or image.colour == "rgb")

    def passes(self, image: ImageInfo) -> int:
        """Return how often the network reads each tile of an image."""
        turns = 8 if self.options.self_ensemble else 1
        return turns * (1 if self.direct(image) else image.samples - image.alpha)

    def on_unit(self, strength: Strength | None = None) -> Denoiser:
        """Return the same denoiser for arrays on 0..1, to try it on parts of an image."""
        other = Denoiser.__new__(Denoiser)  # with the same network, which __init__ would make anew
        vars(other).update(vars(self))
        asked = self.options.strength if strength is None else strength
        other.options = replace(self.options, range="0,1", strength=asked)
        other.own_range = False
        return other


def _made_anew(method: str, weights: LoadedWeights, options: Options) -> Denoiser:
    return Denoiser(get_method(method), weights, options)


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
