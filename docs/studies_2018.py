"""Tables of docs/studies.md on the 2018 study: published beside those of a simulated cohort."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from page_tables import PPB, markdown, number, p_text, raw_dataset, without_zeros
from studies_2015 import protocol_text

from multiqsm.bids_templates import load_template
from multiqsm.dataset.simulated.layout import TRUTH
from multiqsm.dataset.tables import read_tsv
from multiqsm.pictures.drawing import readable
from multiqsm.reports.side_by_side import (
    BEFORE_AND_AFTER,
    as_published,
    before_and_after_texts,
    descriptive_text,
    interval_text,
    of_width,
)
from multiqsm.simulation.scanners import PATIENT_PROTOCOL
from multiqsm.simulation.structural import FLAIR, T1W
from multiqsm.stats.before_after import before_and_after
from multiqsm.stats.specification import ALL

LESIONS = "log_t2_lesion_volume"
NAMES = {
    "edss": "EDSS",
    "t2_lesion_volume": "T2 lesion volume",
    "log_t2_lesion_volume": "log T2 lesion volume",
}
UNITS = {
    "age": "years",
    "disease_duration": "years",
    "relative_susceptibility": "ppb",
    "t2_lesion_volume": "mL",
    "thalamic_volume": "mL",
    "grey_matter_volume": "mL",
    "cortical_thickness": "mm",
}
DIFFER = {"t2_lesion_volume": "log"}  # what the study transformed

Tables = Mapping[str, pd.DataFrame]


def thalamus_parts(model: Tables, patients: Path) -> dict[str, str]:
    """Write the parts of the page on the 2018 study.

    Parameters
    ----------
    model : dict of str to DataFrame
        Tables of the model of the cohort, by the names of their files.
    patients : Path
        Derivative dataset of patients with images.

    Returns
    -------
    dict of str to str
        By their names in the template.
    """
    return {
        "inclusion": _inclusion(model),
        "patient_protocol": protocol_text(PATIENT_PROTOCOL),
        "flair_voxels": _voxels(FLAIR),
        "t1w_voxels": _voxels(T1W),
        "descriptives": _descriptives(model),
        "table1": _side_by_side(model, "table1"),
        "table2": _side_by_side(model, "table2"),
        "n_table1": _counts(model["table1"]),
        "n_table2": _counts(model["table2"]),
        "covariates": _covariates(model),
        "younger": _side_by_side(model, "table1", subset="50 years or younger"),
        "n_younger": _counts(model["table1"], subset="50 years or younger"),
        "ladder": _ladder(model),
        "power": _power(model),
        "patients": _patients(patients),
    }


def _voxels(sequence):
    return "×".join(f"{length:g}" for length in sequence.voxel_size)


def _inclusion(model):
    """Compare how many patients there were, left out and analysed."""
    left_out = model["excluded"]
    left_out = left_out[left_out["left_out"].astype(str) == "True"].drop_duplicates("participant")
    n = len(model["patients"])
    reasons = "; ".join(sorted(set(left_out["what"]))) or "none to leave out"
    return markdown(
        ["", "published", "simulated"],
        [
            ["patients", "100", str(n + len(left_out))],
            ["excluded", "5, poor image quality", f"{len(left_out)}, {reasons}"],
            ["analysed", "95", str(n)],
        ],
    )


def _descriptives(model):
    published = load_template("published_thalamus")["variables"]
    ours = model["descriptives"].query("subset == @ALL").set_index("column")
    rows = []
    for theirs in pd.DataFrame(published).to_dict("records"):
        column = theirs["column"]
        text = "not simulated"
        if column in ours.index:
            text = _descriptive(ours.loc[column], theirs)
        published_text = without_zeros(descriptive_text(pd.Series(theirs)))
        unit = f" ({UNITS[column]})" if column in UNITS else ""
        rows.append([_name(column) + unit, text, published_text])
    men = ours.loc["sex.M"]
    women = f"{men['n'] - men['count']:.0f} of {men['n']:.0f}"
    rows.insert(1, ["women", women, "two thirds"])
    return markdown(["variable", "simulated", "published"], rows)


def _name(column):
    return NAMES.get(column, readable(column))


def _descriptive(line, published):
    """Write mean, SD and range of a variable with the published decimals, or the number of patients
    who have it.
    """
    if pd.notna(line["count"]):
        return f"{line['count']:.0f} of {line['n']:.0f}"
    texts = []
    for pair in (("mean", "sd"), ("minimum", "maximum")):
        decimals = as_published(*(published[f"published_{part}"] for part in pair))
        texts += [number(line[part], f".{decimals}f") for part in pair]
    mean, sd, low, high = texts
    return f"{mean} ± {sd} ({low} to {high})"


def _side_by_side(model, node, *, subset=ALL):
    """Write a table of coefficients before and after adjustment, ours and published."""
    published = pd.DataFrame(load_template("published_thalamus")["coefficients"])
    table = before_and_after(model[node], published)
    texts = before_and_after_texts(table[table["subset"] == subset])
    columns = [column for column in BEFORE_AND_AFTER if column.name in texts]
    columns = columns[1:] if node == "table2" else [columns[0], *columns[2:]]
    rows = []
    for line in texts.to_dict("records"):
        rows.append([_cell(line[column.name]) for column in columns])
    return markdown([column.heading or column.name for column in columns], rows)


def _cell(value):
    return p_text(value) if isinstance(value, float) else without_zeros(_name(value))


def _counts(table, *, subset=ALL):
    """Write the numbers of patients of the regressions of a table."""
    numbers = table.loc[table["subset"] == subset, "n"]
    return " to ".join(f"{n:.0f}" for n in sorted({numbers.min(), numbers.max()}))


def _covariates(model):
    """Write the covariates' coefficients in the regression of lesion volume, and published P."""
    published = pd.DataFrame(load_template("published_thalamus")["covariates"])
    published = published.set_index("term")["published_p"]
    lines = model["covariates"].query("subset == @ALL and outcome == @LESIONS")
    rows = []
    for line in lines.itertuples():
        ends = (line.coefficient, line.ci_low, line.ci_high)
        interval = without_zeros(interval_text(*ends, of_width(*ends)))
        texts = [interval, p_text(line.p), published[line.term]]
        rows.append([readable(line.term), *texts, f"{line.n:.0f}"])
    headings = ["covariate", "coefficient (95 % CI)", "P", "published P", "n"]
    return markdown(headings, rows)


def _ladder(model):
    """Write the power that makes each variable most normal, and what the model uses."""
    rows = []
    for column, rungs in model["ladder"].groupby("column", sort=False):
        chosen = rungs[rungs["chosen"].astype(str) == "True"].iloc[0]
        identity = rungs[rungs["power"] == 1].iloc[0]
        cells = [_name(column), chosen["formula"], number(chosen["chi2"], ".2f")]
        cells += [p_text(chosen["p"]), number(identity["chi2"], ".2f"), p_text(identity["p"])]
        rows.append([*cells, DIFFER.get(column, "none")])
    headings = ["variable", "most normal", "χ²", "P", "χ² untransformed", "P"]
    return markdown([*headings, "transformed in the study"], rows)


def _power(model):
    rows = []
    for line in model["power"].itertuples():
        values = (line.correlation, line.power, line.detectable_correlation)
        rows.append([line.subset, str(line.n), *(number(value, ".3f") for value in values)])
    headings = ["patients", "n", "correlation", "power", "detectable with 80 %"]
    return markdown(headings, rows)


def _patients(folder):
    """Compare thalamic susceptibility and lesion volume of patients with images with the truth."""
    truth = raw_dataset(folder) / TRUTH
    phenotype = read_tsv(truth / "phenotype" / "thalamus.tsv").set_index("participant_id")
    rows = []
    for path in sorted(folder.glob("sub-*/**/*_desc-rois_chi.tsv")):
        subject = path.name.split("_")[0]
        chi = PPB * read_tsv(path).set_index("roi").loc["thalamus", "mean"]
        true_chi = phenotype.loc[subject, "relative_susceptibility"]
        lesions = read_tsv(_one_file(folder / subject, "*_desc-lesions_stats.tsv"))
        volume = lesions.set_index("lesion").loc["total", "volume"]
        sidecar = _one_file(truth / subject, "*_desc-lesions_mask.json")
        true_volume = json.loads(sidecar.read_text())["Volume"]
        values = [number(chi, ".1f"), number(true_chi, ".1f"), number(chi - true_chi, "+.1f")]
        values += [number(volume, ".2f"), number(true_volume, ".2f")]
        rows.append([subject, *values, number(100 * (volume / true_volume - 1), "+.1f") + " %"])
    headings = ["patient", "thalamus (ppb)", "true", "error", "lesions (mL)", "true", "error"]
    return markdown(headings, rows)


def _one_file(folder, pattern):
    """Return the only file below a folder whose name matches."""
    (path,) = folder.rglob(pattern)
    return path
