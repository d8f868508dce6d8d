"""The report of one subject: what was processed, what was decided, what came out, and where to look
twice.
"""

from dataclasses import replace

import pandas as pd

from ..pictures.drawing import PPB, readable
from ..pictures.regional import roi_figure
from .blocks import (
    Badge,
    Column,
    Details,
    Heading,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from .html import format_cell, render_report

SCAN_BUDGET = 480_000  # bytes that one scan's pictures take in the report
LABELS = ("session", "task", "acquisition", "ceagent", "reconstruction", "run", "chunk", "site")
LABEL_COLUMNS = tuple(Column(name) for name in LABELS)
SCAN_COLUMNS = (
    *LABEL_COLUMNS,
    Column("scanner"),
    Column("field_strength", "field (T)", ".2f"),
    Column("echo_times", "echo times (ms)", ".4g"),
    Column("voxel_size", "voxel size (mm)", ".3g"),
    Column("phase_sign", "phase sign", "+d"),
    Column("phase_sign_source", "phase sign decided by"),
    Column("phase_encoding", "phase stored as"),
    Column("mask_source", "brain mask"),
    Column("mask_volume", "brain volume (mL)", ".0f"),
    Column("roi_source", "regions from"),
)
MAP_COLUMNS = (
    *LABEL_COLUMNS,
    Column("method"),
    Column("lambda_value", "λ", ".3g"),
    Column("lambda_units", "unit of λ"),
    Column("lambda_rule", "λ chosen by"),
    Column("iterations", "iterations", "d"),
    Column("reference", "reference region"),
    Column("reference_voxels", "reference voxels", "d"),
    Column("offset", "reference mean, subtracted (ppb)", "+.1f", PPB),
    Column("reference_sd", "reference SD (ppb)", ".1f", PPB),
)
REGISTRATION_COLUMNS = (
    *LABEL_COLUMNS,
    Column("translation", "translation (mm)", ".2f"),
    Column("rotation", "rotation (°)", ".2f"),
    Column("displacement", "residual displacement (mm)", ".2f"),
    Column("correlation", "correlation with the average", ".4f"),
)

QUALITY_COLUMNS = (
    *LABEL_COLUMNS,
    Column("snr", "SNR", ".0f"),
    Column("field_se", "standard error of the field (ppb)", ".2f", PPB),
    Column("local_field_sd", "SD of the local field (ppb)", ".1f", PPB),
    Column("local_field_robust_sd", "the same, robust (ppb)", ".1f", PPB),
    Column("unresolved_voxels", "voxels not unwrapped", ".0f"),
    Column("unresolved_share", "their share (%)", ".2f", 100),
    Column("without_weight", "mask without weight (%)", ".2f", 100),
    Column("mask_volume", "mask (mL)", ".0f"),
    Column("lambda_at_bound", "λ at a bound"),
    Column("sign_asymmetry", "skewness deep in the brain", "+.2f"),
    Column("displacement", "residual displacement (mm)", ".2f"),
    Column("doubts", "not plausible"),
)
LESION_COLUMNS = (
    Column("lesion"),
    Column("volume", "volume (mL)", ".3f"),
    Column("n_voxels", "voxels", "d"),
    Column("x", "x (mm)", ".1f"),
    Column("y", "y (mm)", ".1f"),
    Column("z", "z (mm)", ".1f"),
    Column("n_seeds", "seeds", "d"),
)
MOST_LESIONS = 20  # rows of the table in the report; all are in the file


def subject_report(
    subject,
    scans,
    *,
    maps=None,
    failures=(),
    warnings=(),
    pictures=None,
    registration=None,
    registration_picture=None,
    quality=None,
    lesions=None,
    lesion_source="",
    lesion_picture=None,
    rois=None,
    region_pictures=(),
    variability_pictures=(),
    links=None,
    citation="",
    versions=None,
    sites=None,
):
    """Write the report of one subject.

    Parameters
    ----------
    subject : str
        The subject's label.
    scans : DataFrame
        One row per scan that was processed; shown are those columns of `SCAN_COLUMNS` that it has.
        ``echo_times`` and ``voxel_size`` may hold lists.
    maps : DataFrame, optional
        One row per scan and inversion, see `MAP_COLUMNS`; ``offset`` and ``reference_sd`` in ppm.
    failures : sequence of (str, str)
        Scans that failed, and why.
    warnings : sequence of str
        What the reader should look at.
    pictures : dict of str to sequence of Picture, optional
        Pictures of each scan by the scan's title. They are compressed until a scan takes less than
        half a megabyte.
    registration : DataFrame, optional
        One row per scan, see `REGISTRATION_COLUMNS`.
    registration_picture : Picture, optional
    quality : DataFrame, optional
        One row per scan, see `QUALITY_COLUMNS`.
    lesions : DataFrame, optional
        One row per lesion and the total in the end, see `LESION_COLUMNS`.
    lesion_source : str
        How the lesions were found.
    lesion_picture : Picture, optional
    rois : DataFrame, optional
        The ROI table of the subject: columns ``session``, ``run``, ``site``, ``method``, ``roi``,
        ``mean`` (ppm).
    region_pictures : sequence of Picture
        Where the regions and the reference lie.
    variability_pictures : sequence of Picture
        Maps of the voxel-wise SD over scans.
    links : dict of str to str, optional
        Relative paths of the tables as files: ``scans``, ``maps``, ``registration``, ``rois``.
    citation : str
        What was done, in words, with the papers to cite.
    versions : dict of str to str, optional
        Versions of the software.
    sites : iterable of str, optional
        All sites of the study, for their colours; else those of `rois`.

    Returns
    -------
    str
        One HTML page.

    Raises
    ------
    ValueError
        If a table lacks a column that its figure needs, a link is not relative, or a picture is
        none.
    """
    links = links or {}
    versions = versions or {}
    failures = list(failures)
    warnings = list(warnings)
    report = [
        Section("Summary", _summary(scans, maps, failures, warnings, links)),
        Section("Regions", _regions(subject, rois, region_pictures, links, sites)),
        Section("Lesions", _lesions(lesions, lesion_source, lesion_picture)),
        Section("Image quality", _quality(quality)),
        Section("Registration", _registration(registration, registration_picture, links)),
        Section("Variability", _variability(variability_pictures)),
        Section("Scans", _scan_pictures(pictures or {})),
        Section("Methods", methods_blocks(citation, versions)),
    ]
    badges = [
        Badge(str(len(scans)), "scan processed" if len(scans) == 1 else "scans processed"),
        Badge(str(_n_sites(scans)), "site" if _n_sites(scans) == 1 else "sites"),
        Badge(str(len(failures)), "failed", "error" if failures else ""),
        Badge(
            str(len(warnings)),
            "warning" if len(warnings) == 1 else "warnings",
            "warning" if warnings else "",
        ),
    ]
    return render_report(
        f"Subject {subject}",
        report,
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=_made_by(versions),
    )


def methods_blocks(citation, versions):
    """Blocks with the text to cite and the versions of the software.

    Parameters
    ----------
    citation : str
        Markdown with one heading, paragraph or reference per line, such as ``logs/CITATION.md``.
    versions : dict of str to str

    Returns
    -------
    tuple
    """
    lines = [line.strip() for line in citation.splitlines()]
    # the section's own title
    blocks = [_markdown(line) for line in lines if line and line != "# Methods"]
    if versions:
        blocks.append(KeyValues(versions, "Software"))
    return tuple(blocks)


def _markdown(line):
    return Heading(line.lstrip("#").strip()) if line.startswith("#") else Paragraph(line)


def _summary(scans, maps, failures, warnings, links):
    blocks = []
    if failures:
        blocks.append(
            Warnings(
                tuple(f"{scan}: {cause}" for scan, cause in failures), "Scans that failed", "error"
            )
        )
    if warnings:
        blocks.append(Warnings(tuple(warnings)))
    if not failures and not warnings:
        blocks.append(
            Warnings(("Every scan was processed, without warnings.",), "All well", "info")
        )
    if not scans.empty:
        blocks.extend(
            _shared_and_own(
                scans, "Scans and what was decided for them", SCAN_COLUMNS, links.get("scans")
            )
        )
    if maps is not None:
        blocks.append(
            Paragraph(
                "An inversion leaves a constant open: the mean of the reference region is "
                "subtracted, "
                "so that susceptibility is relative to it.",
                note=True,
            )
        )
        blocks.extend(_shared_and_own(maps, "Susceptibility maps", MAP_COLUMNS, links.get("maps")))
    return tuple(blocks)


def _regions(subject, rois, pictures, links, sites):
    if rois is None or rois.empty:
        return tuple(pictures)
    rois = rois.assign(subject=subject)
    blocks = [
        Paragraph(
            "Each point is one scan; the scans of a site stand in their order, "
            "so that drifts show.",
            note=True,
        ),
        Picture(
            roi_figure(rois, sites=sites),
            "Mean susceptibility of each region in every scan, by site.",
            f"Strip plot of regional susceptibility of subject {subject}",
        ),
    ]
    for method, table in rois.groupby("method", sort=False):
        blocks.append(_scans_by_rois(method, table, links.get("rois")))
    return (*blocks, *pictures)


def _scans_by_rois(method, table, link):
    labels = [name for name in LABELS if name in table.columns and not _empty(table[name])]
    names = list(pd.unique(table["roi"]))
    wide = table.assign(**{name: table[name].fillna("") for name in labels})
    wide = wide.pivot_table(index=labels, columns="roi", values="mean", sort=True, dropna=False)
    wide = wide.dropna(how="all")[names] if labels else wide[names]
    footer = pd.DataFrame([wide.mean(), wide.std(ddof=1)]).assign(**dict.fromkeys(labels[1:], ""))
    footer[labels[0]] = ["mean", "SD"]
    columns = [Column(name) for name in labels] + [
        Column(roi, readable(roi), ".1f", PPB) for roi in names
    ]
    return Table(
        wide.reset_index(),
        f"Mean susceptibility (ppb), {readable(method)}",
        tuple(columns),
        link,
        footer,
    )


def _lesions(table, source, picture):
    if table is None:
        return ()
    total = table.iloc[-1]
    rows = table.iloc[:-1]
    items = {"lesions": str(len(rows)), "volume (mL)": f"{total['volume']:.3f}"}
    blocks = [KeyValues(items, "T2 lesions"), Paragraph(source, note=True)]
    if len(rows):
        few = f", the {MOST_LESIONS} largest" if len(rows) > MOST_LESIONS else ""
        blocks.append(Table(rows.head(MOST_LESIONS), f"Lesions{few}", LESION_COLUMNS))
    return (*blocks, *([picture] if picture is not None else []))


def _quality(table):
    if table is None:
        return ()
    note = Paragraph(
        "No scan is left out for these; the group level does that when it is asked to.", note=True
    )
    return (note, *_shared_and_own(table, "Quality of the scans", QUALITY_COLUMNS, None))


def _registration(table, picture, links):
    blocks = []
    if table is not None and len(table) == 1 and table["translation"].isna().all():
        blocks.append(Paragraph("There is a single scan: nothing was registered.", note=True))
    elif table is not None and not table.empty:
        blocks.append(
            Paragraph(
                "Residual displacement is how far the scans' registrations to one another "
                "disagree: "
                "well below a voxel is good.",
                note=True,
            )
        )
        blocks.append(
            Table(
                _without_empty(table),
                "Motion of each scan to the average",
                REGISTRATION_COLUMNS,
                links.get("registration"),
            )
        )
    if picture is not None:
        blocks.append(replace(picture, budget=SCAN_BUDGET))
    return tuple(blocks)


def _variability(pictures):
    if not pictures:
        return ()
    note = Paragraph(
        "Standard deviation of susceptibility over the registered scans, voxel by voxel.", note=True
    )
    return (note, *(replace(picture, budget=SCAN_BUDGET // len(pictures)) for picture in pictures))


def _scan_pictures(pictures):
    blocks = []
    for title, shown in pictures.items():
        budget = SCAN_BUDGET // max(len(shown), 1)
        small = tuple(
            replace(picture, budget=min(budget, picture.budget), wide=False) for picture in shown
        )
        blocks.append(Details(title, small, open=not blocks))
    return tuple(blocks)


def _shared_and_own(table, caption, columns, link):
    """What all scans share is said once, what differs stands in the table."""
    shown = [
        column
        for column in columns
        if column.name in table and column.name not in (*LABELS, "method")
    ]
    texts = {
        column: {format_cell(value, column) for value in table[column.name]} for column in shown
    }
    shared = {
        column: min(text) for column, text in texts.items() if len(text) == 1 and len(table) > 1
    }
    items = {c.heading or c.name: text for c, text in shared.items()}
    if len(shared) == len(shown) and shown:
        return [KeyValues({"scans": _scan_names(table), **items}, caption)]
    own = _without_empty(table.drop(columns=[column.name for column in shared]))
    if not shared:
        return [Table(own, caption, columns, link)]
    return [
        KeyValues(items, f"{caption}: the same for all"),
        Table(own, f"{caption}: what differs", columns, link),
    ]


def _scan_names(table):
    labels = [name for name in LABELS if name in table and not _empty(table[name])]
    names = table[labels].drop_duplicates().fillna("").astype(str)
    return "; ".join(
        " ".join(f"{name} {label}" for name, label in row.items() if label)
        for row in names.to_dict("records")
    )


def _without_empty(table):
    return table[[name for name in table.columns if name not in LABELS or not _empty(table[name])]]


def _empty(labels):
    return labels.isna().all() or set(labels.dropna()) <= {"n/a", ""}


def _n_sites(scans):
    return scans["site"].nunique() if "site" in scans else min(len(scans), 1)


def _made_by(versions):
    return ", ".join(f"{name} {version}" for name, version in list(versions.items())[:1])
