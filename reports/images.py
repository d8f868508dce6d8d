"""Embedding of pictures in a page, compressed to a limited size."""

import base64
import re
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

from .blocks import PICTURE_BUDGET

QUALITIES = (82, 68, 50)
SMALLEST_SIDE = 24  # pixels; smaller pictures are not reduced further, whatever the budget
SMALL = 30_000  # bytes; smaller files are not compressed again
SIGNATURES = (  # first bytes of the file
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "image/svg+xml"),
)


def figure_uri(figure: Figure, format: str = "svg", *, budget: int = PICTURE_BUDGET) -> str:
    """Save a figure as a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    format : {'svg', 'webp', 'png', 'jpeg'}
        SVG for plots. The others store pixels and are compressed until they fit the budget.
    budget : int
        Maximum length of the URI in bytes; ignored for SVG.

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
        raise ValueError(f"figures can be saved as svg, webp, png or jpeg, not {format!r}")
    figure.savefig(buffer, format="png", dpi=100)
    return _pixels_uri(buffer.getvalue(), "image/png", budget, format=format)


def image_uri(content: bytes, *, budget: int = PICTURE_BUDGET) -> str:
    """Encode a picture file as a data URI, compressed if that makes it smaller.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, WebP or SVG file.
    budget : int
        Maximum length of the URI in bytes. The quality of a picture other than SVG is reduced, then
        its size, until it fits or a side is shorter than 24 pixels.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the content is in none of these formats.
    """
    media_type = _media_type(content)
    if media_type is None:
        raise ValueError(
            "a picture is neither PNG, JPEG, WebP nor SVG: convert it to one of these formats"
        )
    if media_type == "image/svg+xml":
        return _data_uri(content, media_type)
    return _pixels_uri(content, media_type, budget)


def _media_type(content):
    """Return the media type of a picture file by its first bytes, or None if it is no picture."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    start = content.lstrip()
    for signature, media_type in SIGNATURES:
        if start.startswith(signature):
            return media_type
    return None


def _numbered(svg):
    """Replace the random identifiers of an SVG by numbers.

    Matplotlib chooses identifiers at random; with numbers the same figure gives the same text.
    """
    names = {}

    def number(match):
        return names.setdefault(match[0], f"{match[0][0]}{len(names)}")

    return re.sub(r"\b[a-zA-Z][0-9a-f]{10}\b", number, svg)


def _pixels_uri(content, media_type, budget, *, format="webp"):
    # Base64 writes three bytes as four; 40 bytes are enough for the head of the URI.
    max_bytes = budget * 3 // 4 - 40
    if len(content) <= min(SMALL, max_bytes):
        return _data_uri(content, media_type)
    smallest = content
    picture = Image.open(BytesIO(content)).convert("RGB")
    while True:
        for quality in QUALITIES:
            buffer = BytesIO()
            picture.save(buffer, format=format, quality=quality)
            if buffer.tell() < len(smallest):
                smallest = buffer.getvalue()
                media_type = f"image/{format}"
            if len(smallest) <= max_bytes or min(picture.size) < SMALLEST_SIDE:
                return _data_uri(smallest, media_type)
        width, height = picture.size
        picture = picture.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)


def _data_uri(content, media_type):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
