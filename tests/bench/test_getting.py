"""Sets are fetched from their owners: resumed, checked, and the same ever after."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from denoisekit.bench import datasets
from denoisekit.bench.datasets import (
    DATASETS,
    SUMS,
    Dataset,
    Source,
    data_folder,
    files_of,
    find_dataset,
    get,
)
from denoisekit.cli import app as frame
from denoisekit.errors import InputError, OutputError, UsageError


def png(seed, side=16):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


NAMES = ("1_real.png", "1_mean.png", "2_real.png", "2_mean.png")
FILES = {name: png(seed) for seed, name in enumerate(NAMES)}


@pytest.fixture
def info(site):
    """A set of two pairs on the server."""
    site.files.update({f"/{name}": data for name, data in FILES.items()})
    sources = tuple(Source(name, (site.url(f"/{name}"),)) for name in NAMES)
    return Dataset("mine", "", "http://home", "MIT", 2, "*_real.png", "*_mean.png", sources=sources)


def test_all_comes_and_is_noted_and_nothing_comes_twice(info, site, tmp_path):
    seen = []
    fetched = get(info, tmp_path, lambda *told: seen.append(told))
    assert [path.name for path in fetched] == list(NAMES)
    assert {p.name: p.read_bytes() for p in fetched} == FILES
    assert seen[-1] == (NAMES[-1], len(FILES[NAMES[-1]]), len(FILES[NAMES[-1]]))
    noisy, clean = files_of(info, tmp_path)
    assert (len(noisy), len(clean)) == (2, 2)
    sums = (tmp_path / "mine" / SUMS).read_text().splitlines()
    assert f"{hashlib.sha256(FILES[NAMES[0]]).hexdigest()}  {NAMES[0]}" in sums
    left = {p.name for p in (tmp_path / "mine").iterdir()} - {".lock"}
    assert left == {*NAMES, SUMS}
    asked = len(site.asked)
    assert get(info, tmp_path) == []
    assert len(site.asked) == asked


def test_goes_on_where_it_was_cut(info, site, tmp_path):
    site.faults = [("cut", 100), ("cut", 0), ("cut", 0)]
    with pytest.raises(InputError, match="cut after 100") as caught:
        get(info, tmp_path)
    assert "goes on" in caught.value.hint
    get(info, tmp_path)
    assert any(headers.get("Range") == "bytes=100-" for _, _, headers in site.asked)
    assert (tmp_path / "mine" / NAMES[0]).read_bytes() == FILES[NAMES[0]]


def test_what_came_first_is_held_to(info, site, tmp_path):
    get(info, tmp_path)
    (tmp_path / "mine" / NAMES[1]).unlink()
    site.files[f"/{NAMES[1]}"] = png(99)
    with pytest.raises(InputError, match="not what it was: expected sha256"):
        get(info, tmp_path)
    assert not (tmp_path / "mine" / NAMES[1]).exists()
    site.files[f"/{NAMES[1]}"] = FILES[NAMES[1]]
    assert [path.name for path in get(info, tmp_path)] == [NAMES[1]]


def test_published_hashes_are_held_to(info, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "checksums", lambda name: dict.fromkeys(NAMES, "0" * 64))
    with pytest.raises(InputError, match="not what it was"):
        get(info, tmp_path)


def test_another_mirror_serves(info, site, tmp_path):
    sources = [replace(source, urls=(site.url("/gone"), *source.urls)) for source in info.sources]
    assert len(get(replace(info, sources=tuple(sources)), tmp_path)) == 4


@pytest.mark.parametrize("wrong", [b"<html>sorry</html>", b"no picture", b""])
def test_what_is_no_picture_is_not_kept(info, site, tmp_path, wrong):
    site.files[f"/{NAMES[2]}"] = wrong
    with pytest.raises(InputError, match=r"web page|was deleted"):
        get(info, tmp_path)
    assert not (tmp_path / "mine" / NAMES[2]).exists()
    assert not (tmp_path / "mine" / SUMS).exists()


def test_a_set_of_another_size_is_not_kept(info, tmp_path):
    with pytest.raises(InputError, match="2 pictures in place of 3"):
        get(replace(info, pictures=3), tmp_path)
    assert not list((tmp_path / "mine").glob("*.png"))


def archive(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_an_archive_is_unpacked_into_the_folder_and_nowhere_else(site, tmp_path):
    site.files["/a.tgz"] = archive(
        **{
            "SET/images/test/1.png": png(1),
            "../../../test/2.png": png(2),
            "SET/images/train/3.png": png(3),
        }
    )
    source = Source("a.tgz", (site.url("/a.tgz"),), unpack="*/test/*.png")
    info = Dataset("tar", "", "", "", 2, "", "test/*.png", sources=(source,))
    assert len(get(info, tmp_path / "deep")) == 2
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"]
    folder = tmp_path / "deep" / "tar"
    assert sorted(files) == sorted([folder / SUMS, folder / "test/1.png", folder / "test/2.png"])
    assert get(info, tmp_path / "deep") == []


def test_a_cut_archive_is_said(site, tmp_path):
    whole = archive(**{"x/test/1.png": png(1), "x/test/2.png": png(2)})
    site.files["/a.tgz"] = whole[: len(whole) * 3 // 4]
    source = Source("a.tgz", (site.url("/a.tgz"),), unpack="*/test/*.png")
    with pytest.raises(InputError, match="no whole archive"):
        get(Dataset("tar", "", "", "", 2, "", "test/*.png", sources=(source,)), tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_what_cannot_be_fetched_says_the_steps(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="by a program") as caught:
        get(find_dataset("fmd"), tmp_path)
    assert "browser" in caught.value.hint
    with pytest.raises(UsageError, match="ships"):
        get(find_dataset("sidd-sample"), tmp_path)
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="need scipy and h5py") as caught:
        get(find_dataset("sidd"), tmp_path)
    assert caught.value.hint == "pip install scipy h5py"


def test_offline_asks_nobody(info, site, tmp_path, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    with pytest.raises(InputError, match="forbids the network"):
        get(info, tmp_path)
    assert site.asked == []


def test_a_folder_that_cannot_be_made(info, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write 'mine'"):
        get(info, tmp_path / "file")


def test_the_command_fetches_and_shows(info, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "DATASETS", (info,))
    assert frame.run(["bench", "sets", "get", "mine"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("mine: 4 files fetched, in ")
    assert files_of(info, data_folder())[0]
    assert frame.run(["bench", "sets", "get", "mine"]) == 0
    assert "all files were here" in capsys.readouterr().out
    assert frame.run(["bench", "sets", "get"]) == 2
    assert frame.run(["bench", "sets", "get", "other"]) == 2
    assert frame.run(["bench", "sets", "mine", "mine"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_sources_are_of_names_that_are_found():
    for info in DATASETS:
        patterns = [pattern for pattern in (info.noisy, info.clean) if pattern]
        for source in info.sources:
            assert all(url.startswith(("https://", "http://")) for url in source.urls)
            name = source.name.lower() if not source.unpack else "test/1.jpg"
            assert any(datasets.fnmatch(f"/{name}", f"*/{p}".lower()) for p in patterns), source
