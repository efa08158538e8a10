"""What the published code of Prompt-SID calls its layers, the sizes it has, and our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from denoisekit.methods.base import Config

PUBLISHED: Config = {
    "net": "promptsid",
    "channels": 3,
    "width": 48,
    "blocks": [6, 8],
    "heads": [4, 8],
    "refine_blocks": 4,
    "expansion": 2,
    "bias": False,
    "norm_bias": True,
    "features": 64,
    "encoder_blocks": 4,
    "prior_blocks": 1,
    "steps": 4,
    "betas": [0.1, 0.99],
}
"""The configuration of the published code; every size may be another."""

_PLACES = {
    "patch_embed.proj": "first",
    "down1_2.body.0": "down",
    "up2_1.body.0": "up",
    "output": "last",
}
_STAGES = {
    "encoder_level1": "encode",
    "encoder_level2": "bottom",
    "decoder_level1": "decode",
    "refinement": "refine",
}
_LAYERS = {
    "norm1.body": "norm_attention",
    "norm2.body": "norm_gate",
    "attn": "attention",
    "attn.qkv": "attention.qkv",
    "attn.qkv_dwconv": "attention.depthwise",
    "attn.project_out": "attention.out",
    "attn.sca.1": "attention.modulate.pool",
    "attn.kernel.0": "attention.modulate.prompt",
    "gate.encode": "gate.wide",
    "gate.out": "gate.out",
    "gate.sca.1": "gate.modulate.pool",
    "gate.kernel.0": "gate.modulate.prompt",
}


def rename(key: str, config: Config) -> str:
    """Give our key for a key of the published code; unknown keys stay as they are."""
    # The published code registers two of its parts twice.
    key = re.sub(r"^diffusion\.condition\.", "condition.", key)
    key = re.sub(r"^diffusion\.model\.", "denoise.", key)
    part, _, rest = key.partition(".")
    if part == "diffusion":
        return ""  # the schedule, which is computed
    layer, _, kind = rest.rpartition(".")
    if part == "G":
        ours = _denoiser(layer)
    elif part in {"encoder", "condition"}:
        ours = _encoder(layer, config["encoder_blocks"])
    elif part == "denoise":
        ours, part = _prior(layer), "prior"
    else:
        return key
    return f"{'denoiser' if part == 'G' else part}.{ours}.{kind}" if ours else key


def _denoiser(layer: str) -> str:
    if layer in _PLACES:
        return _PLACES[layer]
    if match := re.fullmatch(r"(\w+)\.(\d+)\.(.+)", layer):
        stage, index, inner = match.groups()
        if stage in _STAGES and inner in _LAYERS:
            return f"{_STAGES[stage]}.{index}.{_LAYERS[inner]}"
    return ""


def _encoder(layer: str, blocks: int) -> str:
    if match := re.fullmatch(r"mlp\.([02])", layer):
        return f"mlp.{int(match[1]) // 2}"
    if layer == "E.0":
        return "first"
    # Counted through all layers, activations too: 0, 1, the residual blocks, then three pairs.
    if match := re.fullmatch(r"E\.(\d+)\.body\.([02])", layer):
        return f"residual.{int(match[1]) - 2}.convs.{int(match[2]) // 2}"
    if match := re.fullmatch(r"E\.(\d+)", layer):
        return f"widen.{(int(match[1]) - 2 - blocks) // 2}"
    return ""


def _prior(layer: str) -> str:
    if layer == "resmlp.0":
        return "layers.0"
    if match := re.fullmatch(r"resmlp\.(\d+)\.resmlp\.0", layer):
        return f"layers.{int(match[1]) - 1}"
    return ""


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of a checkpoint of the published code, or None."""

    def count(pattern: str) -> int:
        return len({match[0] for key in shapes if (match := re.match(pattern, key))})

    first = shapes.get("G.patch_embed.proj.weight", ())
    inner = shapes.get("encoder.E.0.weight", ())
    one, two = "G.encoder_level1.0.", "G.encoder_level2.0."
    needed = [one + "attn.temperature", two + "attn.temperature", one + "gate.encode.weight"]
    if len(first) != 4 or len(inner) != 4 or not all(shapes.get(key) for key in needed):
        return None
    if not first[0]:
        return None
    few, many, hidden = (shapes[key][0] for key in needed)
    expansion = hidden / first[0]
    return {
        "net": "promptsid",
        "channels": first[1],
        "width": first[0],
        "blocks": [count(r"G\.encoder_level1\.\d+\."), count(r"G\.encoder_level2\.\d+\.")],
        "heads": [few, many],
        "refine_blocks": count(r"G\.refinement\.\d+\."),
        "expansion": int(expansion) if expansion == int(expansion) else expansion,
        "bias": "G.output.bias" in shapes,
        "norm_bias": one + "norm1.body.bias" in shapes,
        "features": inner[0],
        "encoder_blocks": count(r"encoder\.E\.\d+\.body\."),
        "prior_blocks": count(r"denoise\.resmlp\.\d+\.resmlp\."),
        "steps": shapes.get("diffusion.betas", (4,))[0],
        "betas": [0.1, 0.99],  # a checkpoint's shapes do not tell
    }
