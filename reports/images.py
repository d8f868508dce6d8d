"""Pictures inside a page, small enough."""

import base64
import re
from io import BytesIO

from PIL import Image

from .blocks import PICTURE_BUDGET

QUALITIES = (82, 68, 50)
SMALLEST_SIDE = 24  # pixels; a picture this small is kept, whatever the budget
SMALL = 30_000  # bytes below which a picture is not worth packing again
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "image/svg+xml"),
)


def figure_uri(figure, format="svg", *, budget=PICTURE_BUDGET):
    """Draw a figure into a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    format : {'svg', 'webp', 'png', 'jpeg'}
        SVG for plots; the others hold pixels and are compressed until they fit.
    budget : int
        Most bytes of the URI, but for SVG.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    buffer = BytesIO()
    if format == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return _data_uri(_numbered(buffer.getvalue().decode()).encode(), "image/svg+xml")
    if format not in ("webp", "png", "jpeg"):
        raise ValueError(f"figures can be drawn as svg, webp, png or jpeg, not {format!r}")
    figure.savefig(buffer, format="png", dpi=100)
    return _pixels_uri(buffer.getvalue(), "image/png", budget, format=format)


def image_uri(content, *, budget=PICTURE_BUDGET):
    """Embed a picture file as a data URI, compressed if that makes it smaller.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, WebP or SVG file.
    budget : int
        Most bytes of the URI; a picture of pixels loses quality, then size, until it fits
        or has 24 pixels a side left.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the content is none of these.
    """
    kind = next(
        (kind for signature, kind in SIGNATURES if content.lstrip().startswith(signature)), None
    )
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise ValueError("a picture is neither PNG, JPEG, WebP nor SVG")
    return (
        _data_uri(content, kind) if kind == "image/svg+xml" else _pixels_uri(content, kind, budget)
    )


def _numbered(svg):
    """Matplotlib names parts of an SVG at random; numbers make the same figure the same text."""
    names = {}

    def number(match):
        return names.setdefault(match[0], f"{match[0][0]}{len(names)}")

    return re.sub(r"\b[a-zA-Z][0-9a-f]{10}\b", number, svg)


def _pixels_uri(content, kind, budget, *, format="webp"):
    room = budget * 3 // 4 - 40  # base64 takes four bytes for three, beside the head of the URI
    if len(content) <= min(SMALL, room):
        return _data_uri(content, kind)
    smallest = (content, kind)
    picture = Image.open(BytesIO(content)).convert("RGB")
    while True:
        for quality in QUALITIES:
            buffer = BytesIO()
            picture.save(buffer, format=format, quality=quality)
            if buffer.tell() < len(smallest[0]):
                smallest = buffer.getvalue(), f"image/{format}"
            if len(smallest[0]) <= room or min(picture.size) < SMALLEST_SIDE:
                return _data_uri(*smallest)
        picture = picture.resize([side * 3 // 4 for side in picture.size], Image.Resampling.LANCZOS)


def _data_uri(content, kind):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
