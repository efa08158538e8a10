"""Losses compare what was never seen together, and are least where the noise is gone."""

from __future__ import annotations

import pytest
import torch

from denoisekit.learn.objectives import (
    distilled,
    gaussian,
    paired,
    recorrupt,
    recorrupted,
    resampled,
    sub_sampled,
)
from denoisekit.methods import Batch


def batch(noisy, seed=0):
    return Batch(noisy, torch.Generator().manual_seed(seed))


class Recording(torch.nn.Module):
    """Passes everything on and remembers it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, noisy):
        self.seen.append(noisy.clone())
        return noisy


@pytest.mark.parametrize("cell", [2, 4, 5])
def test_sub_samples_share_no_pixel_with_their_targets(cell):
    # All pixels differ, so a pixel compared with itself would show as a difference of 0.
    side = 6 * cell
    noisy = torch.randperm(side * side).float().view(1, 1, side, side)
    net = Recording()
    loss = sub_sampled(cell)(net, batch(noisy))
    (seen,) = net.seen
    assert seen.shape == (cell**2, 1, 6, 6)
    assert torch.equal(seen.flatten().sort().values, noisy.flatten().sort().values)
    differences = (seen - seen.roll(-1, 0)).abs()
    assert differences.min() > 0
    assert loss == pytest.approx(float(differences.mean()))


def test_pixels_of_a_sub_sample_lie_apart():
    cell, side = 4, 24
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    net = Recording()
    sub_sampled(cell)(net, batch((y * side + x).float()[None, None]))
    rows, columns = net.seen[0].long() // side, net.seen[0].long() % side
    cells = torch.arange(side // cell)
    assert torch.equal(rows // cell, cells[:, None].expand_as(rows))
    assert torch.equal(columns // cell, cells.expand_as(columns))


@pytest.mark.parametrize("pd", [1, 2, 3])
def test_pairs_lie_as_far_apart_as_the_noise_reaches_on_all_sides(pd):
    side = 14 * pd
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    places = torch.stack([y, x])[None]
    grids, steps = [], []

    class Spy(torch.nn.Module):
        """Takes the place of the network, and of what it is compared with."""

        def forward(self, noisy):
            grids.append(noisy.clone())
            return noisy

    seen = set()
    for seed in range(30):
        # The loss of a network that tells one coordinate's place is the target's distance.
        for channel in range(2):
            drawn = batch(places[:, [channel]], seed)
            steps.append(paired(pd, absolute=True)(Spy(), drawn).item())
        grid = grids[-1]
        assert set((grid[..., 1:] - grid[..., :-1]).flatten().tolist()) == {2.0 * pd}
        seen |= set(grid.flatten().tolist())
    # Six of the eight neighbours lie a step away along an axis.
    assert sum(steps) / len(steps) == pytest.approx(0.75 * pd, rel=0.05)
    # Every column but the border's is an input now and then.
    assert seen == set(range(pd, side - pd))


def test_pairs_of_a_flat_image_cost_nothing_and_gradients_flow():
    net = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.ones_(net.weight)
    torch.nn.init.zeros_(net.bias)
    flat = torch.full((2, 1, 16, 16), 0.3)
    for absolute in (True, False):
        loss = paired(2, absolute=absolute)
        assert loss(net, batch(flat)).item() == pytest.approx(0, abs=1e-12)
        loss(net, batch(torch.rand(2, 1, 16, 16))).backward()
        assert net.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "loss", [sub_sampled(4), paired(1, absolute=True), paired(2, absolute=False)]
)
def test_a_perfect_denoiser_costs_less_than_none_and_than_too_strong_a_one(loss):
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    clean = (0.5 + 0.3 * torch.sin(x / 9) * torch.cos(y / 7))[None, None]
    generator = torch.Generator().manual_seed(1)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)

    class Oracle(torch.nn.Module):
        """Knows the clean value of every noisy one."""

        def __init__(self, strength):
            super().__init__()
            self.strength = strength
            self.known = dict(zip(noisy.flatten().tolist(), clean.flatten().tolist(), strict=True))

        def forward(self, image):
            exact = torch.tensor([self.known[value] for value in image.flatten().tolist()])
            exact = exact.view_as(image)
            blurred = torch.nn.functional.avg_pool2d(exact, 5, 1, 2, count_include_pad=False)
            wanted = exact if self.strength <= 1 else blurred
            return image + min(self.strength, 1.0) * (wanted - image)

    costs = [loss(Oracle(strength), batch(noisy)).item() for strength in (0.0, 1.0, 2.0)]
    assert costs[1] < 0.8 * costs[0]
    assert costs[1] < costs[2]


def test_draws_follow_the_generator():
    noisy = torch.rand(1, 1, 32, 32)
    for loss in (sub_sampled(4), paired(2, absolute=True)):
        first = loss(torch.nn.Identity(), batch(noisy, 1))
        assert loss(torch.nn.Identity(), batch(noisy, 1)) == first
        assert loss(torch.nn.Identity(), batch(noisy, 2)) != first


def test_resampled_noise_is_what_was_taken_away_moved_by_a_few_pixels():
    denoised = torch.zeros(1, 1, 40, 40)
    noisy = denoised.clone()
    noisy[0, 0, 20, 20] = 1.0
    found = set()
    for seed in range(40):
        noise = resampled(3)(noisy, denoised, torch.Generator().manual_seed(seed))
        assert noise.sum() == 1.0
        row, column = (noise[0, 0] == 1).nonzero()[0].tolist()
        assert max(abs(row - 20), abs(column - 20)) <= 3
        found.add((row, column))
    assert len(found) > 20


def test_drawn_noise_is_as_strong_as_the_brightness_says():
    denoised = torch.full((1, 2, 300, 300), 0.2)
    denoised[..., 150:] = 0.8
    source = gaussian([((0.1, 0.002), (0.3, 0.004), (0.8, 0.009)), ((0.5, 0.004),)])
    noise = source(denoised, denoised, torch.Generator().manual_seed(0))
    dark, bright = noise[0, :, :, :150].var((1, 2)), noise[0, :, :, 150:].var((1, 2))
    assert dark.tolist() == pytest.approx([0.003, 0.004], rel=0.05)
    assert bright.tolist() == pytest.approx([0.009, 0.004], rel=0.05)
    both = (noise[..., 1:] * noise[..., :-1]).mean()
    assert abs(float(both)) < 0.05 * 0.004


def test_recorrupted_images_have_noise_that_is_not_correlated():
    draw = torch.Generator().manual_seed(1)
    noise, more = (0.1 * torch.randn(1, 1, 400, 400, generator=draw) for _ in range(2))
    shown, target = recorrupt(noise, more)
    assert abs(float((shown * target).mean())) < 0.02 * 0.01
    # Without the other noise they would be the same.
    assert float((noise * noise).mean()) > 0.9 * 0.01


def test_a_network_is_told_more_than_what_it_learns_from_knew():
    # A result that is right costs less than passing noise on, in either loss.
    clean = torch.linspace(0.2, 0.8, 64).expand(1, 1, 64, 64)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    pair = Batch(noisy, torch.Generator().manual_seed(3), clean)
    for loss in (distilled(resampled(4)), recorrupted(gaussian([((0.5, 0.01),)]))):
        wrong = loss(torch.nn.Identity(), pair).item()
        assert loss(lambda shown: clean, pair).item() < 0.9 * wrong
