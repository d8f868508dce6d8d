"""Paragraphs of docs/studies.md on the 2015 study that depend on what was measured."""

from collections.abc import Iterable

import pandas as pd
from page_tables import in_words, number, p_text, paragraph

from multiqsm.stats.families import DEEP_GREY

ITERATIVE = "iterative"
DETERMINISTIC = "deterministic"


def listing(names: Iterable[str]) -> str:
    """Join names by commas and a last "and".

    Parameters
    ----------
    names : iterable of str
        Names of regions, with spaces or underscores.

    Returns
    -------
    str
        "none" if there are none.

    Examples
    --------
    >>> listing(["putamen", "red_nucleus"])
    'putamen and red nucleus'
    """
    words = list(map(in_words, names))
    if len(words) < 2:
        return words[0] if words else "none"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def bias_remark(means: pd.DataFrame) -> str:
    """Say how far each inversion is from the truth, and why.

    Parameters
    ----------
    means : DataFrame
        A row for each region: ``true``, and ``iterative``, ``deterministic`` and those with the
        prefix ``published_``.

    Returns
    -------
    str
    """
    shares = []
    for method in (ITERATIVE, DETERMINISTIC):
        share = 100 * means[method] / means["true"]
        shares.append(f"{share.min():.0f} to {share.max():.0f} % ({method})")
    larger = means.index[means[DETERMINISTIC] > means[ITERATIVE]]
    published = means.index[means["published_deterministic"] > means["published_iterative"]]
    n = len(means)
    return paragraph(
        "The truth is that of the simulation: left and right, averaged over the people, relative "
        f"to the lateral ventricles. Measured means are {' and '.join(shares)} of it. Two causes "
        "add up. PDF assigns slowly varying parts of the tissue's own field to the background "
        "(57 % of the waves longer than 40 mm remain, [background.md](background.md)), and "
        "regularisation lowers the contrast, most in the deterministic inversion, which smooths "
        "across edges as well; [methods.md](methods.md#accuracy) has the share of each, with λ by "
        "another rule. The measured mean is the divisor of the percentages in the table above: "
        "where it is too low, the percentage is too large. The published percentages imply larger "
        "means by the deterministic than by the iterative inversion in "
        f"{len(published)} of {n} regions ({listing(published)}); ours are larger in {len(larger)} "
        f"({listing(larger)}). What makes the difference is not known to us."
    )


def tests_remark(tests: pd.DataFrame) -> str:
    """Say which tests of cross-site against within-site imprecision contradict the study.

    Parameters
    ----------
    tests : DataFrame
        The table ``within_versus_cross``.

    Returns
    -------
    str
    """
    tests = tests[tests["roi"].isin(DEEP_GREY)]
    n_positive = (tests["mean_difference"] > 0).sum()
    sentences = [f"Of the {len(tests)} differences, {n_positive} are positive."]
    significant = tests[tests["significant"].astype(str) == "True"]
    larger = significant[significant["mean_difference"] > 0]
    if larger.empty:
        sentences.append("In none is cross-site imprecision significantly larger, as published.")
        return paragraph(" ".join(sentences))
    named = []
    for test in larger.itertuples():
        named.append(f"{test.method}, {in_words(test.roi)} (P = {p_text(test.p_bonferroni)})")
    sentences.append(
        f"Significant after correction, other than in the study: {'; '.join(named)}. "
        "With nine people the deterministic inversion, whose streaks depend on the "
        "position of the head, is also less precise across sites in some regions "
        "([reproducibility.md](reproducibility.md#imprecision)). Imprecision within a site is many "
        "times larger in the study than here, and can hide such a difference."
    )
    return paragraph(" ".join(sentences))


def region_tests_remark(tests: pd.DataFrame) -> str:
    """Say which regions near the skull base are not the less precise ones.

    Parameters
    ----------
    tests : DataFrame
        A row for each test: ``method``, ``imprecision`` and ``regions`` in words, ``difference``
        (positive: less precise near the skull base) and ``significant`` after correction.

    Returns
    -------
    str
    """
    words = tests["regions"] + " (" + tests["method"] + ", " + tests["imprecision"] + ")"
    negative = words[tests["difference"] < 0]
    significant = words[tests["significant"]]
    text = f"{len(tests) - len(negative)} of {len(tests)} differences have the published sign"
    if len(negative):
        text += f", all but: {'; '.join(negative)}"
    if len(significant):
        return paragraph(f"{text}. Significant after correction: {'; '.join(significant)}.")
    return paragraph(
        f"{text}. None is significant after correction: these people do not confirm the published "
        "difference."
    )


def calibration_remark(calibration: pd.DataFrame) -> str:
    """Compare the lines of all sites with the published one.

    Parameters
    ----------
    calibration : DataFrame
        The table of this name.

    Returns
    -------
    str
    """
    lines = calibration[calibration["site"] == "all"].set_index("method")
    sentences = ["Our source does not say of which inversion the published line is."]
    for method, line in lines.iterrows():
        low, high = (number(line[f"intercept_ci_{end}"], "+.3f") for end in ("low", "high"))
        sentences.append(
            f"The points of the {method} inversion scatter about the line with an SD of "
            f"{number(line['residual_sd'], '.3f')} ppm (R² {number(line['r_squared'], '.4f')}); "
            f"the 95 % confidence interval of its intercept is {low} to {high} ppm."
        )
    sentences.append(
        "Streaks of the deterministic inversion reach from tube to tube, as the picture below "
        "shows, and shift the mean of each tube by another amount. Its R² is therefore lower, and "
        "its intercept uncertain."
    )
    return paragraph(" ".join(sentences))


def age_remark(age: pd.DataFrame, published: pd.DataFrame, true_r: pd.Series) -> str:
    """Say in which regions the correlation with age contradicts the study.

    Parameters
    ----------
    age : DataFrame
        The rows of the table ``age`` of all scans, by region.
    published : DataFrame
        Published ``r``, as text, by region.
    true_r : Series
        Correlation of the true values with age.

    Returns
    -------
    str
    """
    opposite = []
    for roi in DEEP_GREY:
        r = age.loc[roi, "r"]
        theirs = published.loc[roi, "r"]
        if theirs == "none" or (r > 0) != (float(theirs) > 0):
            opposite.append(
                f"{in_words(roi)} {number(r, '+.2f')} (published: {theirs}; true values of these "
                f"people: {number(true_r[roi], '+.2f')})"
            )
    sentences = ["With three people no age effect can be confirmed."]
    if opposite:
        sentences.append(f"Unlike the study: {'; '.join(opposite)}.")
    sentences.append(
        "True values differ between people by more than age explains. Their correlation with age, "
        "in which nothing is measured, shows how far chance in the draw of a few people goes. The "
        "P values over all scans, as published, count repeated scans as people."
    )
    return paragraph(" ".join(sentences))


def times_remark(times: pd.DataFrame) -> str:
    """Say what the three ratios of times include.

    Parameters
    ----------
    times : DataFrame
        The table of this name.

    Returns
    -------
    str
    """
    lines = times.set_index("method")
    line = lines.loc[ITERATIVE]
    sentences = [
        'The study reports a mean of 123 s a scan against .17 s, "nearly 700 times" faster.'
    ]
    if line["wall"] > 1.5 * line["cpu"]:
        sentences.append(
            f"Here the elapsed time of the iterative inversion is {line['wall'] / line['cpu']:.1f} "
            "times its CPU time, since the machine was busy with other work: compare CPU times."
        )
    sentences.append(
        f"Three ratios can be given. In this table it is {number(line['cpu_ratio'], '.0f')}, where "
        "both inversions include the choice of λ by the discrepancy principle. In "
        "[methods.md](methods.md#speed), which inverts true local fields, it is 12 if λ is fixed "
        "for both, and 77 if the iterative inversion includes the search for λ by generalised "
        "cross-validation and the deterministic one has a fixed λ. All are far below the published "
        "ratio, with the choice of λ or without. The reason is that few iterations are needed "
        "here: 14 at a fixed λ, 20 pairs of Fourier transforms in all, against the one or two "
        "pairs of the deterministic inversion. A ratio of 700 needs many hundreds of pairs, unless "
        "the published inversions were implemented differently; our source has no number of "
        "iterations."
    )
    return paragraph(" ".join(sentences))


def references_remark(references: pd.DataFrame) -> str:
    """Say which reference is the steadiest.

    Parameters
    ----------
    references : DataFrame
        The table of this name.

    Returns
    -------
    str
    """
    lines = references.set_index(["reference", "method"])
    own = lines.loc["splenium", ["within", "cross"]] / lines.loc["csf", ["within", "cross"]]
    ratios = own.to_numpy()
    measures = ["regions_within", "regions_cross"]
    regions = lines[measures].unstack("method")
    is_steadiest = regions.loc["brain"] == regions.min()
    return paragraph(
        f"The splenium's own imprecision is {ratios.min():.1f} to {ratios.max():.1f} times that of "
        f"CSF. In {is_steadiest.sum()} of {is_steadiest.size} comparisons (by inversion, within "
        "and across sites) "
        "the five regions are most precise relative to the whole brain, which averages most "
        "voxels. Its mean, however, depends on the mask and on the iron that is to be "
        "compared ([reproducibility.md](reproducibility.md#reference-regions))."
    )
