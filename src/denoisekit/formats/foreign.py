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
TIFF = ((0, b"II*\0"), (0, b"MM\0*"))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that no format here reads.

    Attributes
    ----------
    one, many : str
        What people call it, and several of it.
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
    many: str
    hint: str
    marks: tuple[tuple[int, bytes], ...] = ()
    suffixes: tuple[str, ...] = ()
    named: bool = False
    first: bool = False


_DEVELOP = "develop it to 16-bit TIFF first, for example with darktable or RawTherapee"
_BIOFORMATS = "convert it to OME-TIFF first, with Fiji or bfconvert"
_CONVERT = "convert it to PNG or TIFF first"
FRAMES = (
    "take its frames out as PNG (magick FILE -coalesce frame%04d.png, or ffmpeg), denoise their "
    "folder, and put them together again"
)


def _raw(maker: str, suffixes: str, *marks: tuple[int, bytes]) -> Kind:
    """Describe a raw format; without marks of its own it is a TIFF, and told by its name."""
    names = tuple(f".{name}" for name in suffixes.split())
    one = f"a raw photo ({maker})" if maker else "a raw photo"
    return Kind(one, "raw photos", _DEVELOP, marks or TIFF, names, not marks, first=True)


def _microscope(
    name: str, suffixes: str, *marks: tuple[int, bytes], named: bool = False, hint: str = ""
) -> Kind:
    names = tuple(f".{suffix}" for suffix in suffixes.split())
    hint = hint or _BIOFORMATS
    many = f"{name.partition(' ')[2]} files"
    return Kind(f"{name} file", many, hint, marks, names, named, first=named)


def _picture(name: str, many: str, suffixes: str, *marks: tuple[int, bytes], hint: str) -> Kind:
    names = tuple(f".{suffix}" for suffix in suffixes.split())
    return Kind(name, many, hint, marks, names)


RAW = Kind("a raw photo", "raw photos", _DEVELOP)
KINDS: tuple[Kind, ...] = (
    _raw("Nikon", "nef nrw"),
    _raw("Sony", "arw sr2 srf"),
    _raw("Canon", "cr2", (8, b"CR\2\0")),
    _raw("Canon", "cr3", (4, b"ftypcrx ")),
    _raw("Canon", "crw", (6, b"HEAPCCDR")),
    _raw("Olympus", "orf ori", (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR")),
    _raw("Panasonic or Leica", "rw2 rwl", (0, b"IIU\0")),
    _raw("Fujifilm", "raf", (0, b"FUJIFILMCCD-RAW")),
    _raw("Sigma", "x3f", (0, b"FOVb")),
    _raw("Minolta", "mrw", (0, b"\0MRM")),
    _raw("Phase One", "iiq", (8, b"IIII"), (8, b"MMMM")),
    _raw("ARRI", "ari", (0, b"ARRI")),
    _raw("DNG", "dng"),
    _raw("Pentax", "pef"),
    _raw("Samsung", "srw"),
    _raw("Hasselblad", "3fr fff"),
    _raw("Epson", "erf"),
    _raw("Kodak", "kdc dcr k25"),
    _raw("Leaf or Mamiya", "mos mef"),
    _raw("GoPro", "gpr"),
    _picture(
        *("a HEIC picture", "HEIC pictures", "heic heif hif"),
        *((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")),
        hint="readable after pip install 'denoisekit[heif]'",
    ),
    _picture(
        *("a HEIF sequence", "HEIF sequences", "heics heifs"),
        *((4, b"ftyp" + brand) for brand in (b"hevc", b"hevx", b"msf1")),
        hint=FRAMES,
    ),
    Kind(
        "a DICOM file",
        "DICOM files",
        "convert its pixels to TIFF first, with Fiji, or with pydicom and tifffile in Python",
        ((128, b"DICM"),),
        (".dcm", ".dicom"),
        first=True,
    ),
    _microscope("a CZI (Zeiss)", "czi", (0, b"ZISRAWFILE")),
    _microscope("an ND2 (Nikon)", "nd2", (0, b"\xda\xce\xbe\x0a")),
    _microscope("an ND2 (Nikon)", "nd2", (4, b"jP  "), named=True),
    _microscope("an LIF (Leica)", "lif xlef lof", (0, b"\x70\0\0\0"), named=True),
    _microscope("an OIB (Olympus)", "oib", (0, b"\xd0\xcf\x11\xe0"), named=True),
    _microscope("a ZVI (Zeiss)", "zvi", (0, b"\xd0\xcf\x11\xe0"), named=True),
    _microscope("a VSI (Olympus)", "vsi", *TIFF, named=True),
    _microscope("an ETS (Olympus)", "ets", (0, b"SIS\0")),
    _microscope("a DM3 or DM4 (Gatan)", "dm3", (0, b"\0\0\0\3"), named=True),
    _microscope("a DM3 or DM4 (Gatan)", "dm4", (0, b"\0\0\0\4"), named=True),
    _microscope("an SIF (Andor)", "sif", (0, b"Andor Technology")),
    _microscope("an ICS", "ics", (0, b"ics_version"), (1, b"ics_version")),
    _microscope("a SPE (Princeton Instruments)", "spe"),
    _microscope("an IMS (Imaris)", "ims", (0, b"\x89HDF"), named=True),
    _microscope(
        *("a FITS", "fits fit fts", (0, b"SIMPLE  =")),
        hint="convert it to float TIFF or .npy first, with astropy in Python, or with Fiji",
    ),
    _microscope(
        *("an MRC", "mrc mrcs", (208, b"MAP ")),
        hint="convert it to TIFF or .npy first, with mrcfile in Python, or with IMOD's mrc2tif",
    ),
    _microscope(
        *("a NIfTI", "nii", (344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0")),
        hint="save its array as .npy first, with nibabel in Python",
    ),
    _microscope("an NRRD", "nrrd nhdr", (0, b"NRRD000"), hint="save its array as .npy first"),
    _microscope("a MetaImage", "mha mhd", (0, b"ObjectType"), hint="save its array as .npy first"),
    _microscope(
        "an HDF5", "h5 hdf5 nc", (0, b"\x89HDF"), hint="save its array as .npy or TIFF first"
    ),
    _microscope("a MATLAB", "mat", (0, b"MATLAB "), hint="save its array as .npy or TIFF first"),
    _microscope("a Zarr", "zarr", hint="save the array as .npy or TIFF first, with zarr in Python"),
    _picture(
        *("a GIF", "GIFs", "gif", (0, b"GIF8")),
        hint=f"convert it to PNG; or, for an animation, {FRAMES}",
    ),
    _picture(
        "a Netpbm picture",
        "Netpbm pictures",
        "ppm pgm pbm pnm",
        *((0, b"P%d" % n + s) for n in range(1, 7) for s in (b"\n", b" ", b"\t", b"\r")),
        hint=_CONVERT,
    ),
    _picture("a PAM picture", "PAM pictures", "pam", (0, b"P7\n"), hint=_CONVERT),
    _picture(
        "a PFM picture",
        "PFM pictures",
        "pfm",
        (0, b"PF\n"),
        (0, b"Pf\n"),
        hint="convert it to float TIFF first",
    ),
    _picture(
        "a Radiance HDR picture",
        "Radiance HDR pictures",
        "hdr rgbe",
        (0, b"#?RADIANCE"),
        (0, b"#?RGBE"),
        hint="convert it to float TIFF first",
    ),
    _picture(
        "an OpenEXR file",
        "OpenEXR files",
        "exr",
        (0, b"\x76\x2f\x31\x01"),
        hint="convert it to 32-bit TIFF first",
    ),
    _picture("a Targa picture", "Targa pictures", "tga icb vda vst", hint=_CONVERT),
    _picture("a JPEG XR picture", "JPEG XR pictures", "jxr wdp hdp", (0, b"II\xbc"), hint=_CONVERT),
    Kind(
        "a JPEG-LS picture",
        "JPEG-LS pictures",
        _CONVERT,
        ((0, b"\xff\xd8\xff\xf7"),),
        (".jls",),
        first=True,
    ),
    _picture(
        "a Photoshop document",
        "Photoshop documents",
        "psd psb",
        (0, b"8BPS"),
        hint="export it as TIFF or PNG",
    ),
    _picture(
        "a GIMP picture", "GIMP pictures", "xcf", (0, b"gimp xcf"), hint="export it as TIFF or PNG"
    ),
    _picture("a PDF", "PDFs", "", (0, b"%PDF"), hint="export its pictures as TIFF or PNG"),
    _picture(
        "a DjVu document",
        "DjVu documents",
        "",
        (0, b"AT&TFORM"),
        hint="export its pages as TIFF or PNG",
    ),
    _picture(
        "an icon", "icons", "", (0, b"\0\0\1\0"), (0, b"\0\0\2\0"), (0, b"icns"), hint=_CONVERT
    ),
    _picture(
        "a PCX picture",
        "PCX pictures",
        "pcx dcx",
        (0, b"\x0a\5\1"),
        (0, b"\xb1\x68\xde\x3a"),
        hint=_CONVERT,
    ),
    _picture(
        "an SGI picture",
        "SGI pictures",
        "sgi rgb bw",
        (0, b"\x01\xda\0"),
        (0, b"\x01\xda\1"),
        hint=_CONVERT,
    ),
    _picture("a Sun raster", "Sun rasters", "ras sun", (0, b"\x59\xa6\x6a\x95"), hint=_CONVERT),
    _picture("a DirectDraw surface", "DirectDraw surfaces", "dds", (0, b"DDS "), hint=_CONVERT),
    _picture("a QOI picture", "QOI pictures", "qoi", (0, b"qoif"), hint=_CONVERT),
    _picture("a BPG picture", "BPG pictures", "bpg", (0, b"BPG\xfb"), hint=_CONVERT),
    _picture(
        "an SVG drawing",
        "SVG drawings",
        "",
        (0, b"<svg"),
        hint="export it as PNG; a drawing has no noise",
    ),
    _picture(
        "a video",
        "videos",
        "",
        *(
            (4, b"ftyp" + b)
            for b in (
                b"isom",
                b"iso2",
                b"mp41",
                b"mp42",
                b"qt  ",
                b"M4V ",
                b"avc1",
                b"3gp4",
                b"3gp5",
            )
        ),
        (8, b"AVI "),
        (0, b"\x1a\x45\xdf\xa3"),
        hint=FRAMES,
    ),
    _picture(
        "an .npy file of an unknown version",
        "odd .npy files",
        "",
        (0, b"\x93NUMPY"),
        hint="save it again with numpy.save",
    ),
    _picture(
        "a ZIP archive or .npz file",
        "archives",
        "",
        (0, b"PK\3\4"),
        hint="unpack it; save arrays with numpy.save",
    ),
    _picture(
        "a compressed file",
        "compressed files",
        "",
        (0, b"\x1f\x8b"),
        (0, b"BZh"),
        (0, b"\xfd7zXZ"),
        hint="unpack it first",
    ),
)


def kind_of(path: Path, head: bytes, *, first: bool) -> Kind | None:
    """Tell a file by the marks in its first bytes, and by its name where marks are shared.

    ``first`` looks among the kinds whose beginning is that of a format that is read; else
    among the others, at last by the name alone.
    """
    suffix = path.suffix.lower()
    for kind in KINDS:
        fits = any(head.startswith(mark, at) for at, mark in kind.marks)
        if kind.first == first and fits and (suffix in kind.suffixes or not kind.named):
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
