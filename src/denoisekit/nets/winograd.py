"""Convolutions of the processor's float32 with fewer multiplications.

Along a row, outputs are computed in groups from six inputs each: six products give
four outputs of a 3-tap kernel (instead of twelve) or two of a 5-tap kernel (instead of
ten). What was a convolution becomes a few matrix products on transformed rows, and
sums and differences of them, all small enough to stay in the processor's cache.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016;
here along one axis only, which keeps the float32 result as exact as the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Take = Callable[[int, int], Tensor]
"""``take(top, bottom)`` gives these rows of a map, (bottom - top, W, C)."""

STRIP = 2048
"""Pixels of a strip of rows and thread: their transforms fill the second-level cache."""

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)
_SIZE = len(_POINTS) + 1
"""Inputs and products of a group: one a point, and one for the highest power."""


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
        count = min(height, max(side - 1, STRIP * torch.get_num_threads() // width))
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
