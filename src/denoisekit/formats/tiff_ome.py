"""OME-XML: what it says of the planes, and the little that changes when they are written anew."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from xml.etree import ElementTree

# The text is patched rather than written from a tree: an ElementTree would rename
# namespaces and lose comments, and everything else is to come back as it was.
_TIFFDATA = re.compile(
    rb"<((?:[\w.-]+:)?)TiffData\b(?:[^>]*?/>|[^>]*>.*?</\1TiffData\s*>)\s*", re.DOTALL
)
_UUID = re.compile(rb"<((?:[\w.-]+:)?)UUID\b(?:[^>]*?/>|[^>]*>.*?</\1UUID\s*>)", re.DOTALL)
_ROOT_UUID = re.compile(rb"(<(?:[\w.-]+:)?OME\b[^>]*?\sUUID\s*=\s*[\"'])([^\"']*)")
_PIXELS = re.compile(rb"<(?:[\w.-]+:)?Pixels\b[^>]*?[^/]>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OmeFacts:
    """What OME-XML says of a file.

    Attributes
    ----------
    images : int
        Number of images described.
    planes : int
        Z × C × T of the first, in pages: channels that are samples of a pixel
        count once.
    files : int
        Number of files over which the planes are spread.
    elsewhere : bool
        The metadata lie in a companion file.
    bits : int or None
        Significant bits of a sample.
    """

    images: int
    planes: int
    files: int
    elsewhere: bool
    bits: int | None

    @property
    def in_set(self) -> bool:
        """Whether the planes described are those of several files."""
        return self.elsewhere or self.files > 1


def is_ome(description: bytes) -> bool:
    """Whether an ImageDescription is OME-XML."""
    return description.rstrip(b"\0 \r\n\t")[-4:] == b"OME>"


def ome_facts(xml: bytes) -> OmeFacts:
    """Return what OME-XML says of the planes.

    Raises
    ------
    ValueError
        It is not well-formed, or sizes are not numbers.
    """
    try:
        root = ElementTree.fromstring(xml.rstrip(b"\0 \r\n\t"))
    except ElementTree.ParseError as error:
        raise ValueError(f"the OME-XML is damaged ({error})") from error
    pixels = [e for image in root for e in image if e.tag.endswith("Pixels")]
    files = {e.text for e in root.iter() if e.tag.endswith("}UUID") or e.tag == "UUID"}
    elsewhere = any(e.tag.endswith("BinaryOnly") for e in root)
    if not pixels:
        return OmeFacts(0, 0, len(files), elsewhere, None)
    first = pixels[0].attrib
    planes = int(first["SizeZ"]) * int(first["SizeC"]) * int(first["SizeT"])
    channels = [e for e in pixels[0] if e.tag.endswith("Channel")]
    samples = int(channels[0].attrib.get("SamplesPerPixel", 1)) if channels else 1
    bits = int(first["SignificantBits"]) if "SignificantBits" in first else None
    return OmeFacts(len(pixels), planes // max(1, samples), len(files), elsewhere, bits)


def ome_alone(xml: bytes) -> bytes:
    """Return OME-XML without the file names of planes.

    A file that was renamed must not send the reader looking for its old name.
    """
    return _UUID.sub(b"", xml)


def ome_patched(xml: bytes, planes: int) -> bytes:
    """Return OME-XML for a file that holds the planes in the order of its axes.

    Only the places of the planes and the file's own identifier change.

    Parameters
    ----------
    xml : bytes
        Of the file read.
    planes : int
        Pages of the file written.
    """
    xml = xml.rstrip(b"\0 \r\n\t")
    places = list(_TIFFDATA.finditer(xml))
    pixels = _PIXELS.search(xml)
    if places:
        at, prefix = places[0].start(), places[0].group(1)
    elif pixels:
        prefix = re.match(rb"<((?:[\w.-]+:)?)", pixels.group()).group(1)  # type: ignore[union-attr]
        # TiffData stands after the channels in the schema.
        at = max(xml.rfind(b"</" + prefix + b"Channel>"), xml.rfind(b"<" + prefix + b"Channel"))
        at = xml.find(b">", at) + 1 if at > pixels.end() else pixels.end()
    else:
        return xml
    here = b'<%bTiffData IFD="0" PlaneCount="%d"/>' % (prefix, planes)
    xml = xml[:at] + here + _TIFFDATA.sub(b"", xml[at:])
    return _ROOT_UUID.sub(_new_identifier, xml, count=1)


def _new_identifier(found: re.Match[bytes]) -> bytes:
    """Return another identifier that is always the same for the same source."""
    old = found.group(2).decode("utf-8", "replace")
    return found.group(1) + b"urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, old)).encode()
