"""Maps of features that are worked through a few rows at a time, for `promptsid_fast`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.promptsid_parts import EPSILON, LayerNorm, Modulation

CPU_STRIP, GPU_STRIP = 4096, 2**20
"""Pixels worked on at a time: what a cache holds, and what keeps a graphics card busy."""

Strip = tuple[int, int, int]
"""Which part, its first row, and the row after its last."""


class Map:
    """Features of all pixels, changed in place, and what layer norm finds in each pixel.

    Attributes
    ----------
    x : torch.Tensor
        (N, H, W, C), contiguous.
    measured : bool
        Whether all pixels were measured since they were last changed.
    mean : torch.Tensor
        (C,): mean of the pixels normalised, once they are measured.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.measured = x, False
        self._pixels = x[..., 0].numel()
        self.mean = self._total = x.new_zeros(x.shape[3])
        self._centre, self._inverse = x.new_empty(2, *x.shape[:3], 1)

    def strips(self) -> Iterator[Strip]:
        """Yield strips, from the top down."""
        yield from strips(self.x)

    def measure(self, norm: LayerNorm, strip: Strip) -> None:
        """Normalise pixels and remember how; in the end, `close`."""
        n, top, bottom = strip
        x, centre, inverse = _normalise(norm, self.x[n, top:bottom])
        self._total += x.sum(0)
        self._inverse[n, top:bottom].view(-1, 1).copy_(inverse)
        if centre is not None:
            self._centre[n, top:bottom].view(-1, 1).copy_(centre)

    def close(self) -> None:
        """Hold what was measured: all pixels have been."""
        self.mean = self._total / self._pixels
        self._total = torch.zeros_like(self.mean)
        self.measured = True

    def normalised(self, norm: LayerNorm, strip: Strip) -> Tensor:
        """Return pixels normalised, without layer norm's weights: (pixels, C)."""
        n, top, bottom = strip
        rows = self.x[n, top:bottom]
        if not self.measured:
            return _normalise(norm, rows)[0]
        flat, inverse = rows.view(-1, rows.shape[2]), self._inverse[n, top:bottom].view(-1, 1)
        if norm.bias is None:
            return flat * inverse
        return (flat - self._centre[n, top:bottom].view(-1, 1)).mul_(inverse)


class Projection:
    """Layer norm, modulation and a 1x1 convolution as layer norm without weights and a matrix.

    Parameters
    ----------
    norm, modulate : LayerNorm, Modulation
        What comes before the convolution.
    weight, bias : torch.Tensor
        (D, C) and (D,) of the convolution.
    prompt, mean : torch.Tensor
        (P,) and (C,) that the modulation depends on.
    dtype : torch.dtype
        Of the product.
    """

    def __init__(
        self,
        norm: LayerNorm,
        modulate: Modulation,
        linear: tuple[Tensor, Tensor | None],
        given: tuple[Tensor, Tensor],
        dtype: torch.dtype,
    ) -> None:
        prompt, mean = given
        weight, bias = linear
        pooled = mean * norm.weight
        if norm.bias is not None:
            pooled = pooled + norm.bias
        pool = F.linear(pooled, modulate.pool.weight[:, :, 0, 0], modulate.pool.bias)
        scale, shift = (modulate.prompt(prompt) * pool).chunk(2)
        if norm.bias is not None:
            shift = shift + norm.bias * scale
        shift = weight @ shift
        self._norm, self._dtype = norm, dtype
        self._matrix = (weight * (norm.weight * scale)).t().to(dtype)
        self._shift = (shift if bias is None else shift + bias).to(dtype)

    def __call__(self, features: Map, strip: Strip, out: Tensor | None = None) -> Tensor:
        """Map a strip of h rows to (h * W, D), a new tensor or ``out`` (h, W, D)."""
        x = features.normalised(self._norm, strip).to(self._dtype)
        if out is None:
            return torch.addmm(self._shift, x, self._matrix)
        return torch.addmm(self._shift, x, self._matrix, out=out.view(len(x), -1))


class Adder:
    """A 1x1 convolution whose result is added to a map."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self._matrix, self._bias = weight.t().to(dtype), bias

    def __call__(self, features: Map, strip: Strip, x: Tensor) -> None:
        """Add what becomes of x (h * W, D) to a strip of h rows."""
        n, top, bottom = strip
        flat = features.x[n, top:bottom].view(len(x), -1)
        if x.dtype == flat.dtype:
            flat.addmm_(x, self._matrix)
        else:
            flat += x @ self._matrix
        if self._bias is not None:
            flat += self._bias


def step(x: Tensor) -> int:
    """Return how many rows of (…, W, C) to work on at a time; they are even, to be halved."""
    pixels = CPU_STRIP if x.device.type == "cpu" else GPU_STRIP
    return max(1, pixels // (2 * x.shape[-2])) * 2


def strips(x: Tensor) -> Iterator[Strip]:
    """Yield the strips of (N, H, W, C), from the top down."""
    rows, height = step(x), x.shape[1]
    for n in range(len(x)):
        for top in range(0, height, rows):
            yield n, top, min(top + rows, height)


def planes(rows: Tensor) -> Tensor:
    """View rows (h, W, C) as (1, C, h, W), channels last."""
    # In this order: the stride of the new axis tells torch the layout.
    return rows[None].permute(0, 3, 1, 2)


def convolve_strips(conv: nn.Conv2d, x: Tensor) -> Iterator[tuple[Strip, Tensor]]:
    """Convolve (N, H, W, C) by a 3x3 kernel, zeros beyond it; yield strips, rows (h, W, D)."""
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    for n, top, bottom in strips(x):
        rows = planes(x[n, max(top - 1, 0) : bottom + 1])
        rows = F.pad(rows, (0, 0, int(top == 0), int(bottom == x.shape[1])))
        found = F.conv2d(rows, weight, conv.bias, padding=(0, 1))
        yield (n, top, bottom), found[0].permute(1, 2, 0)


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (N, H, W, C) by a 3x3 kernel, zeros beyond it."""
    out = x.new_empty(*x.shape[:3], conv.out_channels)
    for (n, top, bottom), rows in convolve_strips(conv, x):
        out[n, top:bottom] = rows
    return out


def _normalise(norm: LayerNorm, rows: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return (h * W, C) normalised without weights, and each pixel's mean and inverse spread."""
    flat = rows.view(-1, rows.shape[2])
    if norm.bias is None:
        inverse = torch.rsqrt(flat.var(1, keepdim=True, correction=0) + EPSILON)
        return flat * inverse, None, inverse
    return torch.native_layer_norm(flat, flat.shape[1:], None, None, EPSILON)
