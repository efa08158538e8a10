"""Sets of pictures that papers measure on, as data: where to get them, and what is in them.

A set lies in a folder of its name below ``--data`` or ``DENOISEKIT_DATA``, or else in the cache;
`denoisekit.bench.getting` fetches those whose owners let a program do so. A sample of SIDD ships
with denoisekit. Noisy and clean pictures belong together by their names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from denoisekit.bench.checksums import published
from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.metrics import SRGB
from denoisekit.weights.store import cache_folder, user_folder

DATA = "DENOISEKIT_DATA"
"""Environment variable: the folder of all sets."""

SAMPLE = Path(__file__).parent / "sample"
"""Folder of the sample that ships, with its licence."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that the owner of a set gives out.

    Attributes
    ----------
    name : str
        Under which it is kept in the folder of the set.
    urls : tuple of str
        Where from, the best first.
    unpack : str
        It is a tar archive, of which the files of this pattern are kept; empty: it is not.
    """

    name: str
    urls: tuple[str, ...]
    unpack: str = ""


@dataclass(frozen=True, slots=True)
class SetInfo:
    """A set of pictures.

    Attributes
    ----------
    id : str
        Its name, and that of its folder.
    title : str
        What it shows, in a line.
    home : str
        Where to get it.
    licence : str
        What its authors say of its use.
    noisy, clean : str
        Patterns of its files within its folder; empty: there are none.
    pictures : int
        How many there are when it is complete.
    noise : str
        What is put on clean ones where none are noisy, unless asked for otherwise.
    protocol : str
        How it is measured, unless asked for otherwise.
    range : str
        What is black and white, unless asked for otherwise.
    sources : tuple of Source
        Its files, where its owner lets a program fetch them.
    sample_of : str
        Id of the set that this is a part of, so that the figures of the two are not mixed.
    """

    id: str
    title: str
    home: str
    licence: str
    noisy: str
    clean: str
    pictures: int
    noise: str = ""
    protocol: str = SRGB.id
    range: str = "auto"
    sources: tuple[Source, ...] = ()
    sample_of: str = ""

    def folder(self, data: Path) -> Path:
        """Return the folder of its files, given that of all sets."""
        return SAMPLE if self.sample_of else data / self.id

    def find(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the noisy files that are there, and the clean ones.

        Parameters
        ----------
        folder : pathlib.Path
            Of the set.
        """
        return _matching(folder, self.noisy), _matching(folder, self.clean)


def _matching(folder: Path, pattern: str) -> list[Path]:
    if not pattern or not folder.is_dir():
        return []
    # Endings of some sets are written large or small.
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    wanted = f"*/{pattern}".lower()
    return [path for path in names if fnmatch(f"/{path.relative_to(folder)}".lower(), wanted)]


_NONE_STATED = "none stated"
_NOT_COMMERCIAL = "not for commercial use"
_MIT = "MIT"
_SIDD = "https://abdokamel.github.io/sidd/"


def _block(name: str, mirror: str) -> Source:
    """Return a file of SIDD's blocks; both addresses stand on its authors' page."""
    codalab = f"https://competitions.codalab.org/my/datasets/download/{mirror}"
    return Source(name, (codalab, f"http://130.63.97.225/share/SIDD_Blocks/{name}"))


def _github(name: str, place: str) -> tuple[Source, ...]:
    """Return the files of a set of which the hashes are known, in a repository at a commit."""
    base = f"https://raw.githubusercontent.com/{place}"
    return tuple(Source(file, (f"{base}/{file}",)) for file in published(name))


SETS = (
    SetInfo(
        "sidd",
        "SIDD validation: 1280 blocks of 256x256, smartphones, sRGB",
        _SIDD,
        _MIT,
        "ValidationNoisyBlocksSrgb.mat",
        "ValidationGtBlocksSrgb.mat",
        1280,
        sources=(
            _block("ValidationNoisyBlocksSrgb.mat", "260ed944-21e7-4317-bd66-a6dd42343838"),
            _block("ValidationGtBlocksSrgb.mat", "5349efe0-dfa2-499e-a46f-49c623285ba7"),
        ),
    ),
    SetInfo(
        "sidd-sample",
        "a sample of SIDD validation that ships with denoisekit: 8 of its 1280 blocks",
        _SIDD,
        _MIT,
        "noisy/*.png",
        "clean/*.png",
        8,
        sample_of="sidd",
    ),
    SetInfo(
        "sidd-benchmark",
        "SIDD benchmark: 1280 blocks whose clean ones only its server has",
        _SIDD,
        _MIT,
        "BenchmarkNoisyBlocksSrgb.mat",
        "",
        1280,
        sources=(_block("BenchmarkNoisyBlocksSrgb.mat", "0d8a1e68-155d-4301-a8cd-9b829030d719"),),
    ),
    SetInfo(
        "sidd-raw",
        "SIDD validation: the same blocks as the sensor gave them, a mosaic of floats",
        _SIDD,
        _MIT,
        "ValidationNoisyBlocksRaw.mat",
        "ValidationGtBlocksRaw.mat",
        1280,
        protocol="raw",
        range="0,1",
        sources=(
            _block("ValidationNoisyBlocksRaw.mat", "549374a5-5e7d-4daf-a977-993187b2d050"),
            _block("ValidationGtBlocksRaw.mat", "6d90a38a-6d6d-4dff-a3ab-413f5208b7bd"),
        ),
    ),
    SetInfo(
        "dnd",
        "DND: 1000 crops of 50 photographs whose clean ones only its server has",
        "https://noise.visinf.tu-darmstadt.de/",
        _NOT_COMMERCIAL,
        "images_srgb/*.mat",
        "",
        1000,
    ),
    SetInfo(
        "polyu",
        "PolyU: 100 crops of 512x512, light noise of cameras",
        "https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
        _NOT_COMMERCIAL,
        "*[0-9]_real.jpg",
        "*[0-9]_mean.jpg",
        100,
        sources=_github(
            "polyu",
            "csjunxu/PolyU-Real-World-Noisy-Images-Dataset/"
            "488d733181fb71ce8ef58c1869f70aa21b33d535/CroppedImages",
        ),
    ),
    SetInfo(
        "cc",
        "CC15: 15 crops of 512x512, three cameras",
        "https://github.com/csjunxu/MCWNNM-ICCV2017",
        _NOT_COMMERCIAL,
        "*_real.png",
        "*_mean.png",
        15,
        sources=_github(
            "cc",
            "csjunxu/MCWNNM-ICCV2017/aa344066ea9cfbe66f27c921cabfafd9ec6e127d/"
            "Real_ccnoise_denoised_part",
        ),
    ),
    SetInfo(
        "fmd",
        "FMD, its mixed test part: 48 fluorescence pictures of 12 kinds, and means of 50 frames",
        "https://github.com/yinhaoz/denoising-fluorescence",
        _MIT,
        "test_mix/raw/*.png",
        "test_mix/gt/*.png",
        48,
        protocol="fmd",
    ),
    SetInfo(
        "w2s",
        "W2S, test part: 40 fields in 3 wavelengths, one frame and the mean of 400",
        "https://github.com/IVRL/w2s",
        _NONE_STATED,
        "*avg1[_/]*",
        "*avg400[_/]*",
        120,
        protocol="w2s",
        range="minmax",
    ),
    SetInfo(
        "kodak",
        "Kodak: 24 photographs",
        "https://r0k.us/graphics/kodak/",
        "unrestricted use",
        "",
        "*.png",
        24,
        "gaussian:25/255",
        sources=tuple(
            Source(f"kodim{n:02d}.png", (f"https://r0k.us/graphics/kodak/kodak/kodim{n:02d}.png",))
            for n in range(1, 25)
        ),
    ),
    SetInfo(
        "bsd",
        "BSD300, test part: 100 photographs",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
        "research and education, not commercial",
        "",
        "test/*.jpg",
        100,
        "gaussian:25/255",
        sources=(
            Source(
                "BSDS300-images.tgz",
                (
                    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/"
                    "BSDS300-images.tgz",
                ),
                unpack="*/test/*.jpg",
            ),
        ),
    ),
    SetInfo(
        "set12",
        "Set12: 12 gray pictures",
        "https://github.com/cszn/FFDNet",
        _NONE_STATED,
        "",
        "*.png",
        12,
        "gaussian:25/255",
    ),
    SetInfo(
        "mcmaster",
        "McMaster: 18 crops of 500x500",
        "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
        _NONE_STATED,
        "",
        "*.tif",
        18,
        "gaussian:25/255",
    ),
)


def find_set(name: str) -> SetInfo:
    """Return the set with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    for known in SETS:
        if known.id == name:
            return known
    names = [known.id for known in SETS]
    raise UsageError(f"there is no set '{name}'", did_you_mean(name, names))


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of all sets: the one given, that of the environment, or the cache's."""
    named = given or os.environ.get(DATA)
    if named:
        return user_folder(os.fspath(named), f"--data or {DATA}")
    return cache_folder().with_name("sets")


def find_files(info: SetInfo, data: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a set, noisy and clean.

    Raises
    ------
    InputError
        They are not there.
    """
    folder = info.folder(data)
    noisy, clean = info.find(folder)
    absent = [
        pattern
        for pattern, found in ((info.noisy, noisy), (info.clean, clean))
        if pattern and not found
    ]
    if absent:
        raise InputError(f"{folder} holds no {' and no '.join(absent)}", how_to_get(info))
    return noisy, clean


def how_to_get(info: SetInfo) -> str:
    """Return what to do to have a set here."""
    by_hand = f"from {info.home}, put it into DIR/{info.id}, and give --data DIR"
    if info.sources:
        return f"denoisekit bench sets get {info.id}; or get it {by_hand}"
    return f"get it by hand {by_hand}"
