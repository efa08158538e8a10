"""Time a network in the form of its reference and in the forms that run, in one go.

The reference form is the eager float32 forward in the usual NCHW layout. The runs take
turns, so that a machine that slows down slows all of them; medians are printed.

    python scripts/network_speed.py --network aprrd --side 1024
    python scripts/network_speed.py --network ssbsn --side 256 --runs 5
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from denoisekit.methods.promptsid import PUBLISHED
from denoisekit.nets.blind_spot import BlindSpotNet, BlockKind, FastBlindSpot
from denoisekit.nets.promptsid import PromptSID
from denoisekit.nets.promptsid_fast import denoise
from denoisekit.nets.self_similarity import EPSILON, SelfSimilarity
from denoisekit.nets.unet import BlockUNet, UNet

Form = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """A network at its published size, and how it is made fast.

    Attributes
    ----------
    plain : callable
        Makes the readable network, which training uses.
    fast : callable
        Makes the form that runs, from the plain one and a precision.
    scale : float
        Value of white.
    reference : callable
        Makes the network as its authors run it, from the plain one.
    """

    plain: Callable[[], Any]
    fast: Callable[[Any, torch.dtype], Form]
    scale: float = 1.0
    reference: Callable[[nn.Module], Form] = lambda net: net


class AllPairs(nn.Module):
    """Self-similarity by way of the matrix of all pairs, as its authors compute it."""

    def __init__(self, attention: SelfSimilarity) -> None:
        super().__init__()
        self.grid = attention.grid
        self.embed = attention.embed

    def forward(self, x: Tensor) -> Tensor:
        grid, (height, width) = self.grid, x.shape[2:]
        filled = (0, -width % grid, 0, -height % grid)
        split = "n c (h a) (w b) -> (n a b) (h w) c"
        like = rearrange(F.pad(F.layer_norm(x, x.shape[1:]), filled), split, a=grid, b=grid)
        value = rearrange(F.pad(x, filled), split, a=grid, b=grid)
        like = like @ self.embed
        like = like / (torch.linalg.norm(like, dim=-1, keepdim=True) + EPSILON)
        pairs = torch.bmm(like, like.transpose(1, 2))
        pairs += 1
        pairs /= like.shape[-1] ** 0.5
        average = torch.bmm(F.softmax(pairs, -1), value)
        sizes = {"a": grid, "b": grid, "h": -(-height // grid)}
        joined = rearrange(average, "(n a b) (h w) c -> n c (h a) (w b)", **sizes)
        return joined[:, :, :height, :width]


def with_all_pairs(net: nn.Module) -> nn.Module:
    """Return a copy of a network that holds the matrix of all pairs."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, SelfSimilarity):
                setattr(module, name, AllPairs(child))
    return net


class WithNoise(nn.Module):
    """Prompt-SID with the noise that its prompt is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.net = PromptSID(PUBLISHED)
        self.noise = torch.randn(1, 4 * PUBLISHED["features"])

    def forward(self, noisy: Tensor) -> Tensor:
        denoised: Tensor = self.net(noisy, self.noise)
        return denoised

    def fast(self, dtype: torch.dtype) -> Form:
        def run(noisy: Tensor) -> Tensor:
            prompt = self.net.sample(self.noise, self.net.condition(noisy))
            return denoise(self.net.denoiser, noisy, prompt[0], dtype=dtype)[0]

        return run


SDAP: list[BlockKind] = ["single"] * 9
SSBSN: list[BlockKind] = ["double"] * 6
SSBSN.extend(["attention"] * 3)

NETWORKS = {
    "aprrd": Network(lambda: UNet("1.02M"), BlockUNet),
    "sdap": Network(lambda: BlindSpotNet(3, 128, SDAP), FastBlindSpot),
    "ssbsn": Network(
        lambda: BlindSpotNet(3, 128, SSBSN),
        FastBlindSpot,
        scale=255.0,
        reference=with_all_pairs,
    ),
    "promptsid": Network(WithNoise, WithNoise.fast),
}


def forms_of(network: Network, asked: list[str]) -> dict[str, Form]:
    plain = network.plain().eval()
    for parameter in plain.parameters():
        # Features stay of one size from layer to layer.
        size = 0.05 if parameter.ndim == 1 else 0.8 * (2 / parameter[0].numel()) ** 0.5
        nn.init.normal_(parameter, std=size)
    make: dict[str, Callable[[], Form]] = {
        "reference": lambda: network.reference(plain),
        "plain": lambda: plain,
        "fp32": lambda: network.fast(plain, torch.float32),
        "bf16": lambda: network.fast(plain, torch.bfloat16),
    }
    return {name: make[name]() for name in ["reference", *asked]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a network.")
    parser.add_argument("--network", choices=NETWORKS, default="aprrd")
    parser.add_argument("--side", type=int, default=256, help="of the square image, in pixels")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--forms", nargs="*", choices=["plain", "fp32", "bf16"], default=["fp32", "bf16"]
    )
    arguments = parser.parse_args()

    torch.manual_seed(0)
    network = NETWORKS[arguments.network]
    noisy = torch.rand(1, 3, arguments.side, arguments.side) * network.scale
    seconds: dict[str, list[float]] = {}
    with torch.inference_mode():
        forms = forms_of(network, arguments.forms)
        expected = forms["reference"](noisy)
        spread = (expected.max() - expected.min()).item()
        for name, form in forms.items():
            error = (form(noisy) - expected).abs()
            largest, mean = error.max().item() / spread, (error.mean() / expected.std()).item()
            print(f"{name:>10}: off by at most {largest:.1g} of the range, mean {mean:.1g} std")
        for _ in range(arguments.runs):
            for name, form in forms.items():
                began = time.perf_counter()
                form(noisy)
                seconds.setdefault(name, []).append(time.perf_counter() - began)
    base = statistics.median(seconds["reference"])
    megapixels = arguments.side**2 / 1e6
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(
            f"{name:>10}: {median:.2f} s, {median / megapixels:.2f} s a megapixel, "
            f"{base / median:.2f} x reference"
        )


if __name__ == "__main__":
    main()
