"""Pages: blocks, anchors, links, numbers, and the size of embedded pictures."""

import base64
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from helpers.pages import assert_self_contained, noise_png, table_of
from matplotlib.figure import Figure
from PIL import Image

from multiqsm.reports.blocks import (
    Badge,
    Column,
    Details,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from multiqsm.reports.html import format_value, render_report
from multiqsm.reports.images import figure_uri, image_uri


@pytest.mark.parametrize(
    "link", ["https://example.org/x.tsv", "javascript:alert(1)", "//host/x", "/etc/passwd", "a\\b"]
)
def test_links_must_be_relative_paths(link):
    with pytest.raises(ValueError, match="is not a relative path"):
        render_report("x", [Section("a", (Table(pd.DataFrame({"a": [1]}), link=link),))])


def test_blocks_and_anchors():
    figure = Figure(figsize=(2, 1))
    blocks = (
        Paragraph("text"),
        Warnings(("careful",), level="info"),
        KeyValues({"echo_times": [6, 12.5], "mask": None}),
        Details(
            "more",
            (
                Table(pd.DataFrame({"ok": [True], "name": ["a"], "x": [1.5]})),
                Picture(figure, "none"),
            ),
        ),
    )
    titles = ("Über alles", "Über alles", "Top")
    sections = [*(Section(title, blocks) for title in titles), Section("empty", ())]
    html = render_report("Größe", sections, badges=[Badge("3", "sites")])
    page = assert_self_contained(html)
    assert [a["href"] for a in page.of("a")][:3] == ["#uber-alles", "#uber-alles-2", "#top-2"]
    assert "6, 12.5" in page.text
    assert "n/a" in page.text
    assert "<td class=short>yes</td><td class=short>a</td><td class=number>1.5</td>" in html
    with pytest.raises(TypeError, match="str is not a block"):
        render_report("x", [Section("a", ("text",))])
    with pytest.raises(ValueError, match="level 'loud' is unknown"):
        render_report("x", [Section("a", (Warnings(("a",), level="loud"),))])


def test_columns_set_order_heading_and_unit():
    data = pd.DataFrame({"p": [0.0001, 0.2], "chi": [-0.0421, np.nan], "secret": ["s", "t"]})
    columns = (Column("chi", "χ (ppb)", "+.1f", 1000), Column("p", "P", "p"), Column("absent"))
    html = render_report("x", [Section("a", (Table(data, "numbers", columns, "t a.tsv"),))])
    assert table_of(html, "numbers") == [["χ (ppb)", "P"], ["−42.1", "&lt; .001"], ["n/a", ".200"]]
    assert 'href="t%20a.tsv"' in html
    assert "secret" not in html


def test_values_are_formatted_for_readers():
    assert format_value(-1234.5678, ".2f") == "−1234.57"
    assert format_value(-0.0001, ".2f") == "0.00"
    assert format_value(np.int64(3)) == "3"
    assert format_value(3.0, "d") == "3"
    assert format_value(0.04567, "p") == ".046"
    assert format_value(np.True_) == "yes"
    assert format_value(pd.NaT) == format_value(None) == format_value(np.nan) == "n/a"


def test_pictures_are_compressed_until_they_fit():
    def pixels(uri):
        return Image.open(BytesIO(base64.b64decode(uri.split(",")[1])))

    small = noise_png(40)
    assert image_uri(small) == "data:image/png;base64," + base64.b64encode(small).decode()
    compressed = image_uri(noise_png(500), budget=50_000)
    assert len(compressed) <= 50_000
    assert pixels(compressed).size[0] < 500
    bitmap = BytesIO()
    Image.new("L", (9, 9)).save(bitmap, format="bmp")
    with pytest.raises(ValueError, match="neither PNG"):
        image_uri(bitmap.getvalue())
    for seed in range(2):
        assert len(image_uri(noise_png(60, seed), budget=4000)) <= 4000
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    assert image_uri(drawing).startswith("data:image/svg+xml;base64,")
    figure = Figure(figsize=(5, 5))
    figure.subplots().imshow(np.random.default_rng(0).random((400, 400)))
    for kind in ("png", "jpeg", "webp"):
        uri = figure_uri(figure, kind, budget=100_000)
        assert uri.startswith("data:image/")
        assert len(uri) <= 100_000
    with pytest.raises(ValueError, match="not 'gif'"):
        figure_uri(figure, "gif")
