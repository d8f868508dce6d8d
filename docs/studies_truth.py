"""The truth of the simulated 2015 study, for docs/studies.md."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from page_tables import raw_dataset

from multiqsm.dataset.simulated.layout import TRUTH
from multiqsm.dataset.tables import read_tsv
from multiqsm.stats.families import DEEP_GREY

REFERENCE = "lateral_ventricle"
SIDES = ("left", "right")


def true_means(folder: Path, subjects: Iterable[str]) -> pd.DataFrame:
    """Read the true susceptibility of the five regions of each person.

    Parameters
    ----------
    folder : Path
        The derivative dataset, whose description names the simulated one.
    subjects : iterable of str
        Labels of the people.

    Returns
    -------
    DataFrame
        In ppm relative to the lateral ventricles, mean of left and right: a row for each person,
        a column for each region.
    """
    truth = raw_dataset(folder) / TRUTH
    rows = {}
    for subject in subjects:
        paths = sorted((truth / f"sub-{subject}").glob("**/*_desc-truth_dseg.tsv"))
        # The labels of all scans of a person have the same values.
        values = read_tsv(paths[0]).set_index("name")["susceptibility_ppm"]
        regions = {}
        for roi in DEEP_GREY:
            sides = [values[f"{side}_{roi}"] for side in SIDES]
            regions[roi] = np.mean(sides) - values[REFERENCE]
        rows[subject] = regions
    return pd.DataFrame.from_dict(rows, orient="index")


def correlations_with_age(truth: pd.DataFrame, ages: pd.Series) -> pd.Series:
    """Correlate the true susceptibility of each region with age.

    Parameters
    ----------
    truth : DataFrame
        As of `true_means`.
    ages : Series
        Years, by the labels of the people.

    Returns
    -------
    Series
        Pearson's r of each region, over people.
    """
    return truth.corrwith(ages)
