"""APR-RD: the distilled student network, one pass, local.

Kim et al., "APR-RD: Complemental Two Steps for Self-Supervised Real Image
Denoising", AAAI 2025. A blind-spot teacher is trained on noisy images alone
(adjacent pixel replacer), then distilled into a plain U-Net (recharged
distillation). Only the student runs here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from denoisekit.methods.base import Config, Limits, MethodInfo, Settings, Traits

if TYPE_CHECKING:
    import torch

    from denoisekit.draws import Draws
    from denoisekit.methods.base import State
    from denoisekit.nets.unet_blocks import BlockUNet


class Student:
    """The student U-Net with its weights. Values on 0..1."""

    def __init__(self, config: Config, settings: Settings) -> None:  # noqa: ARG002 - none
        from denoisekit.nets.unet import UNet

        self.net = UNet(config["variant"]).eval()
        self._fast: BlockUNet | None = None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        return {key: tuple(value.shape) for key, value in self.net.state_dict().items()}

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        self.net.load_state_dict(dict(state), strict=True)

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        import torch

        from denoisekit.nets.unet_blocks import BlockUNet

        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        self._fast = BlockUNet(self.net, dtypes[precision]).to(device)

    def denoise(
        self,
        noisy: torch.Tensor,
        *,
        draws: Draws,  # noqa: ARG002 - nothing is drawn
        context: Any = None,  # noqa: ARG002 - nothing beyond the tile matters
        on_part: Callable[[float], None] | None = None,
    ) -> torch.Tensor:
        """Denoise (N, 3, H, W) float32, H and W multiples of 32, in one pass."""
        import torch

        with torch.inference_mode():
            denoised: torch.Tensor = (
                self.net(noisy) if self._fast is None else self._fast(noisy, on_part)
            )
        return denoised


def _traits(config: Config, settings: Settings) -> Traits:  # noqa: ARG001 - one size
    return Traits(
        limits=Limits(multiple_of=32, align=32, halo=160),
        flop_per_pixel=0.41e6,
        bytes_per_pixel={"fp32": 230.0, "bf16": 130.0, "fp16": 130.0},
    )


def _recognise(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of an official student checkpoint, by its keys."""
    if shapes.get("dec1_2.conv.weight") == (96, 144, 3, 3):
        return {"net": "unet", "variant": "1.02M"}
    if shapes.get("unet.dec1.conv1.conv.weight") == (96, 99, 3, 3):
        return {"net": "unet", "variant": "1.00M"}
    return None


_RENAME: Mapping[str, list[tuple[str, Callable[[re.Match[str]], str]]]] = {
    "1.02M": [
        (r"enc6\.conv", lambda _: "bottom"),
        (r"enc(\d)\.conv", lambda m: f"down.{int(m[1]) - 1}"),
        (r"dec(\d)_2\.conv", lambda m: f"join.{int(m[1]) - 1}.conv"),
        (r"dec(\d)_1(?:\.conv)?", lambda m: f"up.{int(m[1]) - 1}"),
    ],
    "1.00M": [
        (r"unet\.intro\.conv", lambda _: "intro"),
        (r"unet\.enc6\.conv1\.conv", lambda _: "bottom"),
        (r"unet\.enc(\d)\.conv1\.conv", lambda m: f"down.{int(m[1]) - 1}"),
        (r"unet\.dec(\d)\.conv1\.conv", lambda m: f"join.{int(m[1]) - 1}.conv"),
        (r"unet\.dec(\d)\.conv2\.conv", lambda m: f"up.{int(m[1]) - 1}"),
    ],
}


def _rename(key: str, config: Config) -> str:
    """Give our key for a key of the official checkpoint; unknown keys stay as they are."""
    layer, _, kind = key.rpartition(".")
    for pattern, ours in _RENAME[config["variant"]]:
        if match := re.fullmatch(pattern, layer):
            return f"{ours(match)}.{kind}"
    return key


INFO = MethodInfo(
    id="aprrd",
    title="APR-RD (AAAI 2025), student network",
    summary="plain U-Net distilled from a blind-spot network; one pass",
    best_for="photographs with visible noise, phones above all; the fastest",
    citation=(
        "Kim et al., APR-RD: Complemental Two Steps for Self-Supervised Real Image Denoising, "
        "AAAI 2025"
    ),
    scale=1.0,
    config={"net": "unet", "variant": "1.02M"},
    default_weights="aprrd.sidd",
    traits=_traits,
    build=Student,
    recognise=_recognise,
    rename=_rename,
)
