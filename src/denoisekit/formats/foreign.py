"""Kinds of files that are not read: how each is told, and the way to convert it.

A row for every kind; whoever meets one more adds a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from denoisekit.errors import InputError

HEAD = 512
"""Bytes of a file's beginning that tell its kind."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that no format here reads.

    Attributes
    ----------
    one : str
        What people call it.
    hint : str
        The way to something that is read.
    marks : tuple of (int, bytes)
        Where in the file it has which bytes; one that fits is enough.
    suffixes : tuple of str
        Endings of names, lower case with the dot.
    named : bool
        The marks are those of other files too: the name must agree.
    first : bool
        Its beginning is that of a format that is read, which must not be asked.
    """

    one: str
    hint: str
    marks: tuple[tuple[int, bytes], ...] = ()
    suffixes: tuple[str, ...] = ()
    named: bool = False
    first: bool = False

    @property
    def many(self) -> str:
        """What people call several of it."""
        return "raw photos" if self.hint == _DEVELOP else self.one.partition(" ")[2] + "s"


_DEVELOP = "develop it to 16-bit TIFF first, for example with darktable or RawTherapee"
_BIOFORMATS = "convert it to OME-TIFF first, with Fiji or bfconvert"
_CONVERT = "convert it to PNG or TIFF first"
_FLOAT = "convert it to float TIFF first"
_EXPORT = "export it as TIFF or PNG"
_PAGES = "export its pages as TIFF or PNG"
_NPY = "save its array as .npy first"
_ARRAY = "save its array as .npy or TIFF first"
_HEIF = "readable after pip install 'denoisekit[heif]'"
FRAMES = (
    "take its frames out as PNG (magick FILE -coalesce frame%04d.png, or ffmpeg), denoise their "
    "folder, and put them together again"
)
_DICOM = "convert its pixels to TIFF first, with Fiji, or with pydicom and tifffile in Python"
_FITS = "convert it to float TIFF or .npy first, with astropy in Python, or with Fiji"
_MRC = "convert it to TIFF or .npy first, with mrcfile in Python, or with IMOD's mrc2tif"
_ZARR = "save the array as .npy or TIFF first, with zarr in Python"


def _kind(
    one: str,
    suffixes: str,
    hint: str,
    *marks: bytes,
    at: int = 0,
    named: bool = False,
    first: bool = False,
) -> Kind:
    """Describe a kind whose marks all begin at one place."""
    endings = tuple(f".{suffix}" for suffix in suffixes.split())
    return Kind(one, hint, tuple((at, mark) for mark in marks), endings, named, first)


def _raw(maker: str, suffixes: str, *marks: bytes, at: int = 0) -> Kind:
    """Describe a raw format; without marks of its own it is a TIFF, and told by its name."""
    own, one = marks or (b"II*\0", b"MM\0*"), f"a raw photo ({maker})"
    return _kind(one, suffixes, _DEVELOP, *own, at=at, named=not marks, first=True)


RAW = Kind("a raw photo", _DEVELOP)
KINDS: tuple[Kind, ...] = (
    _raw("Nikon", "nef nrw"),
    _raw("Sony", "arw sr2 srf"),
    _raw("Canon", "cr2", b"CR\2\0", at=8),
    _raw("Canon", "cr3", b"ftypcrx ", at=4),
    _raw("Canon", "crw", b"HEAPCCDR", at=6),
    _raw("Olympus", "orf ori", b"IIRO", b"IIRS", b"MMOR"),
    _raw("Panasonic or Leica", "rw2 rwl", b"IIU\0"),
    _raw("Fujifilm", "raf", b"FUJIFILMCCD-RAW"),
    _raw("Sigma", "x3f", b"FOVb"),
    _raw("Minolta", "mrw", b"\0MRM"),
    _raw("Phase One", "iiq", b"IIII", b"MMMM", at=8),
    _raw("ARRI", "ari", b"ARRI"),
    _raw("DNG", "dng"),
    _raw("Pentax", "pef"),
    _raw("Samsung", "srw"),
    _raw("Hasselblad", "3fr fff"),
    _raw("Epson", "erf"),
    _raw("Kodak", "kdc dcr k25"),
    _raw("Leaf or Mamiya", "mos mef"),
    _raw("GoPro", "gpr"),
    _kind(
        *("a HEIC picture", "heic heif hif", _HEIF),
        *(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")),
        at=4,
    ),
    _kind(
        *("a HEIF sequence", "heics heifs", FRAMES),
        *(b"ftyp" + brand for brand in (b"hevc", b"hevx", b"msf1")),
        at=4,
    ),
    _kind("a DICOM file", "dcm dicom", _DICOM, b"DICM", at=128, first=True),
    _kind("a CZI (Zeiss) file", "czi", _BIOFORMATS, b"ZISRAWFILE"),
    _kind("an ND2 (Nikon) file", "nd2", _BIOFORMATS, b"\xda\xce\xbe\x0a"),
    _kind("an ND2 (Nikon) file", "nd2", _BIOFORMATS, b"jP  ", at=4, named=True, first=True),
    _kind("an LIF (Leica) file", "lif xlef lof", _BIOFORMATS, b"p\0\0\0", named=True, first=True),
    _kind("an OIB (Olympus) file", "oib", _BIOFORMATS, b"\xd0\xcf\x11\xe0", named=True, first=True),
    _kind("a ZVI (Zeiss) file", "zvi", _BIOFORMATS, b"\xd0\xcf\x11\xe0", named=True, first=True),
    _kind("a VSI (Olympus) file", "vsi", _BIOFORMATS, b"II*\0", b"MM\0*", named=True, first=True),
    _kind("an ETS (Olympus) file", "ets", _BIOFORMATS, b"SIS\0"),
    _kind("a DM3 or DM4 (Gatan) file", "dm3", _BIOFORMATS, b"\0\0\0\3", named=True, first=True),
    _kind("a DM3 or DM4 (Gatan) file", "dm4", _BIOFORMATS, b"\0\0\0\4", named=True, first=True),
    _kind("an SIF (Andor) file", "sif", _BIOFORMATS, b"Andor Technology"),
    _kind("an ICS file", "ics", _BIOFORMATS, b"ics_version"),
    _kind("an ICS file", "ics", _BIOFORMATS, b"ics_version", at=1),
    _kind("a SPE (Princeton Instruments) file", "spe", _BIOFORMATS),
    _kind("an IMS (Imaris) file", "ims", _BIOFORMATS, b"\x89HDF", named=True, first=True),
    _kind("a FITS file", "fits fit fts", _FITS, b"SIMPLE  ="),
    _kind("an MRC file", "mrc mrcs", _MRC, b"MAP ", at=208),
    _kind("a NIfTI file", "nii", f"{_NPY}, with nibabel in Python", b"n+1\0", b"ni1\0", at=344),
    _kind("a NIfTI file", "nii", f"{_NPY}, with nibabel in Python", b"n+2\0", at=4),
    _kind("an NRRD file", "nrrd nhdr", _NPY, b"NRRD000"),
    _kind("a MetaImage file", "mha mhd", _NPY, b"ObjectType"),
    _kind("an HDF5 file", "h5 hdf5 nc", _ARRAY, b"\x89HDF"),
    _kind("a MATLAB file", "mat", _ARRAY, b"MATLAB "),
    _kind("a Zarr file", "zarr", _ZARR),
    _kind("a GIF", "gif", f"convert it to PNG; or, for an animation, {FRAMES}", b"GIF8"),
    _kind(
        *("a Netpbm picture", "ppm pgm pbm pnm", _CONVERT),
        *(b"P%d" % n + space for n in range(1, 7) for space in (b"\n", b" ", b"\t", b"\r")),
    ),
    _kind("a PAM picture", "pam", _CONVERT, b"P7\n"),
    _kind("a PFM picture", "pfm", _FLOAT, b"PF\n", b"Pf\n"),
    _kind("a Radiance HDR picture", "hdr rgbe", _FLOAT, b"#?RADIANCE", b"#?RGBE"),
    _kind("an OpenEXR file", "exr", "convert it to 32-bit TIFF first", b"\x76\x2f\x31\x01"),
    _kind("a Targa picture", "tga icb vda vst", _CONVERT),
    _kind("a JPEG XR picture", "jxr wdp hdp", _CONVERT, b"II\xbc"),
    _kind("a JPEG-LS picture", "jls", _CONVERT, b"\xff\xd8\xff\xf7", first=True),
    _kind("a Photoshop document", "psd psb", _EXPORT, b"8BPS"),
    _kind("a GIMP picture", "xcf", _EXPORT, b"gimp xcf"),
    _kind("a PDF", "", "export its pictures as TIFF or PNG", b"%PDF"),
    _kind("a DjVu document", "", _PAGES, b"AT&TFORM"),
    _kind("an icon", "", _CONVERT, b"\0\0\1\0", b"\0\0\2\0", b"icns"),
    _kind("a PCX picture", "pcx dcx", _CONVERT, b"\x0a\5\1", b"\xb1\x68\xde\x3a"),
    _kind("an SGI picture", "sgi rgb bw", _CONVERT, b"\x01\xda\0", b"\x01\xda\1"),
    _kind("a Sun raster", "ras sun", _CONVERT, b"\x59\xa6\x6a\x95"),
    _kind("a DirectDraw surface", "dds", _CONVERT, b"DDS "),
    _kind("a QOI picture", "qoi", _CONVERT, b"qoif"),
    _kind("a BPG picture", "bpg", _CONVERT, b"BPG\xfb"),
    _kind("an SVG drawing", "", "export it as PNG; a drawing has no noise", b"<svg"),
    _kind(
        *("a video", "", FRAMES),
        *(b"ftyp" + brand for brand in (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ")),
        *(b"ftyp" + brand for brand in (b"avc1", b"3gp4", b"3gp5")),
        at=4,
    ),
    _kind("a video", "", FRAMES, b"AVI ", at=8),
    _kind("a video", "", FRAMES, b"\x1a\x45\xdf\xa3"),
    _kind("an .npy file of an unknown version", "", "save it again with numpy.save", b"\x93NUMPY"),
    _kind("a ZIP archive or .npz file", "", "unpack it; save arrays with numpy.save", b"PK\3\4"),
    _kind("a compressed file", "", "unpack it first", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"),
)


def kind_of(path: Path, head: bytes, *, first: bool) -> Kind | None:
    """Tell a file by the marks in its first bytes, and by its name where marks are shared.

    ``first`` looks among the kinds whose beginning is that of a format that is read; else
    among the others, at last by the name alone.
    """
    suffix = path.suffix.lower()
    for kind in KINDS:
        for at, mark in kind.marks if kind.first == first else ():
            if head.startswith(mark, at) and (suffix in kind.suffixes or not kind.named):
                return kind
    return None if first else kind_named(path)


def kind_named(path: Path) -> Kind | None:
    """Tell a file, or a folder that stands for one, by its name alone."""
    suffix = path.suffix.lower()
    return next((kind for kind in KINDS if suffix and suffix in kind.suffixes), None)


def refusal(path: Path, kind: Kind) -> InputError:
    """Make the error that says what a file is and how to convert it."""
    return InputError(f"{path}: is {kind.one}, which is not supported", kind.hint)


def counted(paths: Iterable[Path]) -> list[str]:
    """Say how many files of which kinds there are, and what would open each: a line a kind.

    Parameters
    ----------
    paths : iterable of Path
        Files; those of no kind in the table, by their names, are passed over.
    """
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        kind = kind_named(path)
        if kind is not None:
            kinds.setdefault((kind.many, kind.hint), []).append(path)
    lines = []
    for (many, hint), found in kinds.items():
        endings = ", ".join(sorted({path.suffix.lower() for path in found}))
        lines.append(f"{len(found)} × {many} ({endings}): {hint}")
    return lines
