"""A protocol does what it says, and never something else under the same name."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.bench.metrics import psnr, ssim
from denoisekit.bench.protocols import DEFAULT, PROTOCOLS, Protocol, find_protocol
from denoisekit.errors import UsageError

# Changing a protocol makes old numbers another thing: raise its version, and change this.
FROZEN = {
    "srgb": (1, "gaussian", "even", True, 0, None, 0),
    "sdap": (1, "gaussian", "even", True, 0, None, 0),
    "aprrd": (1, "gaussian", "even", True, 0, None, 0),
    "promptsid": (1, "gaussian", "even", True, 0, None, 0),
    "ssbsn": (1, "uniform", "up", True, 0, 256, 0),
    "apbsn": (1, "uniform", "up", True, 0, None, 0),
    "basicsr-y": (1, "y", "even", True, 0, None, 0),
    "matlab": (1, "volume", "even", True, 0, None, 0),
    "float": (1, "gaussian", "none", False, 0, None, 0),
}


def picture(*values):
    return np.array(values, np.float64).reshape(1, -1, 1) / 255


def test_no_protocol_has_changed_under_its_name():
    kept = ("version", "ssim", "rounding", "clip", "border", "tile", "seed")
    assert {p.id: tuple(p.facts()[name] for name in kept) for p in PROTOCOLS} == FROZEN
    assert find_protocol("srgb") is DEFAULT
    with pytest.raises(UsageError) as caught:
        find_protocol("srbg")
    assert "srgb" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("srgb", [0, 0, 2, 2, 255]),
        ("apbsn", [0, 1, 2, 3, 255]),
        ("float", [-3, 0.5, 1.5, 2.5, 300]),
    ],
)
def test_rounding_and_clipping(name, wanted):
    seen = find_protocol(name).seen(picture(-3, 0.5, 1.5, 2.5, 300))
    np.testing.assert_allclose(seen.ravel() * 255, wanted, atol=1e-4)


def test_a_border_is_left_out():
    clean = np.full((20, 24, 3), 0.5)
    spoilt = clean.copy()
    spoilt[:2], spoilt[-2:], spoilt[:, :2], spoilt[:, -2:] = 1, 1, 1, 1
    protocol = Protocol("x", 1, "x", border=2)
    assert protocol.seen(clean).shape == (16, 20, 3)
    assert protocol.measure(clean, spoilt)["psnr"] == np.inf
    assert Protocol("x", 1, "x", border=1).measure(clean, spoilt)["psnr"] < 30
    assert DEFAULT.seen(clean).shape == clean.shape


def test_numbers_are_those_of_what_is_seen():
    draw = np.random.default_rng(0)
    clean = draw.random((20, 24, 3))
    denoised = clean + 0.2 * draw.standard_normal(clean.shape)
    for protocol in PROTOCOLS:
        found = protocol.measure(clean, denoised)
        seen = protocol.seen(clean), protocol.seen(denoised)
        # Kinds of SSIM never share a name.
        assert found == {
            "psnr": psnr(*seen),
            f"ssim_{protocol.ssim}": ssim(*seen, protocol.ssim),
        }
    assert psnr(clean, denoised) == pytest.approx(
        find_protocol("float").measure(clean, denoised)["psnr"]
    )


def test_a_line_says_all_of_it():
    line = str(find_protocol("ssbsn"))
    for word in ("ssbsn v1", "half up", "7x7", "squares of 256", "seed 0", "clipped"):
        assert word in line
    assert "not rounded; not clipped" in str(find_protocol("float"))
