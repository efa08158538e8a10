"""A protocol does what it says, and never something else under the same name."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.errors import InputError, UsageError
from denoisekit.metrics import PROTOCOLS, SRGB, Protocol, find_protocol, fit_levels, psnr, ssim

# Changing a protocol makes old numbers another thing: raise its version, and change this.
FROZEN = {
    "srgb": (1, "gaussian", "even", True, 0, None, 0, False, False),
    "sdap": (1, "gaussian", "even", True, 0, None, 0, False, False),
    "aprrd": (1, "gaussian", "even", True, 0, None, 0, False, False),
    "promptsid": (1, "gaussian", "even", True, 0, None, 0, False, False),
    "ssbsn": (1, "uniform", "up", True, 0, 256, 0, False, False),
    "apbsn": (1, "uniform", "up", True, 0, None, 0, False, False),
    "basicsr-y": (1, "y", "even", True, 0, None, 0, False, False),
    "matlab": (1, "volume", "even", True, 0, None, 0, False, False),
    "float": (1, "gaussian", "none", False, 0, None, 0, False, False),
    "raw": (1, "gaussian", "none", True, 0, None, 0, False, True),
    "w2s": (1, "uniform", "none", True, 0, None, 0, True, False),
    "fmd": (1, "uniform", "none", True, 0, None, 0, False, False),
}


def picture(*values):
    return np.array(values, np.float64).reshape(1, -1, 1) / 255


def test_no_protocol_has_changed_under_its_name():
    told = {p.id: p.facts() for p in PROTOCOLS}
    for facts in told.values():
        del facts["id"], facts["title"]
    assert {name: tuple(facts.values()) for name, facts in told.items()} == FROZEN
    assert find_protocol("srgb") is SRGB
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
    assert SRGB.seen(clean).shape == clean.shape


def test_numbers_are_those_of_what_is_seen():
    draw = np.random.default_rng(0)
    clean = draw.random((20, 24, 3))
    denoised = clean + 0.2 * draw.standard_normal(clean.shape)
    for protocol in PROTOCOLS:
        # Where gain and offset are taken out: there are none.
        found = protocol.measure(clean, denoised, clean)
        seen = protocol.seen(clean), protocol.seen(denoised)
        # Kinds of SSIM never share a name.
        wanted = {"psnr": psnr(*seen), f"ssim_{protocol.ssim}": ssim(*seen, protocol.ssim)}
        assert found == (pytest.approx(wanted, abs=1e-9) if protocol.affine else wanted)
    assert psnr(clean, denoised) == pytest.approx(
        find_protocol("float").measure(clean, denoised)["psnr"]
    )


def test_a_line_says_all_of_it():
    line = str(find_protocol("ssbsn"))
    for word in ("ssbsn v1", "half up", "7x7", "squares of 256", "seed 0", "clipped"):
        assert word in line
    assert "not rounded; not clipped" in str(find_protocol("float"))
    assert "offset and gain" in str(find_protocol("w2s"))
    assert "four colours" in str(find_protocol("raw"))


def test_offset_and_gain_are_taken_out_for_all_alike():
    draw = np.random.default_rng(0)
    clean = np.clip(0.3 + 0.2 * np.sin(np.arange(64 * 64) / 30).reshape(64, 64, 1), 0, 1)
    dark = 0.5 * clean + 0.1
    noisy = dark + 0.05 * draw.standard_normal(clean.shape)
    gain, offset = fit_levels(clean, noisy)
    assert (gain, offset) == pytest.approx((0.5, 0.1), abs=0.01)
    protocol = find_protocol("w2s")
    # What is left of the noise is measured in units of the clean picture.
    assert protocol.measure(clean, noisy, noisy)["psnr"] == pytest.approx(20, abs=0.2)
    assert protocol.measure(clean, dark, noisy)["psnr"] > 45
    assert find_protocol("float").measure(clean, dark)["psnr"] < 30
    # A method that loses contrast is not forgiven: the levels are those of the noisy picture.
    flat = (dark + dark.mean()) / 2
    wanted = psnr(clean, (clean + clean.mean()) / 2)
    assert protocol.measure(clean, flat, noisy)["psnr"] == pytest.approx(wanted, abs=0.2)


def test_noise_does_not_bend_the_fitted_line():
    draw = np.random.default_rng(1)
    clean = draw.random((200, 200, 1))
    gain, offset = fit_levels(clean, 2 * clean - 0.3 + draw.standard_normal(clean.shape))
    assert (gain, offset) == pytest.approx((2, -0.3), abs=0.05)


def test_pictures_of_different_places_are_refused():
    ramp = np.linspace(0, 1, 400).reshape(20, 20, 1)
    for clean, noisy in ((ramp, 1 - ramp), (np.full_like(ramp, 0.5), ramp)):
        with pytest.raises(InputError, match="does not follow"):
            find_protocol("w2s").measure(clean, ramp, noisy)
