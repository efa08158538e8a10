"""The model card says what a run was, in the form that the hub reads."""

from __future__ import annotations

import hashlib
import json
import shlex

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from denoisekit.cli import app
from denoisekit.errors import InputError, UsageError, WeightsError
from denoisekit.export.card import model_card


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "my photos").mkdir()
    draw = np.random.default_rng(0)
    for number in range(2):
        pixels = draw.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "my photos" / f"{number}.png")
    words = ["train", "aprrd", folder / "my photos", "--simulate", "phone:0.01", "--steps", 2]
    words += ["--patch", 32, "--batch", 1, "--width", 4, "--seed", 7, "--out", folder / "run"]
    assert app.run([*map(str, words), "--quiet"]) == 0
    return folder / "run"


def split(card):
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


def test_header_is_what_the_hub_reads(trained):
    header, _ = split(model_card(trained, licence="mit", datasets=["user/photos"]))
    (result,) = header["model-index"][0]["results"]
    shown = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    psnr = [record["psnr"] for record in shown if record["event"] == "validation"][-1]
    assert result["metrics"][0]["type"] == "psnr"
    assert result["metrics"][0]["value"] == psnr
    del header["model-index"]
    assert header == {
        "license": "mit",
        "library_name": "denoisekit",
        "pipeline_tag": "image-to-image",
        "tags": ["denoising", "image-restoration", "supervised", "aprrd"],
        "datasets": ["user/photos"],
        "metrics": ["psnr"],
    }
    assert split(model_card(trained))[0]["license"] == "unknown"
    assert split(model_card(trained))[0]["datasets"] == ["my photos"]


def test_body_says_data_noise_command_figures_and_use(trained):
    _, body = split(model_card(trained, repo="me/net"))
    assert "denoisekit denoise in.png --weights hf://me/net/weights.safetensors" in body
    assert "`phone:0.01`" in body
    assert "| data | my photos: 2 pictures, 0.0 megapixels |" in body
    assert "| seed | 7 |" in body
    assert hashlib.sha256((trained / "weights.safetensors").read_bytes()).hexdigest() in body
    assert "Pictures that were trained on flatter" in body
    assert "noisy psnr" in body
    # Names, and nothing of this computer.
    assert str(trained.parent) not in body


def test_command_trains_the_same_network_again(trained, tmp_path, monkeypatch):
    body = split(model_card(trained))[1]
    (line,) = [line for line in body.splitlines() if line.startswith("denoisekit train")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").symlink_to(trained.parent / "my photos")
    assert app.run([*shlex.split(line)[1:], "--quiet"]) == 0
    first, again = (load_file(run / "weights.safetensors") for run in (trained, tmp_path / "run"))
    assert all(torch.equal(first[key], again[key]) for key in {**first, **again})


def test_names_cannot_break_the_card(trained, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    text = (trained / "config.toml").read_text()
    text = text.replace('simulate = "phone:0.01"', r'simulate = "a|b`\u001b[31m<script>\n---"')
    (run / "config.toml").write_text(text)
    (run / "weights.safetensors").write_bytes((trained / "weights.safetensors").read_bytes())
    (run / "log.jsonl").write_text('{"event": "data", "names": ["x: [y]\\n---"]}\n[1]\n{"eve')
    header, body = split(model_card(run))
    assert header["datasets"] == [r"x: [y]\n---"]
    assert r"`a\|b'\x1b[31m‹script>\n---`" in body
    assert "Nothing was measured." in body


def test_folders_that_hold_no_run(trained, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        model_card(tmp_path)
    (tmp_path / "config.toml").write_text("method = 3")
    with pytest.raises(InputError, match="is damaged"):
        model_card(tmp_path)
    (tmp_path / "config.toml").write_text((trained / "config.toml").read_text())
    with pytest.raises(WeightsError, match="folder without weights"):
        model_card(tmp_path)
    with pytest.raises(UsageError, match="no repository"):
        model_card(trained, repo="me")


def test_command_writes_it(trained, tmp_path, capsys):
    assert app.run(["weights", "card", str(trained)]) == 0
    shown = capsys.readouterr().out
    path = tmp_path / "README.md"
    words = ["weights", "card", str(trained), "-o", str(path)]
    assert app.run(words) == 0
    assert path.read_text() == shown
    assert app.run(words) == 1
    assert "exists" in capsys.readouterr().err
    assert app.run([*words, "--overwrite", "--licence", "mit"]) == 0
    assert "license: mit" in path.read_text()
