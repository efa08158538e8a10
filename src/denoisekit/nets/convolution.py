"""Convolutions as the fast forms of the networks use them, on a part of an image at a time.

Two networks go through an image block by block (`Box`, `blocks`, `cut`); their convolutions have no
padding of their own. Others go through it strip by strip: `WinogradConv` and `DirectConv`, of which
the former needs fewer multiplications in the processor's float32.

Winograd: along a row, outputs are computed in groups from six inputs each: six products give
four outputs of a 3-tap kernel (instead of twelve) or two of a 5-tap kernel (instead of
ten). What was a convolution becomes a few matrix products on transformed rows, and
sums and differences of them, all small enough to stay in the processor's cache.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016;
here along one axis only, which keeps the float32 result as exact as the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Take = Callable[[int, int], Tensor]
"""``take(top, bottom)`` gives these rows of a map, (bottom - top, W, C)."""

WINOGRAD_STRIP = 2048
"""Pixels of a strip of rows for Winograd: their transforms fill the second-level cache."""

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)
_SIZE = len(_POINTS) + 1
"""Inputs and products of a group: one a point, and one for the highest power."""

STRIP = 2**13
"""Pixels of a strip of rows: enough for the processor, little enough for its cache."""

STRIP_GPU = 2**18
"""The same where there is no such cache, and thousands of pixels are worked on at once."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of an image; it may reach beyond it. ``bottom`` and ``right`` are outside."""

    top: int
    left: int
    bottom: int
    right: int

    def grow(self, n: int) -> Box:
        """Return the box with ``n`` pixels more on each side."""
        return Box(self.top - n, self.left - n, self.bottom + n, self.right + n)

    def moved(self, down: int, right: int) -> Box:
        """Return the box at another place."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def even(self) -> Box:
        """Return the smallest box around it whose borders are even."""
        return Box(
            self.top // 2 * 2,
            self.left // 2 * 2,
            -(-self.bottom // 2) * 2,
            -(-self.right // 2) * 2,
        )

    def clip(self, height: int, width: int) -> Box:
        """Return the part inside an image."""
        return Box(
            max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width)
        )

    def half(self) -> Box:
        """Return the box, whose borders are even, in an image of half the size."""
        return Box(self.top // 2, self.left // 2, self.bottom // 2, self.right // 2)


def blocks(height: int, width: int, side: int) -> Iterator[Box]:
    """Cut an image into boxes of at most ``side`` pixels square, row by row."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, left, min(top + side, height), min(left + side, width))


def cut(x: Tensor, box: Box, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Return the box of a picture whose first pixel is at ``origin``; zeros outside it."""
    top, left = box.top - origin[0], box.left - origin[1]
    bottom, right = box.bottom - origin[0], box.right - origin[1]
    height, width = x.shape[2:]
    inside = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    outside = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, outside) if any(outside) else inside


def phase_kernel(kernel: Tensor, phase: int, axis: int) -> Tensor:
    """Sum the three taps along an axis into the two that meet different pixels.

    On a nearest-upsampled image a 3x3 kernel meets every pixel twice along each axis:
    the first tap alone and the other two together (phase 0), or the first two together
    and the last alone (phase 1).
    """
    first, middle, last = kernel.unbind(axis)
    taps = [first, middle + last] if phase == 0 else [first + middle, last]
    return torch.stack(taps, axis)


def conv_like(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Conv2d:
    """Return a convolution without padding, in the layout that the processor prefers."""
    channels_out, channels_in, *kernel = weight.shape
    conv = nn.Conv2d(channels_in, channels_out, (kernel[0], kernel[1]), bias=bias is not None)
    conv.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    conv.to(dtype)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def valid(conv: nn.Module, dtype: torch.dtype) -> nn.Conv2d:
    """Return the same convolution without padding."""
    weight, bias = conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach()
    return conv_like(weight, bias, dtype)


def empty(
    like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None
) -> Tensor:
    """Return memory for features of as many images."""
    return torch.empty(
        (like.shape[0], channels, height, width),
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


class WinogradConv:
    """ReLU of a square convolution with zeros around, on maps (H, W, C), strip by strip.

    Parameters
    ----------
    weight : torch.Tensor
        (C_out, C_in, side, side), side 3 or 5.
    bias : torch.Tensor
        (C_out,).
    dilation : int
        Along the rows' length. Across the rows it is 1: pass every n-th row alone.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        self.dilation = dilation
        self.side = weight.shape[-1]
        self.outputs = _SIZE + 1 - self.side
        products = torch.einsum("pk,oirk->rpio", _kernel_matrix(self.side), weight.double().cpu())
        self.kernel = products.to(weight).contiguous()
        self.bias = bias

    def rows(self, take: Take, height: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield which rows, and the result there, (rows, W, C_out), from top to bottom.

        The map may be overwritten, up to there, with what is made of the result.
        """
        first = take(0, 1)
        width, channels = first.shape[1:]
        side, pad, dilation = self.side, self.side // 2, self.dilation
        groups = -(-width // (dilation * self.outputs))
        count = min(height, max(side - 1, WINOGRAD_STRIP // width))
        shape = (groups, dilation, channels)
        spread = first.new_zeros(
            count + side - 1, groups * self.outputs + side - 1, dilation, channels
        )
        known = first.new_zeros(_SIZE, count + side - 1, *shape)
        products = first.new_empty(_SIZE * count * groups * dilation * self.bias.numel())

        def fill(rows: Tensor, out: Tensor) -> None:
            part = spread[: len(rows)]
            part.flatten(1, 2)[:, pad * dilation : pad * dilation + width] = rows
            self._transform(part, out)

        for rows in slide(take, height, known, pad, fill):
            yield rows, self._outputs(known, products, rows.stop - rows.start, width)

    def _transform(self, padded: Tensor, out: Tensor) -> None:
        """(rows, columns, dilation, C) -> (6, rows, groups, dilation, C)."""
        groups, step = out.shape[2], self.outputs
        a, b, c, d, e, f = (padded[:, k::step][:, :groups] for k in range(_SIZE))
        even, odd = torch.sub(e, c, alpha=4), torch.sub(d, b, alpha=4)
        torch.add(even, odd, out=out[1])
        torch.sub(even, odd, out=out[2])
        torch.sub(e, c, out=even)
        torch.sub(d, b, out=odd)
        torch.add(even, odd, alpha=2, out=out[3])
        torch.sub(even, odd, alpha=2, out=out[4])
        torch.sub(a, c, out=out[0]).mul_(4).add_(even)
        torch.sub(f, d, out=out[5]).sub_(odd, alpha=4)

    def _outputs(self, known: Tensor, room: Tensor, rows: int, width: int) -> Tensor:
        """Multiply, and turn the products into the (rows, W, C) that they stand for."""
        groups, dilation = known.shape[2:4]
        size, channels = rows * groups * dilation, self.bias.numel()
        sums = room[: _SIZE * size * channels].view(_SIZE, size, channels)
        for tap, kernel in enumerate(self.kernel):
            inputs = known[:, tap : tap + rows].reshape(_SIZE, size, -1)
            if tap == 0:
                torch.bmm(inputs, kernel, out=sums)
            else:
                sums.baddbmm_(inputs, kernel)
        sums[1] += self.bias
        a, b, c, d, e, f = sums.view(_SIZE, rows, groups, dilation, channels)
        y = a.new_empty(rows, groups, self.outputs, dilation, channels)
        near, far = b + c, d + e
        near_odd, far_odd = b.sub_(c), d.sub_(e)
        torch.add(a, near, out=y[:, :, 0]).add_(far)
        if self.outputs == 2:
            torch.add(near_odd, far_odd, alpha=2, out=y[:, :, 1]).add_(f)
        else:
            torch.add(near_odd, far_odd, alpha=2, out=y[:, :, 1])
            torch.add(near, far, alpha=4, out=y[:, :, 2])
            torch.add(near_odd, far_odd, alpha=8, out=y[:, :, 3]).add_(f)
        return y.flatten(1, 3).relu_()[:, :width]


def slide(
    take: Take, height: int, known: Tensor, pad: int, fill: Callable[[Tensor, Tensor], None]
) -> Iterator[slice]:
    """Slide a window of rows down a map, strip by strip, with zeros above and below it.

    Parameters
    ----------
    take : callable
        Gives rows of the map; it is asked for each once, and for no row below a strip's
        window before that strip is yielded.
    height : int
        Of the map.
    known : torch.Tensor
        (n, rows of a strip + 2 pad, ...), zeros: the window, made of the map's rows.
    pad : int
        Rows that the window reaches beyond the strip, at both ends.
    fill : callable
        ``fill(rows, out)`` makes of rows of the map their part of the window.

    Yields
    ------
    slice
        The strip; its window begins at the begin of ``known``.
    """
    count = known.shape[1] - 2 * pad
    # What two windows share is kept, not made again.
    ready = pad
    for top in range(0, height, count):
        rows = min(count, height - top)
        begin, end = top - pad + ready, min(top + rows + pad, height)
        if end > begin:
            fill(take(begin, end), known[:, ready : ready + end - begin])
        known[:, end - top + pad :] = 0
        yield slice(top, top + rows)
        known[:, : 2 * pad] = known[:, rows : rows + 2 * pad].clone()
        ready = 2 * pad


def _kernel_matrix(taps: int) -> Tensor:
    """Return the (6, taps) that turns a kernel's row into the factors of the six products."""
    matrix = torch.zeros(_SIZE, taps, dtype=torch.float64)
    for row, point in enumerate(_POINTS):
        others = torch.tensor([point - other for other in _POINTS if other != point])
        matrix[row] = torch.tensor([point**power for power in range(taps)]) / others.prod()
    matrix[-1, -1] = 1
    return matrix


class DirectConv:
    """ReLU of a square convolution with zeros around."""

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        self.dilation = dilation
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias

    def rows(self, take: Take, height: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and the result there, as `WinogradConv` does."""
        pad = self.weight.shape[-1] // 2 * self.dilation
        first = take(0, 1)
        count = min(height, max(2 * pad, strip_height(first)))
        known = first.new_zeros(1, count + 2 * pad, *first.shape[1:])

        def fill(rows: Tensor, out: Tensor) -> None:
            out[0] = rows

        for rows in slide(take, height, known, pad, fill):
            window = known[:, : rows.stop - rows.start + 2 * pad].movedim(-1, 1)
            y = F.conv2d(window, self.weight, self.bias, 1, (0, pad), self.dilation)
            yield rows, F.relu_(y)[0].movedim(0, -1)


def strip_height(x: Tensor) -> int:
    """Return how many rows of (H, W, C) to work on at a time."""
    return (STRIP if x.device.type == "cpu" else STRIP_GPU) // x.shape[1] + 1


def strips(x: Tensor) -> Iterator[slice]:
    """Cut (H, W, C) into strips of rows."""
    for top in range(0, len(x), height := strip_height(x)):
        yield slice(top, min(top + height, len(x)))
