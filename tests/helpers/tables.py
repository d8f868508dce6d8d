"""Tables of regional values as the participant level writes them, of known truth."""

from itertools import product

import numpy as np
import pandas as pd

from multiqsm.dataset.entities import scan_label
from multiqsm.dataset.names import R2STAR_TABLE
from multiqsm.dataset.outputs import derivative_path
from multiqsm.dataset.tables import write_tsv
from multiqsm.dataset.times import InversionTime, write_times

ROIS = {"putamen": 0.045, "pallidum": 0.12, "csf": 0.0}  # ppm; the last is the reference
SLOPES = {"A": 0.9, "B": 0.8, "C": 1.1}
TUBES = {"tube 1": 0.2, "tube 2": 0.4, "tube 3": 0.6, "tube 4": 0.8}  # ppm
WALL_TIMES = {"iterative": 30.0, "deterministic": 0.5}  # s
LABELS = ["subject", "session", "run", "site", "scan", "method", "roi"]


def people_table(
    *, subjects=4, sites="ABC", scans=3, methods=("iterative", "deterministic"), slopes=None, seed=0
):
    """Return values of people who travelled to all sites: a person's own value plus noise, times
    the slope of the site.
    """
    random = np.random.default_rng(seed)
    slope_of_site = dict.fromkeys(sites, 1.0) | (slopes or {})
    rows = []
    for subject in range(1, subjects + 1):
        for roi, level in ROIS.items():
            truth = level and level + random.normal(0, 0.01)
            for site in sites:
                for scan in range(1, scans + 1):
                    for method in methods:
                        value = level and slope_of_site[site] * (truth + random.normal(0, 0.003))
                        rows.append(
                            (f"{subject:02}", site, str(scan), site, scan, method, roi, value)
                        )
    table = pd.DataFrame(rows, columns=[*LABELS, "mean"])
    spread = {"sd": 0.01, "median": table["mean"], "n_voxels": 100, "volume": 0.8, "n_excluded": 0}
    return table.assign(
        **spread, unit="ppm", reference="csf", reference_offset=-0.03, reference_sd=0.004
    )


def tubes_table(*, slopes=SLOPES, methods=("iterative", "deterministic")):
    """Return values of a phantom's tubes at each site: the slope times the expected value, plus an
    intercept.
    """
    rows = []
    for (site, slope), method in product(slopes.items(), methods):
        for tube, expected in TUBES.items():
            mean = slope * expected - 0.04
            rows.append(("phantom", site, "1", site, 1, method, tube, mean, expected))
    table = pd.DataFrame(rows, columns=[*LABELS, "mean", "expected"])
    return table.assign(sd=0.01, median=table["mean"], unit="ppm", reference="phantom")


def r2star_table(table):
    """Return R2* of the scans and regions of a table of susceptibility, 1/s: 20 and a slope of 100
    per ppm.
    """
    table = table[table["method"] == table["method"].iloc[0]]
    of_susceptibility = [
        "method",
        "se",
        "se_noise",
        "se_systematic",
        "reference",
        "reference_offset",
        "reference_sd",
        "expected",
    ]
    table = table.drop(columns=of_susceptibility, errors="ignore")
    mean = 20 + 100 * table["mean"]
    return table.assign(mean=mean, median=mean, sd=1.0, unit="1/s").reset_index(drop=True)


def write_scans(root, table, acquisition=None):
    """Write the table and the computation times of every scan where the participant level has
    them.
    """
    for entities, rows in _scans_of(table, acquisition):
        write_tsv(
            derivative_path(root, entities, suffix="chi", desc="rois", extension=".tsv"), rows
        )
        times = {}
        for method in rows["method"].unique():
            wall = WALL_TIMES.get(method, 1.0)
            times[method] = InversionTime(wall, 2 * wall, 0.25, (40, 40, 45), 2, "a processor")
        write_times(root, scan_label(entities), times)


def write_r2star(root, table):
    """Write the table of R2* of every scan where the participant level has it."""
    for entities, rows in _scans_of(table):
        write_tsv(derivative_path(root, entities, **R2STAR_TABLE), rows)


def _scans_of(table, acquisition=None):
    """Yield entities and rows of each scan."""
    for (subject, session, run), rows in table.groupby(["subject", "session", "run"], dropna=False):
        entities = {"subject": subject, "session": session, "acquisition": acquisition, "run": run}
        yield {key: label for key, label in entities.items() if isinstance(label, str)}, rows
