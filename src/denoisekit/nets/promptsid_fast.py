"""The denoiser of Prompt-SID in the form that is fast and small at inference.

It computes what `denoisekit.nets.promptsid.Denoiser` computes, equal to rounding, but

- keeps pixels' channels side by side and works through a map a few rows at a time, so
  that what lies between two states of it never leaves the processor's cache;
- goes through a map three times a block, because two things must be known of all of it
  first: the attention between channels, and the mean that the gate is modulated by;
- folds layer norm's weights and the modulation into the matrix that follows them, and
  attention into the matrix after it, so that it becomes one multiplication.

What is taken from the image as a whole, its `Statistics`, can be kept and given to
another call. The network is local then, and a part of the image gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from denoisekit.nets.promptsid import EPSILON, Block, Denoiser, LayerNorm, Modulation

CPU_STRIP, GPU_STRIP = 2048, 2**20
"""Pixels worked on at a time: what a cache holds, and what keeps a graphics card busy."""

TINY = 1e-12
"""Smallest norm a channel is divided by, as in `torch.nn.functional.normalize`."""

Strip = tuple[int, int, int]
"""Which part, its first row, and the row after its last."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one block takes from the image as a whole.

    Attributes
    ----------
    attention_mean, gate_mean : torch.Tensor
        (C,): mean over the image of the normalised pixels that go into attention and
        gate, before layer norm's weights.
    attention : torch.Tensor
        (heads, C / heads, C / heads): shares in which channels are mixed.
    """

    attention_mean: Tensor
    attention: Tensor
    gate_mean: Tensor


def denoise(
    net: Denoiser,
    noisy: Tensor,
    prompt: Tensor,
    known: Sequence[Statistics] | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, tuple[Statistics, ...]]:
    """Denoise parts of one image. Safe to call from several threads at once.

    Parameters
    ----------
    net : Denoiser
        With its weights, on the device of ``noisy``.
    noisy : torch.Tensor
        (N, C, H, W) float32, H and W even: N parts of one image. Statistics are taken
        over all of them.
    prompt : torch.Tensor
        (P,).
    known : sequence of Statistics, optional
        Taken from the image before, one of each block; None takes them from ``noisy``.
    dtype : torch.dtype
        Of what is multiplied within blocks; what they add up to is float32.

    Returns
    -------
    denoised : torch.Tensor
        As ``noisy``.
    statistics : tuple of Statistics
        Of each block, in the order in which they run.
    """
    used: list[Statistics] = []

    def run(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        features = _Map(x)
        for block in blocks:
            bound = _BoundBlock(cast("Block", block), prompt, features, dtype)
            used.append(bound.observe() if known is None else bound.apply(known[len(used)]))
        return x

    count, _, height, width = noisy.shape
    wide = net.first.out_channels
    x = run(net.encode, _convolve(net.first, noisy.permute(0, 2, 3, 1)))
    deep = x.new_empty(count, height // 2, width // 2, 2 * wide)
    for (n, top, bottom), rows in _convolve_strips(net.down, x):
        shrunk = rearrange(rows, "(h a) (w b) c -> h w (c a b)", a=2, b=2)
        deep[n, top // 2 : bottom // 2] = shrunk
    run(net.bottom, deep)
    joined = x.new_empty(count, height, width, 2 * wide)
    joined[..., wide:] = x
    del x
    for (n, top, bottom), rows in _convolve_strips(net.up, deep):
        grown = rearrange(rows, "h w (c a b) -> (h a) (w b) c", a=2, b=2)
        joined[n, 2 * top : 2 * bottom, :, :wide] = grown
    del deep
    run([*net.decode, *net.refine], joined)
    return _convolve(net.last, joined).permute(0, 3, 1, 2) + noisy, tuple(used)


class _Map:
    """Features of all pixels, changed in place, and what layer norm finds in each pixel.

    Attributes
    ----------
    x : torch.Tensor
        (N, H, W, C), contiguous.
    mean : torch.Tensor or None
        (C,): mean of the pixels normalised; None: they are not measured.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.mean: Tensor | None = None
        self._centre, self._inverse = x.new_empty(2, *x.shape[:3], 1)

    def rows(self, strip: Strip) -> Tensor:
        """Return the pixels of a strip, (pixels, C), to be read or changed."""
        n, top, bottom = strip
        return self.x[n, top:bottom].view(-1, self.x.shape[3])

    def measure(self, norm: LayerNorm, strips: Iterable[Strip]) -> Tensor:
        """Normalise pixels and remember how; strips may be changed until they are yielded."""
        total = self.x.new_zeros(self.x.shape[3])
        for n, top, bottom in strips:
            normal, centre, inverse = _normalise(norm, self.rows((n, top, bottom)))
            total += normal.sum(0)
            self._centre[n, top:bottom].view(-1, 1).copy_(centre)
            self._inverse[n, top:bottom].view(-1, 1).copy_(inverse)
        self.mean = total / self.x[..., 0].numel()
        return self.mean

    def normalised(self, norm: LayerNorm, strip: Strip) -> Tensor:
        """Return pixels normalised, without layer norm's weights: (pixels, C)."""
        if self.mean is None:
            return _normalise(norm, self.rows(strip))[0]
        n, top, bottom = strip
        centre, inverse = (m[n, top:bottom].view(-1, 1) for m in (self._centre, self._inverse))
        return (self.rows(strip) - centre).mul_(inverse)


class _BoundBlock:
    """A block bound to a prompt and a map, which it changes in place."""

    def __init__(self, block: Block, prompt: Tensor, features: _Map, dtype: torch.dtype) -> None:
        self.block, self.prompt, self.features, self.dtype = block, prompt, features, dtype

    def observe(self) -> Statistics:
        """Run, and return the statistics; pixels are measured then for the next block."""
        first, features = self.block.norm_attention, self.features
        attention_mean = features.mean
        if attention_mean is None:
            attention_mean = features.measure(first, _strips(features.x))
        attention = self._attention(attention_mean)
        gate_mean = features.measure(self.block.norm_gate, self._mix(attention_mean, attention))
        features.measure(first, self._gate(gate_mean, _strips(features.x)))
        return Statistics(attention_mean, attention, gate_mean)

    def apply(self, known: Statistics) -> Statistics:
        """Run with statistics that are known, in one go."""
        mixed = self._mix(known.attention_mean, known.attention)
        for _ in self._gate(known.gate_mean, mixed):
            pass
        return known

    def _attention(self, mean: Tensor) -> Tensor:
        """Return the attention between channels: (heads, C / heads, C / heads)."""
        module = self.block.attention
        width, heads = len(mean), module.heads
        products = mean.new_zeros(heads, width // heads, width // heads)
        squares = mean.new_zeros(2 * width)
        for _, qk in self._filter(mean, slice(0, 2 * width)):
            q, k = qk.view(-1, 2, heads, width // heads).unbind(1)
            products += torch.bmm(q.permute(1, 2, 0), k.permute(1, 0, 2))
            squares += (qk * qk).sum(0, dtype=squares.dtype)
        norms = squares.sqrt().clamp_min(TINY).view(2, heads, -1)
        likeness = products / (norms[0][:, :, None] * norms[1][:, None, :])
        return (likeness * module.temperature).softmax(-1)

    def _mix(self, mean: Tensor, attention: Tensor) -> Iterator[Strip]:
        """Add what attention makes of the map to it; yield strips that are done."""
        out, width = self.block.attention.out, len(mean)
        matrix = (out.weight.view(width, width) @ torch.block_diag(*attention)).t().to(self.dtype)
        for strip, v in self._filter(mean, slice(2 * width, 3 * width)):
            _add(self.features.rows(strip), v, matrix, out.bias)
            yield strip

    def _gate(self, mean: Tensor, strips: Iterable[Strip]) -> Iterator[Strip]:
        """Add the gate to strips; yield those that are done."""
        module, norm = self.block.gate, self.block.norm_gate
        weight = module.wide.weight[:, :, 0, 0]
        matrix, shift = self._fold(norm, module.modulate, weight, module.wide.bias, mean)
        out = module.out.weight[:, :, 0, 0].t().to(self.dtype)
        for strip in strips:
            x = self.features.normalised(norm, strip).to(self.dtype)
            one, other = torch.addmm(shift, x, matrix).chunk(2, 1)
            _add(self.features.rows(strip), one * other, out, module.out.bias)
            yield strip

    def _filter(self, mean: Tensor, which: slice) -> Iterator[tuple[Strip, Tensor]]:
        """Yield strips and q, k or v of their pixels.

        Pixels are projected once, though the next strip may need them too. So a strip
        that was yielded may be changed.
        """
        module, norm, x = self.block.attention, self.block.norm_attention, self.features.x
        kernel = module.depthwise.weight[which].to(self.dtype)
        bias = None if module.depthwise.bias is None else module.depthwise.bias[which]
        bias = None if bias is None else bias.to(self.dtype)
        projection = None if module.qkv.bias is None else module.qkv.bias[which]
        weight = module.qkv.weight[which, :, 0, 0]
        matrix, shift = self._fold(norm, module.modulate, weight, projection, mean)
        height, width, size = x.shape[1], x.shape[2], len(kernel)
        # One row more on either side of a strip.
        around = x.new_empty(_rows_of_strip(x) + 2, width, size, dtype=self.dtype)
        for n, top, bottom in _strips(x):
            if top == 0:
                around[0] = 0  # beyond the image
            begin, end = top + 1 if top else 0, min(bottom + 1, height)
            if begin < end:
                seen = self.features.normalised(norm, (n, begin, end)).to(self.dtype)
                room = around[begin - top + 1 : end - top + 1].view(-1, size)
                torch.addmm(shift, seen, matrix, out=room)
            if bottom == height:
                around[bottom - top + 1] = 0
            planes = _planes(around[: bottom - top + 2])
            found = F.conv2d(planes, kernel, bias, padding=(0, 1), groups=size)
            yield (n, top, bottom), found[0].permute(1, 2, 0).reshape(-1, size)
            around[:2] = around[bottom - top : bottom - top + 2].clone()

    def _fold(
        self,
        norm: LayerNorm,
        modulate: Modulation,
        weight: Tensor,
        bias: Tensor | None,
        mean: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Fold layer norm's weights and the modulation into the 1x1 convolution after them.

        Returns its matrix (C, D) and shift (D,), for pixels normalised without weights.
        """
        pooled = mean * norm.weight
        if norm.bias is not None:
            pooled = pooled + norm.bias
        pool = F.linear(pooled, modulate.pool.weight[:, :, 0, 0], modulate.pool.bias)
        scale, shift = (modulate.prompt(self.prompt) * pool).chunk(2)
        if norm.bias is not None:
            shift = shift + norm.bias * scale
        shift = weight @ shift if bias is None else weight @ shift + bias
        return (weight * (norm.weight * scale)).t().to(self.dtype), shift.to(self.dtype)


def _add(pixels: Tensor, x: Tensor, matrix: Tensor, bias: Any) -> None:
    """Add what a 1x1 convolution makes of x to float32 pixels."""
    if x.dtype == pixels.dtype:
        pixels.addmm_(x, matrix)
    else:
        pixels += x @ matrix
    if bias is not None:
        pixels += bias


def _normalise(norm: LayerNorm, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (pixels, C) normalised without weights, and what was subtracted and multiplied."""
    size = pixels.shape[1]
    if norm.bias is not None and pixels.device.type != "cpu":
        return torch.native_layer_norm(pixels, (size,), None, None, EPSILON)
    # Twice as fast as torch's layer norm on one core.
    mean = pixels.mean(1, keepdim=True)
    centred = pixels - mean
    deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    inverse = deviation.square_().div_(size).add_(EPSILON).rsqrt_()
    if norm.bias is None:
        return pixels * inverse, torch.zeros_like(mean), inverse
    return centred.mul_(inverse), mean, inverse


def _rows_of_strip(x: Tensor) -> int:
    """Return how many rows of (…, W, C) to work on at a time; they are even, to be halved."""
    pixels = CPU_STRIP if x.device.type == "cpu" else GPU_STRIP
    return max(1, pixels // (2 * x.shape[-2])) * 2


def _strips(x: Tensor) -> Iterator[Strip]:
    """Yield the strips of (N, H, W, C), from the top down."""
    rows, height = _rows_of_strip(x), x.shape[1]
    for n in range(len(x)):
        for top in range(0, height, rows):
            yield n, top, min(top + rows, height)


def _planes(rows: Tensor) -> Tensor:
    """View rows (h, W, C) as (1, C, h, W), channels last."""
    # In this order: the stride of the new axis tells torch the layout.
    return rows[None].permute(0, 3, 1, 2)


def _convolve_strips(conv: nn.Conv2d, x: Tensor) -> Iterator[tuple[Strip, Tensor]]:
    """Convolve (N, H, W, C) by a 3x3 kernel, zeros beyond it; yield strips, rows (h, W, D)."""
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    for n, top, bottom in _strips(x):
        rows = _planes(x[n, max(top - 1, 0) : bottom + 1])
        rows = F.pad(rows, (0, 0, int(top == 0), int(bottom == x.shape[1])))
        found = F.conv2d(rows, weight, conv.bias, padding=(0, 1))
        yield (n, top, bottom), found[0].permute(1, 2, 0)


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (N, H, W, C) by a 3x3 kernel, zeros beyond it."""
    out = x.new_empty(*x.shape[:3], conv.out_channels)
    for (n, top, bottom), rows in _convolve_strips(conv, x):
        out[n, top:bottom] = rows
    return out
