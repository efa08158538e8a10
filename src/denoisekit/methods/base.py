"""What a denoising method is: described as data, loaded as an object.

`MethodInfo` needs no torch: it feeds ``denoisekit methods``, the docs and
``--help``. `LoadedMethod` is the loaded thing, bound to its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Limits:
    """Facts that tiling needs about a network; a test perturbs pixels to prove them.

    Attributes
    ----------
    multiple_of : int
        Height and width of a network call must be multiples of this.
    align : int
        Tiles must begin on multiples of this, counted from the image's origin.
    halo : int
        Input pixels farther than this from an output pixel do not change it.
    """

    multiple_of: int = 1
    align: int = 1
    halo: int = 0


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """A method described: everything about it that can be said before torch is imported.

    Attributes
    ----------
    id : str
        The name used everywhere: CLI, manifest, docs.
    title, summary, best_for, citation : str
        One line each.
    channels : int
        Channels the network takes; the kit fits other images to it.
    limits : Limits
        What tiling needs to know.
    scale : float
        Value of white that the network expects (1 or 255).
    default_weights : str
        Weights id used when none is asked for.
    flop_per_pixel : float
        Floating-point operations an output pixel costs (2 x multiply-add).
    bytes_per_pixel : mapping of str to float
        Peak working memory of a network call per input pixel and precision, in
        bytes, measured; a test checks it.
    build : callable
        ``build(config)`` makes the network of that configuration, weights not loaded.
    recognise : callable
        ``recognise({key: shape})`` returns the configuration of the official
        checkpoint with these keys, or None.
    rename : callable
        ``rename(key, config)`` gives our key for a key of the official checkpoint.
    """

    id: str
    title: str
    summary: str
    best_for: str
    citation: str
    channels: int
    limits: Limits
    scale: float
    default_weights: str
    flop_per_pixel: float
    bytes_per_pixel: Mapping[str, float]
    build: Callable[[Mapping[str, Any]], LoadedMethod]
    recognise: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any] | None]
    rename: Callable[[str, Mapping[str, Any]], str]


class LoadedMethod(Protocol):
    """A network ready to run. Every method's `build` returns one."""

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        ...

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision (``fp32``, ``bf16``, ``fp16``), ready to run fast."""
        ...

    def denoise(
        self,
        noisy: torch.Tensor,
        *,
        generator: torch.Generator | None = None,
        on_part: Callable[[float], None] | None = None,
    ) -> torch.Tensor:
        """Denoise.

        Parameters
        ----------
        noisy : torch.Tensor
            (N, C, H, W) float32 in the method's own scale, sizes already legal.
        generator : torch.Generator, optional
            Source of all randomness, for methods that draw.
        on_part : callable, optional
            Called now and then with the part of the work done, 0 to 1, for the progress
            bar; a method whose calls are short need not.

        Returns
        -------
        torch.Tensor
            Same shape, float32, not clamped. The input is left as it was.
        """
        ...
