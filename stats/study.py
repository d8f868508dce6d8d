"""All tables of a multisite study, computed from the table of regional values."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from .age import age_regression
from .agreement import bland_altman, bland_altman_points, intraclass_correlation
from .calibration import apply_calibration, calibrate, calibration_refusals, doubtful_lines
from .components import variance_components
from .equivalence import equivalence_tests, unbiased_imprecision
from .harmonization import harmonization_effect, shift_and_scale
from .planning import change_sd, group_sd, sample_size, smallest_detectable_change
from .protocols import choose_protocols, scans_of
from .references import reference_stability
from .reproducibility import (
    between_methods,
    between_rois,
    imprecision,
    require_columns,
    summarise_imprecision,
    within_subject_sd,
    within_versus_cross,
)

EFFECTS = (5.0, 10.0)  # ppb; the sample sizes are for these effects


def study_tables(
    rois: pd.DataFrame,
    *,
    calibrated: bool = False,
    equivalence_margins: Mapping[str, float] | float | None = None,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Compute every table that the values of a study allow.

    Parameters
    ----------
    rois : DataFrame
        Long table of regional values: people's regions, and phantoms' tubes with their ``expected``
        susceptibility. With a column ``age`` there is an age regression. With a column ``protocol``
        only the scans of each site's commonest protocol are used, see `protocols.choose_protocols`;
        of a phantom those of the people's protocol, if there are any.
    calibrated : bool
        Correct people's values by the phantom scans of their site first. A method of which a site
        has no calibration or a poor one stays as measured at all sites, with a note, and is not
        compared with calibrated ones.
    equivalence_margins : float or mapping of str to float, optional
        Margin within which imprecision across sites is equivalent to that within a site, of all
        regions or of each, ppm. Without it there is no test of equivalence.

    Returns
    -------
    tables : dict of str to DataFrame
        ``rois`` and ``tubes``; ``calibration``; ``imprecision`` (per subject) and
        ``imprecision_summary``; ``within_versus_cross``, ``equivalence``, ``between_rois``,
        ``between_methods``; ``references``; ``within_subject_sd``; ``icc``; ``components``;
        ``sdc``; ``sample_size``; ``bland_altman`` and ``bland_altman_points``; ``harmonized`` and
        ``harmonization``; ``age``; ``excluded``, the scans that are in no other table, with the
        reason.
    notes : list of str
        Scans that were left out, doubtful results and tables that could not be computed, with the
        reasons.

    Raises
    ------
    ValueError
        If columns are missing, or if `calibrated` is set and no method can be calibrated.
    """
    require_columns(
        rois, ["subject", "session", "run", "site", "scan", "method", "roi", "mean", "reference"]
    )
    has_expected = pd.Series(False, index=rois.index)
    if "expected" in rois:
        has_expected = rois["expected"].notna()
    # A phantom may also have tubes without an expected value.
    is_phantom = has_expected.groupby(rois["subject"]).transform("any")
    tubes = rois[is_phantom]
    people = rois[~is_phantom].drop(columns="expected", errors="ignore")
    excluded: list[pd.DataFrame] = []
    notes: list[str] = []
    people = _with_one_reference(people, excluded, notes)
    people = _with_one_protocol(people, excluded, notes)
    tubes = _with_one_protocol(tubes, excluded, notes, preferred=_site_protocols(people))
    tables = {"tubes": tubes, "rois": people}
    if excluded:
        tables["excluded"] = pd.concat(excluded, ignore_index=True)

    def compute(
        name: str, function: Callable[..., pd.DataFrame], *arguments: Any, **options: Any
    ) -> None:
        try:
            tables[name] = function(*arguments, **options)
        except ValueError as cause:
            notes.append(f"{name.replace('_', ' ')}: not computed: {cause}")

    if len(tubes):
        compute("calibration", calibrate, tubes)
    if "calibration" in tables:
        notes += doubtful_lines(tables["calibration"])
    if calibrated:
        if "calibration" not in tables:
            raise ValueError(
                "there is no calibration: no phantom scan has tubes with expected susceptibility"
            )
        people = _calibrated(people, tables["calibration"], notes)
        tables["rois"] = people
    if people.empty:
        return tables, notes
    compute("imprecision", imprecision, people)
    if "imprecision" in tables:
        compute("imprecision_summary", summarise_imprecision, tables["imprecision"])
        compute("within_versus_cross", within_versus_cross, tables["imprecision"])
        if equivalence_margins is not None:
            compute(
                "equivalence", equivalence_tests, unbiased_imprecision(people), equivalence_margins
            )
        compute("between_rois", between_rois, tables["imprecision"])
        comparable = _comparable(tables["imprecision"], people)
        if any(part["method"].nunique() > 1 for part in comparable):
            compute("between_methods", _stacked, between_methods, comparable)
    compute("references", reference_stability, people)
    compute("within_subject_sd", within_subject_sd, people)
    compute("icc", intraclass_correlation, people)
    compute("components", variance_components, people)
    comparable = _comparable(people, people)
    compute("bland_altman", _stacked, bland_altman, comparable)
    compute("bland_altman_points", _stacked, bland_altman_points, comparable)
    compute("harmonized", shift_and_scale, people, leave_one_out=True)
    if "harmonized" in tables:
        compute("harmonization", harmonization_effect, people, tables["harmonized"])
    if "within_subject_sd" in tables:
        compute("sdc", detectable_changes, tables["within_subject_sd"])
    if "components" in tables:
        compute("sample_size", sample_sizes, tables["components"])
    if "age" in people and people["age"].notna().any():
        compute("age", age_regression, people)
    return tables, notes


def detectable_changes(within_subject: pd.DataFrame) -> pd.DataFrame:
    """Compute the smallest detectable change of each region, on one scanner and across scanners.

    Parameters
    ----------
    within_subject : DataFrame
        Result of `stats.reproducibility.within_subject_sd`.

    Returns
    -------
    DataFrame
        Columns ``method``, ``roi``, ``definition`` (``within_site``: both scans at one site;
        ``all_scans``: at any sites), ``sdc``, ``ci_low``, ``ci_high`` (ppb), ``df``.
    """
    is_single_scan = within_subject["definition"].isin(["within_site", "all_scans"])
    precision = within_subject[is_single_scan & within_subject["sdw"].notna()]
    df = precision["df"].to_numpy()
    change = smallest_detectable_change(precision["sdw"].to_numpy(), df=df)
    labels = precision[["method", "roi", "definition"]].reset_index(drop=True)
    return labels.assign(sdc=change.value, ci_low=change.ci_low, ci_high=change.ci_high, df=df)


def sample_sizes(components: pd.DataFrame) -> pd.DataFrame:
    """Compute the number of subjects that a study needs to detect an effect.

    Power is 80 %, α is .05 (two-sided), with one scan at each time point.

    Parameters
    ----------
    components : DataFrame
        Result of `stats.components.variance_components`.

    Returns
    -------
    DataFrame
        One row per method, ROI and effect:

        * method, roi, effect (ppb)
        * change: subjects of a longitudinal study with two sessions on one scanner
        * change_across_sites: the same with the second session on another scanner; missing with one
          site
        * group: subjects in each of two groups at one site
    """
    rows = []
    for (method, roi), part in components.groupby(["method", "roi"], sort=False):
        sd = part.set_index("component")["sd"]
        has_sites = pd.notna(sd["site"])
        sd = sd.fillna(0.0)
        # The component subject × site includes the variation between two sessions of a person.
        change = change_sd(sd["residual"], subject_site_sd=sd["subject_site"])
        change_across_sites = change_sd(
            sd["residual"], subject_site_sd=sd["subject_site"], site_sd=sd["site"]
        )
        group = group_sd(sd["subject"], sd["residual"], subject_site_sd=sd["subject_site"])
        for effect in EFFECTS:
            row = {
                "method": method,
                "roi": roi,
                "effect": effect,
                "change": sample_size(effect, change, design="change"),
                "change_across_sites": pd.NA,
                "group": sample_size(effect, group, design="groups"),
            }
            if has_sites:
                row["change_across_sites"] = sample_size(
                    effect, change_across_sites, design="change"
                )
            rows.append(row)
    return pd.DataFrame(rows)


def _calibrated(people, calibration, notes):
    """Return calibrated values; notes are appended on methods that stay as measured."""
    refusals = calibration_refusals(people, calibration)
    if refusals and set(refusals) == set(people["method"]):
        raise ValueError("; ".join(refusals.values()))
    for method, reason in refusals.items():
        notes.append(
            f"{method}: values are as measured, and not compared with those of calibrated "
            f"inversions: {reason}"
        )
    return apply_calibration(people, calibration, as_measured=list(refusals))


def _comparable(table, people):
    """Split a table into the methods that are calibrated and those that are not."""
    if "calibrated" not in people:
        return [table]
    is_calibrated = table["method"].map(people.groupby("method")["calibrated"].any())
    return [table[is_calibrated == state] for state in is_calibrated.unique()]


def _stacked(function, parts):
    """Concatenate a function's tables of parts of the data; those without rows have no part."""
    tables = [function(part) for part in parts]
    with_rows = [table for table in tables if len(table)]
    return pd.concat(with_rows, ignore_index=True) if with_rows else tables[0]


def _with_one_reference(people, excluded, notes):
    """Return the rows with the commonest reference region.

    Values relative to different regions are not comparable. The excluded scans and a note are
    appended to `excluded` and `notes`.
    """
    if people.empty or people["reference"].nunique() == 1:
        return people
    reference = people["reference"].mode()[0]
    reason = f"relative to another region than {reference}"
    scans = scans_of(people[people["reference"] != reference]).assign(reason=reason)
    excluded.append(scans)
    notes.append(f"{_count(scans)} left out of all statistics: {reason} ({_subjects(scans)})")
    return people[people["reference"] == reference]


def _with_one_protocol(rois, excluded, notes, preferred=None):
    """Return the scans of one protocol at each site: scans of different protocols are no repeats.

    The excluded scans and notes are appended to `excluded` and `notes`.
    """
    if rois.empty or "protocol" not in rois:
        return rois
    scans = scans_of(rois)
    protocols = choose_protocols(scans["site"], scans["protocol"], preferred)
    is_chosen = scans["protocol"] == scans["site"].map(protocols)
    for (site, protocol), group in scans[~is_chosen].groupby(["site", "protocol"], sort=False):
        chosen = scans[is_chosen & (scans["site"] == site)]
        reason = (
            f"not of the protocol that counts at site {site}: {protocols[site]}, {_count(chosen)}"
        )
        excluded.append(group.assign(reason=reason))
        notes.append(
            f"{_count(group)} ({protocol}) left out of all statistics: {reason} "
            f"({_subjects(group)}); only scans of one protocol are repeats: to compare the others, "
            "process them into another folder with --bids-filter-file"
        )
    return rois[rois["protocol"] == rois["site"].map(protocols)]


def _site_protocols(people):
    """Return the protocol of each site, after all others were excluded."""
    if "protocol" not in people:
        return {}
    return dict(zip(people["site"], people["protocol"], strict=True))


def _count(scans):
    return f"{len(scans)} scan{'s' * (len(scans) != 1)}"


def _subjects(scans):
    return ", ".join(sorted({f"sub-{subject}" for subject in scans["subject"]}))
