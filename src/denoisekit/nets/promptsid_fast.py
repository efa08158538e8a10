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
from torch import Tensor

from denoisekit.nets.promptsid import Denoiser
from denoisekit.nets.promptsid_parts import Block
from denoisekit.nets.promptsid_rows import (
    Adder,
    Map,
    Projection,
    Strip,
    convolve,
    convolve_strips,
    planes,
    step,
)

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
        features = Map(x)
        for block in blocks:
            bound = _Bound(block, prompt, dtype)
            if known is None:
                used.append(bound.observe(features))
            else:
                bound.apply(features, known[len(used)])
                used.append(known[len(used)])
            if on_block is not None:
                on_block(sum(costs[: len(used)]) / sum(costs))
        return x

    count, _, height, width = noisy.shape
    wide = net.first.out_channels
    x = run(net.encode, convolve(net.first, noisy.permute(0, 2, 3, 1)))
    deep = x.new_empty(count, height // 2, width // 2, 2 * wide)
    for (n, top, bottom), rows in convolve_strips(net.down, x):
        deep[n, top // 2 : bottom // 2] = rearrange(rows, _SHRINK, a=2, b=2)
    run(net.bottom, deep)
    joined = x.new_empty(count, height, width, 2 * wide)
    joined[..., wide:] = x
    del x
    for (n, top, bottom), rows in convolve_strips(net.up, deep):
        joined[n, 2 * top : 2 * bottom, :, :wide] = rearrange(rows, _GROW, a=2, b=2)
    del deep
    run([*net.decode, *net.refine], joined)
    return convolve(net.last, joined).permute(0, 3, 1, 2) + noisy, tuple(used)


class _Bound:
    """A block bound to a prompt; it changes maps in place."""

    def __init__(self, block: Block, prompt: Tensor, dtype: torch.dtype) -> None:
        self.block, self.prompt, self.dtype = block, prompt, dtype

    def observe(self, features: Map) -> Statistics:
        """Run, and return the statistics; pixels are measured then for the next block."""
        first, second = self.block.norm_attention, self.block.norm_gate
        if not features.measured:
            for strip in features.strips():
                features.measure(first, strip)
            features.close()
        attention_mean = features.mean
        attention = self._attention(features, attention_mean)
        for strip in self._mix(features, attention_mean, attention):
            features.measure(second, strip)
        features.close()
        gate_mean = features.mean
        gate = self._gate(gate_mean)
        for strip in features.strips():
            gate(features, strip)
            features.measure(first, strip)
        features.close()
        return Statistics(attention_mean, attention, gate_mean)

    def apply(self, features: Map, known: Statistics) -> None:
        """Run with statistics that are known, in one go."""
        gate = self._gate(known.gate_mean)
        for strip in self._mix(features, known.attention_mean, known.attention):
            gate(features, strip)

    def _attention(self, features: Map, mean: Tensor) -> Tensor:
        """Return the attention between channels: (heads, C / heads, C / heads)."""
        module = self.block.attention
        width, heads = len(mean), module.heads
        products = mean.new_zeros(heads, width // heads, width // heads)
        squares = mean.new_zeros(2 * width)
        for _, qk in self._filter(features, mean, slice(0, 2 * width)):
            q, k = qk.view(-1, 2, heads, width // heads).unbind(1)
            products += torch.bmm(q.permute(1, 2, 0), k.permute(1, 0, 2))
            squares += (qk * qk).sum(0, dtype=squares.dtype)
        norms = squares.sqrt().clamp_min(TINY).view(2, heads, -1)
        likeness = products / (norms[0][:, :, None] * norms[1][:, None, :])
        return (likeness * module.temperature).softmax(-1)

    def _mix(self, features: Map, mean: Tensor, attention: Tensor) -> Iterator[Strip]:
        """Add what attention makes of the map to it; yield strips that are done."""
        module = self.block.attention
        width = len(mean)
        matrix = module.out.weight.view(width, width) @ torch.block_diag(*attention)
        add = Adder(matrix, module.out.bias, self.dtype)
        for strip, v in self._filter(features, mean, slice(2 * width, 3 * width)):
            add(features, strip, v)
            yield strip

    def _filter(self, features: Map, mean: Tensor, which: slice) -> Iterator[tuple[Strip, Tensor]]:
        """Yield strips and q, k or v of their pixels.

        Pixels are projected once, though the next strip may need them too. So a strip
        that was yielded may be changed.
        """
        module = self.block.attention
        kernel = module.depthwise.weight[which].to(self.dtype)
        bias = _part(module.depthwise.bias, which)
        bias = None if bias is None else bias.to(self.dtype)
        project = Projection(
            self.block.norm_attention,
            module.modulate,
            (module.qkv.weight[which, :, 0, 0], _part(module.qkv.bias, which)),
            (self.prompt, mean),
            self.dtype,
        )
        height, width = features.x.shape[1:3]
        # One row more on either side of a strip.
        around = features.x.new_empty(step(features.x) + 2, width, len(kernel), dtype=self.dtype)
        for n, top, bottom in features.strips():
            if top == 0:
                around[0] = 0  # beyond the image
            begin, end = top + 1 if top else 0, min(bottom + 1, height)
            if begin < end:
                project(features, (n, begin, end), around[begin - top + 1 : end - top + 1])
            if bottom == height:
                around[bottom - top + 1] = 0
            seen = planes(around[: bottom - top + 2])
            found = F.conv2d(seen, kernel, bias, padding=(0, 1), groups=len(kernel))
            yield (n, top, bottom), found[0].permute(1, 2, 0).reshape(-1, len(kernel))
            around[:2] = around[bottom - top : bottom - top + 2].clone()

    def _gate(self, mean: Tensor) -> Callable[[Map, Strip], None]:
        """Return what adds the gate to a strip."""
        module = self.block.gate
        project = Projection(
            self.block.norm_gate,
            module.modulate,
            (module.wide.weight[:, :, 0, 0], module.wide.bias),
            (self.prompt, mean),
            self.dtype,
        )
        add = Adder(module.out.weight[:, :, 0, 0], module.out.bias, self.dtype)

        def gate(features: Map, strip: Strip) -> None:
            one, other = project(features, strip).chunk(2, 1)
            add(features, strip, one * other)

        return gate


def _part(bias: Tensor | None, which: slice) -> Tensor | None:
    return None if bias is None else bias[which]
