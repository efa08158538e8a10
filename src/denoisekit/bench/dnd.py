"""DND: 50 photographs, of which 20 boxes each are denoised; only a server has them clean."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.arrays import open_arrays
from denoisekit.bench.material import Item
from denoisekit.errors import InputError, UsageError, pip_install
from denoisekit.formats.guard import reading
from denoisekit.image import Reader
from denoisekit.ranges import Floats

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two exclusive."""


class Crops:
    """The boxes of DND's pictures, as `denoisekit.bench.material.Material` gives its own.

    Parameters
    ----------
    folder : pathlib.Path
        With ``info.mat`` and ``images_srgb``.

    Attributes
    ----------
    items : list of Item
        ``0001_01`` … by their names.
    boxes : list of list of Box
        Of every photograph.

    Raises
    ------
    InputError
        Files are absent or damaged.
    UsageError
        A package that reads them is missing.
    """

    known = False

    def __init__(self, folder: Path) -> None:
        self.name = "dnd"
        self.boxes = boxes = read_boxes(folder / "info.mat")
        files = [folder / "images_srgb" / f"{index:04d}.mat" for index in range(1, len(boxes) + 1)]
        for file in files:
            if not file.exists():
                raise InputError(f"{file}: no such file", "info.mat tells of it")
        self._places = {
            f"{file.stem}_{number:02d}": (file, box)
            for file, own in zip(files, boxes, strict=True)
            for number, box in enumerate(own, 1)
        }
        self.items = [Item(name, None, None) for name in self._places]
        self._lock = threading.Lock()
        self._open: tuple[Path, Reader] | None = None

    def facts(self) -> dict[str, object]:
        """Return what it is, for a file of results."""
        return {"id": self.name, "pictures": len(self.items), "noise": "", "range": "0,1"}

    def read(self, item: Item) -> tuple[Floats, None]:
        """Return a crop, (H, W, 3) float32 on 0..1.

        Raises
        ------
        InputError
            The file is damaged, or smaller than the box.
        """
        file, (top, left, bottom, right) = self._places[item.name]
        with self._lock:
            if self._open is None or self._open[0] != file:  # costly to open
                self.close()
                self._open = file, open_arrays(file, "InoisySRGB")
            reader = self._open[1]
            if bottom > reader.info.height or right > reader.info.width:
                raise InputError(f"{file} is smaller than its box {item.name}")
            rows = np.array(reader.read_rows(0, top, bottom)[:, left:right], np.float32)
        return rows, None

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def read_boxes(path: Path) -> list[list[Box]]:
    """Return the boxes of every picture, from DND's ``info.mat``.

    Parameters
    ----------
    path : pathlib.Path
        MATLAB of any version.

    Raises
    ------
    InputError
        It cannot be read, or tells of no boxes.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file", "it comes with the pictures of DND")
    with reading(path):
        tables = _tables(path)
    for table in tables:
        if table.ndim != 2 or table.shape[1] != 4 or (table[:, :2] < 1).any():
            raise InputError(f"{path}: its boxes are not four numbers each")
    # MATLAB counts from 1 and includes the last.
    return [
        [(int(a) - 1, int(b) - 1, int(c), int(d)) for a, b, c, d in table.tolist()]
        for table in tables
    ]


def _tables(path: Path) -> list[npt.NDArray[Any]]:
    with path.open("rb") as file:
        new = b"\x89HDF" in file.read(520)
    try:
        if new:
            import h5py

            with h5py.File(path, "r") as opened:
                info = opened["info"]
                return [np.array(opened[ref]).T for ref in np.ravel(info["boundingboxes"][()])]
        from scipy.io import loadmat

        return [np.asarray(table) for table in np.ravel(loadmat(path)["info"]["boundingboxes"])]
    except ImportError as error:
        raise UsageError(f"{path}: {error}", pip_install("bench")) from error
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path} tells of no boxes") from error
