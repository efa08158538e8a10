"""Sets of pictures that papers measure on, as data: where to get them, and what is in them.

Nothing is fetched: who has a set puts it into a folder of its name below ``--data`` or
``DENOISEKIT_DATA``. Noisy and clean pictures belong together by their names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from denoisekit.bench.protocols import DEFAULT
from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.weights.cache import user_folder

DATA = "DENOISEKIT_DATA"
"""Environment variable: the folder of all sets."""


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
    """

    id: str
    title: str
    home: str
    licence: str
    noisy: str
    clean: str
    pictures: int
    noise: str = ""
    protocol: str = DEFAULT.id
    range: str = "auto"

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

SETS = (
    SetInfo(
        "sidd",
        "SIDD validation: 1280 blocks of 256x256, smartphones, sRGB",
        _SIDD,
        _MIT,
        "ValidationNoisyBlocksSrgb.mat",
        "ValidationGtBlocksSrgb.mat",
        1280,
    ),
    SetInfo(
        "sidd-benchmark",
        "SIDD benchmark: 1280 blocks whose clean ones only its server has",
        _SIDD,
        _MIT,
        "BenchmarkNoisyBlocksSrgb.mat",
        "",
        1280,
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
    ),
    SetInfo(
        "cc",
        "CC15: 15 crops of 512x512, three cameras",
        "https://github.com/csjunxu/MCWNNM-ICCV2017",
        _NOT_COMMERCIAL,
        "*_real.png",
        "*_mean.png",
        15,
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


def data_folder(given: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder of all sets: the one given, or that of the environment, or None."""
    named = given or os.environ.get(DATA)
    return user_folder(os.fspath(named), f"--data or {DATA}") if named else None


def find_files(info: SetInfo, data: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the files of a set, noisy and clean.

    Raises
    ------
    InputError
        They are not there.
    """
    if data is None:
        raise InputError(
            f"no folder of data is named, to find '{info.id}' in",
            f"get it from {info.home}, put it into DIR/{info.id}, and give --data DIR",
        )
    noisy, clean = info.find(data / info.id)
    absent = [
        pattern
        for pattern, found in ((info.noisy, noisy), (info.clean, clean))
        if pattern and not found
    ]
    if absent:
        raise InputError(
            f"{data / info.id} holds no {' and no '.join(absent)}", f"get them from {info.home}"
        )
    return noisy, clean
