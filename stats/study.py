"""All tables of a multisite study, from the table of regional values."""

import pandas as pd

from .age import age_regression
from .agreement import bland_altman, bland_altman_points, intraclass_correlation
from .calibration import apply_calibration, calibrate, doubtful_lines
from .components import variance_components
from .harmonization import harmonization_effect, shift_and_scale
from .planning import change_sd, group_sd, sample_size, smallest_detectable_change
from .protocols import choose_protocols, scans_of
from .reproducibility import (
    between_methods,
    between_rois,
    imprecision,
    require_columns,
    summarise_imprecision,
    within_subject_sd,
    within_versus_cross,
)

EFFECTS = (5.0, 10.0)  # ppb, that the sample sizes are given for


def study_tables(rois, *, calibrated=False):
    """Compute every table that the values of a study allow.

    Parameters
    ----------
    rois : DataFrame
        The long table of regional values: people's regions, and phantoms' tubes with their
        ``expected`` susceptibility. With a column ``age`` there is an age regression. With a column
        ``protocol`` each site is told by the scans of its commonest protocol alone, see
        `protocols.choose_protocols`; a phantom's by those of people's protocol, if it was scanned
        with that.
    calibrated : bool
        Correct people's values by the phantom scans of their site before anything else.

    Returns
    -------
    tables : dict of str to DataFrame
        ``rois`` and ``tubes``; ``calibration``; ``imprecision`` (per subject) and
        ``imprecision_summary``; ``within_versus_cross``, ``between_rois``, ``between_methods``;
        ``within_subject_sd``; ``icc``; ``components``; ``sdc``; ``sample_size``; ``bland_altman``
        and ``bland_altman_points``; ``harmonized`` and ``harmonization``; ``age``; ``excluded``,
        the scans that were left out of all others and why.
    notes : list of str
        What was left out, is doubtful or could not be computed, and why.

    Raises
    ------
    ValueError
        If columns are missing, or `calibrated` is asked for and a site has no calibration, or a
        poor one.
    """
    require_columns(
        rois, ["subject", "session", "run", "site", "scan", "method", "roi", "mean", "reference"]
    )
    known = rois["expected"].notna() if "expected" in rois else pd.Series(False, index=rois.index)
    # also a tube of it that nobody knows
    is_phantom = known.groupby(rois["subject"]).transform("any")
    tubes = rois[is_phantom]
    people = rois[~is_phantom].drop(columns="expected", errors="ignore")
    people, excluded, notes = _of_one_kind(people)
    tubes, not_used, more_notes = _of_one_protocol(tubes, _protocols_at(people))
    tables = {"tubes": tubes, "rois": people}
    notes = notes + more_notes
    if excluded or not_used:
        tables["excluded"] = pd.concat([*excluded, *not_used], ignore_index=True)

    def compute(name, function, *arguments, **options):
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
        tables["rois"] = people = apply_calibration(people, tables["calibration"])
    if people.empty:
        return tables, notes
    compute("imprecision", imprecision, people)
    if "imprecision" in tables:
        compute("imprecision_summary", summarise_imprecision, tables["imprecision"])
        compute("within_versus_cross", within_versus_cross, tables["imprecision"])
        compute("between_rois", between_rois, tables["imprecision"])
        if people["method"].nunique() > 1:
            compute("between_methods", between_methods, tables["imprecision"])
    compute("within_subject_sd", within_subject_sd, people)
    compute("icc", intraclass_correlation, people)
    compute("components", variance_components, people)
    compute("bland_altman", bland_altman, people)
    compute("bland_altman_points", bland_altman_points, people)
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


def detectable_changes(within_subject):
    """Smallest detectable change of each region, on one scanner and across scanners.

    Parameters
    ----------
    within_subject : DataFrame
        As of `stats.reproducibility.within_subject_sd`.

    Returns
    -------
    DataFrame
        Columns ``method``, ``roi``, ``definition`` (``within_site``: both scans at one site;
        ``all_scans``: anywhere), ``sdc``, ``ci_low``, ``ci_high`` (ppb), ``df``.
    """
    wanted = within_subject["definition"].isin(["within_site", "all_scans"])
    kept = within_subject[wanted & within_subject["sdw"].notna()]
    change = smallest_detectable_change(kept["sdw"].to_numpy(), df=kept["df"].to_numpy())
    named = kept[["method", "roi", "definition"]].reset_index(drop=True)
    return named.assign(
        sdc=change.value, ci_low=change.ci_low, ci_high=change.ci_high, df=kept["df"].to_numpy()
    )


def sample_sizes(components):
    """Subjects that a study needs to see an effect with 80 % power, two-sided α .05, one scan at
    each time.

    Parameters
    ----------
    components : DataFrame
        As of `stats.components.variance_components`.

    Returns
    -------
    DataFrame
        Columns ``method``, ``roi``, ``effect`` (ppb), ``change`` (subjects of a longitudinal study,
        two sessions on one scanner), ``change_across_sites`` (the second on another scanner;
        missing with one site), ``group`` (subjects in each of two groups at one site).
    """
    rows = []
    for (method, roi), part in components.groupby(["method", "roi"], sort=False):
        sd = part.set_index("component")["sd"]
        known = sd.fillna(0.0)
        # What differs between two sessions of a person is in the component subject × site.
        same = change_sd(known["residual"], subject_site_sd=known["subject_site"])
        other = change_sd(
            known["residual"], subject_site_sd=known["subject_site"], site_sd=known["site"]
        )
        group = group_sd(known["subject"], known["residual"], subject_site_sd=known["subject_site"])
        for effect in EFFECTS:
            row = {
                "method": method,
                "roi": roi,
                "effect": effect,
                "change": sample_size(effect, same, design="change"),
            }
            several = pd.notna(sd["site"])
            row["change_across_sites"] = (
                sample_size(effect, other, design="change") if several else pd.NA
            )
            rows.append(row | {"group": sample_size(effect, group, design="groups")})
    return pd.DataFrame(rows)


def _of_one_kind(people):
    """Keep what is comparable: one reference everywhere, and at each site one protocol."""
    people, others, notes = _of_one_reference(people)
    people, more_others, more_notes = _of_one_protocol(people)
    return people, others + more_others, notes + more_notes


def _of_one_reference(people):
    """Keep the rows that share the commonest reference: values relative to different regions are
    not comparable.
    """
    if people.empty or people["reference"].nunique() == 1:
        return people, [], []
    kept = people["reference"].mode()[0]
    reason = f"relative to another region than {kept}"
    scans = scans_of(people[people["reference"] != kept]).assign(reason=reason)
    note = f"{_counted(scans)} left out of all statistics: {reason} ({_listed(scans)})"
    return people[people["reference"] == kept], [scans], [note]


def _of_one_protocol(rois, preferred=None):
    """Keep the scans of one protocol at each site: others are no repeats of these."""
    if rois.empty or "protocol" not in rois:
        return rois, [], []
    scans = scans_of(rois)
    chosen = choose_protocols(scans["site"], scans["protocol"], preferred)
    others = scans[scans["protocol"] != scans["site"].map(chosen)]
    excluded = []
    notes = []
    for (site, protocol), group in others.groupby(["site", "protocol"], sort=False):
        counted = scans[(scans["site"] == site) & (scans["protocol"] == chosen[site])]
        reason = (
            f"not of the protocol that counts at site {site}: {chosen[site]}, {_counted(counted)}"
        )
        excluded.append(group.assign(reason=reason))
        notes.append(
            f"{_counted(group)} ({protocol}) left out of all statistics: {reason} "
            f"({_listed(group)}); repeats are "
            "scans of one protocol: to compare the others, process them into another folder with "
            "--bids-filter-file"
        )
    return rois[rois["protocol"] == rois["site"].map(chosen)], excluded, notes


def _protocols_at(people):
    """The protocol that each site is told by."""
    return (
        dict(zip(people["site"], people["protocol"], strict=True)) if "protocol" in people else {}
    )


def _counted(scans):
    return f"{len(scans)} scan{'s' * (len(scans) != 1)}"


def _listed(scans):
    return ", ".join(sorted({f"sub-{subject}" for subject in scans["subject"]}))
