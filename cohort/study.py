"""The values of a study and all their statistics, for the group level and for its dry run."""

from dataclasses import dataclass, field

import pandas as pd

from ..bids_templates import load_template
from ..dataset.files import PathLike
from ..dataset.tables import stacked_tables
from ..stats.calibration import calibration_refusals
from ..stats.nuclei import nuclei_table
from ..stats.relaxation import r2star_tables
from ..stats.study import study_tables
from ..stats.times import computation_times
from .included import excluded_scans, exclusion_notes, study_exclusions
from .roi_tables import add_participants, add_protocols, read_r2star_tables, read_roi_tables
from .sites import session_site_notes
from .times import collect_times


@dataclass(frozen=True)
class StudyValues:
    """The regional values of all scans that count.

    Attributes
    ----------
    rois, r2star : pandas.DataFrame
        Long tables of susceptibility and of R2*, with protocols, age and sex.
    excluded : pandas.DataFrame
        The scans that the study excludes, see `multiqsm.cohort.included.excluded_scans`.
    notes : tuple of str
        Remarks for the reader.
    """

    rois: pd.DataFrame
    r2star: pd.DataFrame
    excluded: pd.DataFrame
    notes: tuple[str, ...]


@dataclass
class StudyResults:
    """The tables of a study.

    Attributes
    ----------
    tables : dict of str to pandas.DataFrame
        By name, see `multiqsm.stats.study.study_tables`.
    notes : list of str
        Scans left out, and statistics that could not be computed.
    calibration_refusals : dict of str to str
        Why values stay as measured although they should be calibrated, by inversion.
    """

    tables: dict[str, pd.DataFrame]
    notes: list[str]
    calibration_refusals: dict[str, str] = field(default_factory=dict)


def collect_values(
    bids_dir: PathLike, output_dir: PathLike, exclude: PathLike | None = None
) -> StudyValues:
    """Read the regional values of all scans that are not excluded.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset.
    exclude : path-like, optional
        The file of ``--exclude``.

    Returns
    -------
    StudyValues

    Raises
    ------
    DatasetError
        If there are no values, or a table that all scans need cannot be read.
    """
    exclusions = study_exclusions(bids_dir, output_dir, exclude)
    excluded, excluded_problems = excluded_scans(output_dir, exclusions)
    rois, protocol_notes = add_protocols(read_roi_tables(output_dir, exclusions))
    rois, participant_notes = add_participants(rois, bids_dir)
    r2star, r2star_notes = read_r2star_tables(output_dir, rois, exclusions)
    notes = exclusion_notes(exclusions, excluded_problems)
    notes += session_site_notes(output_dir, rois)
    notes += [*protocol_notes, *participant_notes, *r2star_notes]
    return StudyValues(rois, r2star, excluded, tuple(notes))


def study_results(
    rois: pd.DataFrame,
    r2star: pd.DataFrame,
    *,
    calibrate: str = "no",
    equivalence_margin: float | None = None,
    excluded: pd.DataFrame | None = None,
) -> StudyResults:
    """Compute the tables of a study, apart from that of computation times.

    Parameters
    ----------
    rois, r2star : pandas.DataFrame
        As of `StudyValues`.
    calibrate : {'no', 'yes', 'if possible'}
        Whether people's values are corrected by the phantom scans of their site.
    equivalence_margin : float, optional
        Margin of the tests of equivalence, ppb; by default the published imprecision of each
        region.
    excluded : pandas.DataFrame, optional
        The scans that the study excludes.

    Returns
    -------
    StudyResults

    Raises
    ------
    ValueError
        If `calibrate` is 'yes', and no inversion can be calibrated; if columns are missing.
    """
    margins = _published_imprecision() if equivalence_margin is None else equivalence_margin / 1000
    tables, notes = _study_tables(rois, calibrate, margins)
    tables_of_r2star, r2star_notes = r2star_tables(r2star, tables["rois"], tables["tubes"])
    tables |= tables_of_r2star
    if excluded is not None:
        excluded = stacked_tables(excluded, tables.pop("excluded", excluded[:0]))
        tables |= {"excluded": excluded} if len(excluded) else {}
    nuclei = nuclei_table(tables)
    if not nuclei.empty:
        tables["nuclei"] = nuclei
    results = StudyResults(tables, [*notes, *r2star_notes])
    if calibrate != "no" and "calibration" in tables:
        as_measured = tables["rois"].drop(columns="calibrated", errors="ignore")
        results.calibration_refusals = calibration_refusals(as_measured, tables["calibration"])
    return results


def times_tables(
    output_dir: PathLike, rois: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Average the computation times of the scans in a table.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    rois : pandas.DataFrame
        Long table of regional values: of people, or of phantoms if there are no people.

    Returns
    -------
    tables : dict of str to pandas.DataFrame
        ``times``; empty if no time is known.
    notes : list of str
        Which times are missing, and which files are damaged.
    """
    times, notes = collect_times(output_dir, rois)
    return ({} if times.empty else {"times": computation_times(times)}), notes


def _study_tables(rois, calibrate, margins):
    """Compute the tables of susceptibility; return them with the remarks."""
    if calibrate == "no":
        return study_tables(rois, equivalence_margins=margins)
    try:
        return study_tables(rois, calibrated=True, equivalence_margins=margins)
    except ValueError as reason:
        if calibrate == "yes":
            raise
        tables, notes = study_tables(rois, equivalence_margins=margins)
        return tables, [*notes, f"values are not calibrated: {reason}"]


def _published_imprecision():
    """Return the imprecision within a site, ppm, of each region in the 2015 study (iterative)."""
    published = pd.DataFrame(load_template("published"))
    iterative = published[published["method"] == "iterative"]
    return dict(zip(iterative["roi"], iterative["within"], strict=True))
