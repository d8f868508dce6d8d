"""Pages of reports as a browser reads them, and tables and pictures to put into them."""

import itertools
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image


class Page(HTMLParser):
    """Tags with their attributes, ids, and the text outside styles."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.open = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(html):
    page = Page(html)
    assert not page.open
    assert not page.of("script")
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)  # no event handlers
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//|javascript:|file:", target), target
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "url(" not in html
    assert "@import" not in html
    policies = []
    for meta in page.of("meta"):
        if meta.get("http-equiv") == "Content-Security-Policy":
            policies.append(meta["content"])
    assert "default-src 'none'" in policies[0]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.of("a") if a["href"].startswith("#")} <= set(ids)
    assert all(image["alt"] for image in page.of("img"))
    return page


def table_of(html, caption):
    """Return the rows of the table with this caption as lists of texts; headings first."""
    part = html[html.index(f"<strong>{caption}</strong>") :]
    part = part[: part.index("</table>")]
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


ROIS = {
    "caudate_nucleus": (0.054, 0.0054),
    "putamen": (0.040, 0.0037),
    "globus_pallidus": (0.129, 0.0044),
    "red_nucleus": (0.061, 0.0113),
    "substantia_nigra": (0.065, 0.0099),
}


def roi_table(
    *,
    subjects=9,
    sites="ABC",
    scans=5,
    methods=("iterative", "deterministic"),
    seed=0,
    offset=0.004,
):
    """Return regional values of subjects who were scanned at every site.

    True values rise with age; each site has an offset, and each scan noise.
    """
    random = np.random.default_rng(seed)
    shifts = dict(zip(sites, random.normal(0, offset, len(sites)), strict=True))
    rows = []
    for number in range(1, subjects + 1):
        age = float(random.integers(23, 38))
        for roi, (level, noise) in ROIS.items():
            truth = level + 0.001 * (age - 28) + random.normal(0, 0.006)
            for site in sites:
                site_deviation = random.normal(0, noise / 2)
                for scan in range(1, scans + 1):
                    for method in methods:
                        value = truth + shifts[site] + site_deviation + random.normal(0, noise)
                        rows.append(
                            (f"{number:02}", site, str(scan), site, method, roi, value, age, scan)
                        )
    names = ["subject", "session", "run", "site", "method", "roi", "mean", "age", "scan"]
    return pd.DataFrame(rows, columns=names).assign(unit="ppm", reference="csf")


def tube_table(sites="ABC", methods=("iterative", "deterministic")):
    """Return susceptibilities of a phantom's tubes at every site, with the published slope."""
    random = np.random.default_rng(1)
    rows = []
    for site, method in itertools.product(sites, methods):
        for tube, expected in enumerate((0, 0.41, 0.82, 1.22, 1.63, 2.04)):
            mean = 0.91 * expected - 0.04 + random.normal(0, 0.01)
            rows.append(("phantom", site, "1", site, method, f"tube{tube}", mean, expected, 1))
    names = ["subject", "session", "run", "site", "method", "roi", "mean", "expected", "scan"]
    return pd.DataFrame(rows, columns=names)


def noise_png(side, seed=0):
    """Return a PNG file of noise, which no compression can reduce."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()
