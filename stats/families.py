"""Families of tests, within which P values are corrected for their number."""

from collections.abc import Collection, Sequence

import pandas as pd

# The regions of the 2015 study, whose Bonferroni correction counts these five.
DEEP_GREY = ("caudate_nucleus", "putamen", "globus_pallidus", "red_nucleus", "substantia_nigra")
DEEP_GREY_FAMILY = "deep_grey"
OTHER_FAMILY = "other"
ONE_FAMILY = "all"


def family_of(rois: Collection[str], measured: Collection[str]) -> str:
    """Name the family of a test of one region, or of a comparison of several.

    If a study has measured all five nuclei of the 2015 study, they are the family, as there, and
    further regions (such as the thalamus) are another one. If all were one, the corrected P of a
    nucleus would depend on which others happen to be labelled. If a nucleus is missing, or has
    another name, all regions are one family: no region is tested without correction because of its
    name.

    Parameters
    ----------
    rois : collection of str
        Regions of the test.
    measured : collection of str
        All regions of the study.

    Returns
    -------
    str
        ``deep_grey``, ``other`` or ``all``.

    Examples
    --------
    >>> family_of(["putamen"], [*DEEP_GREY, "thalamus"])
    'deep_grey'
    >>> family_of(["putamen", "thalamus"], [*DEEP_GREY, "thalamus"])
    'other'
    >>> family_of(["putamen"], ["putamen", "thalamus"])
    'all'
    """
    if not set(DEEP_GREY) <= set(measured):
        return ONE_FAMILY
    return DEEP_GREY_FAMILY if set(rois) <= set(DEEP_GREY) else OTHER_FAMILY


def correct_p(tests: pd.DataFrame, family: Sequence[str], *, alpha: float = 0.05) -> pd.DataFrame:
    """Correct P values for the number of tests of their family (Bonferroni).

    Parameters
    ----------
    tests : DataFrame
        One row per test: column ``p``, NaN if the test could not be made, and those of `family`.
    family : sequence of str
        Columns whose equal values make tests a family.
    alpha : float
        Level of significance.

    Returns
    -------
    DataFrame
        The table with n_tests (of the family, without those that could not be made), p_bonferroni
        (p times that number, at most 1) and significant (whether that is below alpha).

    Examples
    --------
    >>> tests = pd.DataFrame({"method": "medi", "p": [0.02, 0.6, float("nan")]})
    >>> correct_p(tests, ["method"])["p_bonferroni"].tolist()
    [0.04, 1.0, nan]
    """
    corrected = tests.copy()
    corrected["n_tests"] = corrected.groupby(list(family))["p"].transform("count")
    corrected["p_bonferroni"] = (corrected["p"] * corrected["n_tests"]).clip(upper=1)
    corrected["significant"] = corrected["p_bonferroni"] < alpha
    return corrected
