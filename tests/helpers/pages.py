"""Pages of reports, as a browser sees them."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd


class Page(HTMLParser):
    """Tags with their attributes, ids, and the text outside styles."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
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
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//|javascript:|file:", target), target
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "url(" not in html
    assert "@import" not in html
    policy = next(
        m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.of("a") if a["href"].startswith("#")} <= set(ids)
    assert all(image["alt"] for image in page.of("img"))
    return page


def table_of(html, caption):
    """Rows of the table with this caption as lists of texts; heading first."""
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
    """Travelling heads: true values that rise with age, an offset of each site, and noise."""
    random = np.random.default_rng(seed)
    shifts = dict(zip(sites, random.normal(0, offset, len(sites)), strict=True))
    rows = []
    for number in range(1, subjects + 1):
        age = float(random.integers(23, 38))
        for roi, (level, noise) in ROIS.items():
            truth = level + 0.001 * (age - 28) + random.normal(0, 0.006)
            for site in sites:
                own = random.normal(0, noise / 2)
                for scan in range(1, scans + 1):
                    for method in methods:
                        value = truth + shifts[site] + own + random.normal(0, noise)
                        rows.append(
                            (f"{number:02}", site, str(scan), site, method, roi, value, age, scan)
                        )
    names = ["subject", "session", "run", "site", "method", "roi", "mean", "age", "scan"]
    return pd.DataFrame(rows, columns=names).assign(unit="ppm", reference="csf")
