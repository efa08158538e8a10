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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from denoisekit.nets.promptsid import Denoiser
from denoisekit.nets.promptsid_parts import EPSILON, Block, LayerNorm, Modulation

CPU_STRIP, GPU_STRIP = 4096, 2**20
"""Pixels worked on at a time: what a cache holds, and what keeps a graphics card busy."""

_SHRINK = "(h a) (w b) c -> h w (c a b)"
_GROW = "h w (c a b) -> (h a) (w b) c"

TINY = 1e-12
"""Smallest norm a channel is divided by, as in `torch.nn.functional.normalize`."""


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
    on_block: Callable[[float], None] | None = None,
) -> tuple[Tensor, tuple[Statistics, ...]]:
    """Denoise parts of one image.

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
    on_block : callable, optional
        Called after each block with the part of the work done, 0 to 1.

    Returns
    -------
    denoised : torch.Tensor
        As ``noisy``.
    statistics : tuple of Statistics
        Of each block, in the order in which they run.
    """
    # A block costs its pixels times the square of its width: relative to one of the first.
    costs = [1.0] * (len(net.encode) + len(net.bottom))
    costs += [4.0] * (len(net.decode) + len(net.refine))
    used: list[Statistics] = []

    def run(blocks: Iterable[Any], x: Tensor) -> Tensor:
        mean: Tensor | None = None
        for block in blocks:
            bound = _Bound(block, prompt, dtype)
            if known is None:
                statistics, mean = bound.observe(x, mean)
            else:
                statistics = known[len(used)]
                bound.apply(x, statistics)
            used.append(statistics)
            if on_block is not None:
                on_block(sum(costs[: len(used)]) / sum(costs))
        return x

    count, _, height, width = noisy.shape
    wide = net.first.out_channels
    x = run(net.encode, _conv(net.first, noisy.permute(0, 2, 3, 1)))
    deep = x.new_empty(count, height // 2, width // 2, 2 * wide)
    for n, top, bottom, rows in _conv_rows(net.down, x):
        deep[n, top // 2 : bottom // 2] = rearrange(rows, _SHRINK, a=2, b=2)
    run(net.bottom, deep)
    joined = x.new_empty(count, height, width, 2 * wide)
    joined[..., wide:] = x
    del x
    for n, top, bottom, rows in _conv_rows(net.up, deep):
        joined[n, 2 * top : 2 * bottom, :, :wide] = rearrange(rows, _GROW, a=2, b=2)
    del deep
    run([*net.decode, *net.refine], joined)
    return _conv(net.last, joined).permute(0, 3, 1, 2) + noisy, tuple(used)


class _Bound:
    """A block bound to a prompt; it changes maps (N, H, W, C) in place."""

    def __init__(self, block: Block, prompt: Tensor, dtype: torch.dtype) -> None:
        self.block, self.prompt, self.dtype = block, prompt, dtype

    def observe(self, x: Tensor, mean: Tensor | None) -> tuple[Statistics, Tensor]:
        """Run, and return the statistics and the mean that the next block begins with."""
        first, second = self.block.norm_attention, self.block.norm_gate
        pixels = x[..., 0].numel()
        if mean is None:
            mean = torch.stack([_sum(first, rows) for rows in _strips(x)]).sum(0) / pixels
        attention = self._attention(x, mean)
        mix = self._mixer(mean, attention)
        sums = [_sum(second, rows) for part in x for rows in mix(part)]
        gate_mean = torch.stack(sums).sum(0) / pixels
        gate = self._gate(gate_mean)
        sums = [_sum(first, gate(rows)) for rows in _strips(x)]
        return Statistics(mean, attention, gate_mean), torch.stack(sums).sum(0) / pixels

    def apply(self, x: Tensor, known: Statistics) -> None:
        """Run with statistics that are known, in one go."""
        mix = self._mixer(known.attention_mean, known.attention)
        gate = self._gate(known.gate_mean)
        for part in x:
            for rows in mix(part):
                gate(rows)

    def _attention(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the attention between channels: (heads, C / heads, C / heads)."""
        module = self.block.attention
        width, heads = x.shape[3], module.heads
        products = x.new_zeros(heads, width // heads, width // heads)
        squares = x.new_zeros(2 * width)
        filtered = self._filter(mean, slice(0, 2 * width))
        for part in x:
            for _, qk in filtered(part):
                q, k = qk.view(-1, 2, heads, width // heads).unbind(1)
                products += torch.bmm(q.permute(1, 2, 0), k.permute(1, 0, 2))
                squares += (qk * qk).sum(0, dtype=torch.float32)
        norms = squares.sqrt().clamp_min(TINY).view(2, heads, -1)
        likeness = products / (norms[0][:, :, None] * norms[1][:, None, :])
        return (likeness * module.temperature).softmax(-1)

    def _mixer(self, mean: Tensor, attention: Tensor) -> Callable[[Tensor], Iterator[Tensor]]:
        """Return what adds the attention to (H, W, C) and yields rows that are done."""
        module = self.block.attention
        width = len(mean)
        matrix = module.out.weight.view(width, width) @ torch.block_diag(*attention)
        filtered = self._filter(mean, slice(2 * width, 3 * width))
        add = _Adder(matrix, module.out.bias, self.dtype)

        def mix(part: Tensor) -> Iterator[Tensor]:
            for rows, v in filtered(part):
                yield add(rows, v)

        return mix

    def _filter(
        self, mean: Tensor, which: slice
    ) -> Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]:
        """Return what yields rows of (H, W, C) and q, k or v of their pixels.

        A row's pixels are projected once, though two strips may need them. So the rows
        that were yielded may be changed.
        """
        module = self.block.attention
        kernel, bias = module.depthwise.weight[which], _part(module.depthwise.bias, which)
        kernel = kernel.to(self.dtype)
        bias = None if bias is None else bias.to(self.dtype)
        project = _Projection(
            self.block.norm_attention,
            module.modulate,
            (module.qkv.weight[which, :, 0, 0], _part(module.qkv.bias, which)),
            (self.prompt, mean),
            self.dtype,
        )

        def filtered(part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            height, width, _ = part.shape
            count = _rows(part)
            # One row more on either side; zeros beyond the image.
            around = part.new_zeros(count + 2, width, len(kernel), dtype=self.dtype)
            for top in range(0, height, count):
                bottom = min(top + count, height)
                begin, end = top + 1 if top else 0, min(bottom + 1, height)
                if begin < end:
                    project(part[begin:end], around[begin - top + 1 : end - top + 1])
                if bottom == height:
                    around[bottom - top + 1] = 0
                picture = _planes(around[: bottom - top + 2])
                found = F.conv2d(picture, kernel, bias, padding=(0, 1), groups=len(kernel))
                yield part[top:bottom], found[0].permute(1, 2, 0).reshape(-1, len(kernel))
                around[:2] = around[bottom - top : bottom - top + 2].clone()

        return filtered

    def _gate(self, mean: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what adds the gate to rows (h, W, C) and returns them."""
        module = self.block.gate
        project = _Projection(
            self.block.norm_gate,
            module.modulate,
            (module.wide.weight[:, :, 0, 0], module.wide.bias),
            (self.prompt, mean),
            self.dtype,
        )
        add = _Adder(module.out.weight[:, :, 0, 0], module.out.bias, self.dtype)

        def gate(rows: Tensor) -> Tensor:
            one, other = project(rows).chunk(2, 1)
            return add(rows, one * other)

        return gate


class _Projection:
    """Layer norm, modulation and a 1x1 convolution as layer norm without weights and a matrix."""

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
        self.norm, self.dtype = norm, dtype
        self.matrix = (weight * (norm.weight * scale)).t().to(dtype)
        self.shift = (shift if bias is None else shift + bias).to(dtype)

    def __call__(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """Map rows (h, W, C) to (h * W, D), a new tensor or ``out`` (h, W, D)."""
        x = _normalised(self.norm, rows).to(self.dtype)
        if out is None:
            return torch.addmm(self.shift, x, self.matrix)
        return torch.addmm(self.shift, x, self.matrix, out=out.view(len(x), -1))


class _Adder:
    """A 1x1 convolution whose result is added to a map."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.matrix, self.bias = weight.t().to(dtype), bias

    def __call__(self, rows: Tensor, x: Tensor) -> Tensor:
        """Add what becomes of x (h * W, D) to rows (h, W, C); return those."""
        flat = rows.view(len(x), -1)
        if x.dtype == flat.dtype:
            flat.addmm_(x, self.matrix)
        else:
            flat += x @ self.matrix
        if self.bias is not None:
            flat += self.bias
        return rows


def _normalised(norm: LayerNorm, rows: Tensor) -> Tensor:
    """Return rows (h, W, C) normalised, without weights: (h * W, C)."""
    flat = rows.view(-1, rows.shape[2])
    if norm.bias is None:
        return flat * torch.rsqrt(flat.var(1, keepdim=True, correction=0) + EPSILON)
    return F.layer_norm(flat, flat.shape[1:], eps=EPSILON)


def _sum(norm: LayerNorm, rows: Tensor) -> Tensor:
    return _normalised(norm, rows).sum(0)


def _rows(x: Tensor) -> int:
    """Return how many rows of (…, W, C) to work on at a time; they are even, to be halved."""
    pixels = CPU_STRIP if x.device.type == "cpu" else GPU_STRIP
    return max(1, pixels // (2 * x.shape[-2])) * 2


def _strips(x: Tensor) -> Iterator[Tensor]:
    for part in x:
        yield from part.split(_rows(x))


def _part(bias: Tensor | None, which: slice) -> Tensor | None:
    return None if bias is None else bias[which]


def _planes(x: Tensor) -> Tensor:
    """View rows (h, W, C) as (1, C, h, W)."""
    return x.permute(2, 0, 1)[None]


def _conv_rows(conv: nn.Conv2d, x: Tensor) -> Iterator[tuple[int, int, int, Tensor]]:
    """Convolve (N, H, W, C), zeros beyond it; yield part, first row, last row + 1, rows."""
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    for n, part in enumerate(x):
        height, step = len(part), _rows(part)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            rows = _planes(part[max(top - 1, 0) : bottom + 1])
            rows = F.pad(rows, (0, 0, int(top == 0), int(bottom == height)))
            found = F.conv2d(rows, weight, conv.bias, padding=(0, 1))
            yield n, top, bottom, found[0].permute(1, 2, 0)


def _conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (N, H, W, C), zeros beyond it."""
    out = x.new_empty(*x.shape[:3], conv.out_channels)
    for n, top, bottom, rows in _conv_rows(conv, x):
        out[n, top:bottom] = rows
    return out
