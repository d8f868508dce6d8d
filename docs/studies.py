"""Write docs/studies.md: both published studies, item by item, published beside measured.

    python docs/studies.py STUDY_OUT THALAMUS_OUT PATIENTS_OUT

reads the tables that the group level wrote of a simulated 2015 study (`--preset lin2015`), those of
the 2018 model of a cohort without images, and the regional values of some patients with images
(`--preset chiang2018`), whose truth is in the raw dataset. `python docs/tables.py studies` runs all
commands that this needs.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from tables import commit

from multiqsm.bids_templates import load_template
from multiqsm.dataset.tables import read_tsv
from multiqsm.pictures.drawing import readable
from multiqsm.reports.side_by_side import (
    BEFORE_AND_AFTER,
    before_and_after_texts,
    descriptive_text,
)
from multiqsm.stats.before_after import before_and_after
from multiqsm.stats.specification import ALL

DOCS = Path(__file__).parent
PPB = 1000
REGIONS = ("caudate_nucleus", "putamen", "globus_pallidus", "red_nucleus", "substantia_nigra")
PUBLISHED_AGE = {  # Pearson's r over all scans, and P
    "putamen": (".40", "< .001"),
    "globus_pallidus": (".35", "< .001"),
    "red_nucleus": (".47", "< .001"),
    "substantia_nigra": (".20", ".02"),
    "caudate_nucleus": ("none", "> .5"),
}
PUBLISHED_LINE = {"slope": ".91", "intercept": "−.04", "r_squared": "> .999"}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, metavar="STUDY_OUT")
    parser.add_argument("thalamus", type=Path, metavar="THALAMUS_OUT")
    parser.add_argument("patients", type=Path, metavar="PATIENTS_OUT")
    options = parser.parse_args()
    study = group_tables(options.study / "group")
    model = group_tables(options.thalamus / "group" / "model-thalamus")
    parts = {
        "commit": commit(),
        "scans": scan_counts(study),
        "imprecision": imprecision_table(study),
        "tests": test_table(study),
        "calibration": calibration_table(study),
        "age": age_table(study),
        "times": times_table(study),
        "references": references_table(study),
        "descriptives": descriptives_table(model),
        "table1": side_by_side(model, "table1"),
        "table2": side_by_side(model, "table2"),
        "younger": side_by_side(model, "table1", subset="50 years or younger"),
        "power": power_table(model),
        "patients": patients_table(options.patients),
    }
    template = (DOCS / "studies.template.md").read_text(encoding="utf-8")
    (DOCS / "studies.md").write_text(template.format(**parts), encoding="utf-8")


def group_tables(folder):
    """All tables of a folder, by their names."""
    return {path.stem: read_tsv(path) for path in sorted(folder.glob("*.tsv"))}


def markdown(headings, rows):
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scan_counts(study):
    rois = study["roi_chi"].drop_duplicates(["subject", "site", "scan"])
    tubes = study["tubes_chi"].drop_duplicates(["subject", "site", "scan"])
    n_people = rois["subject"].nunique()
    n_sites = rois["site"].nunique()
    return f"{n_people} people, {n_sites} sites, {len(rois)} scans, {len(tubes)} of the phantom"


def imprecision_table(study):
    published = pd.DataFrame(load_template("published")).set_index(["method", "roi"])
    measured = study["imprecision_summary"].set_index(["method", "roi"])
    rows = []
    for method in ("iterative", "deterministic"):
        for roi in REGIONS:
            ours = measured.loc[method, roi]
            theirs = published.loc[method, roi]
            cells = [method, roi.replace("_", " "), number(ours["mean"] * PPB, ".1f")]
            for kind in ("within", "cross"):
                cells.append(sd_text(ours[kind], ours[f"{kind}_percent"]))
                cells.append(sd_text(theirs[kind], theirs[f"{kind}_percent"]))
            rows.append(cells)
    headings = ["method", "region", "mean (ppb)", "within (ppb)", "published", "cross (ppb)"]
    return markdown([*headings, "published"], rows)


def sd_text(ppm, percent):
    return f"{number(ppm * PPB, '.1f')} ({number(percent, '.1f')} %)"


def test_table(study):
    rows = []
    for test in study["within_versus_cross"].itertuples():
        if test.roi in REGIONS:
            difference = number(test.mean_difference * PPB, "+.2f")
            p = number(test.p_bonferroni, ".3f")
            rows.append([test.method, test.roi.replace("_", " "), difference, p])
    return markdown(["method", "region", "cross − within (ppb)", "P, Bonferroni"], rows)


def calibration_table(study):
    rows = [["published", "all", *PUBLISHED_LINE.values()]]
    for line in study["calibration"].itertuples():
        values = (line.slope, line.intercept, line.r_squared)
        texts = [
            number(value, spec) for value, spec in zip(values, (".3f", "+.3f", ".4f"), strict=True)
        ]
        rows.append([line.method, line.site, *texts])
    return markdown(["method", "site", "slope", "intercept (ppm)", "R²"], rows)


def age_table(study):
    age = study["age"]
    lines = age[(age["method"] == "iterative") & age["roi"].isin(REGIONS)]
    rows = []
    for roi in REGIONS:
        by_analysis = lines[lines["roi"] == roi].set_index("analysis")
        naive = by_analysis.loc["naive"]
        means = by_analysis.loc["subject_means"]
        rows.append(
            [
                roi.replace("_", " "),
                number(naive["slope"] * PPB, "+.2f"),
                number(naive["r"], ".2f"),
                number(naive["p"], ".3f"),
                *PUBLISHED_AGE[roi],
                number(means["p"], ".3f"),
            ]
        )
    headings = ["region", "slope (ppb a year)", "r, all scans", "P", "published r", "published P"]
    return markdown([*headings, "P, means of subjects"], rows)


def times_table(study):
    published = pd.DataFrame(load_template("published_times")).set_index("method")
    rows = []
    for line in study["times"].itertuples():
        values = (line.wall, line.cpu, line.fft_pairs, line.wall_ratio)
        texts = [number(value, ".3g") for value in values]
        theirs = published.loc[line.method] if line.method in published.index else {}
        texts += [number(theirs.get(column), ".3g") for column in ("wall", "wall_ratio")]
        rows.append([line.method, *texts])
    headings = ["method", "wall time (s)", "CPU time (s)", "FFT pairs", "ratio to deterministic"]
    return markdown([*headings, "published (s)", "published ratio"], rows)


def references_table(study):
    rows = []
    for line in study["references"].itertuples():
        values = (line.within, line.cross, line.regions_within, line.regions_cross)
        texts = [number(value * PPB, ".2f") for value in values]
        rows.append([line.method, line.reference, *texts])
    own = ["method", "reference", "its own within (ppb)", "cross (ppb)"]
    return markdown([*own, "five regions relative to it: within (ppb)", "cross (ppb)"], rows)


def descriptives_table(model):
    published = pd.DataFrame(load_template("published_thalamus")["variables"]).set_index("column")
    table = model["descriptives"]
    rows = []
    for line in table[table["subset"] == ALL].to_dict("records"):
        if line["column"] in published.index:
            low, high = (f"{line[limit]:.4g}" for limit in ("minimum", "maximum"))
            ours = f"{line['mean']:.4g} ± {line['sd']:.3g} ({low} to {high})".replace("-", "−")
            if pd.notna(line["count"]):
                ours = f"{line['count']:.0f} of {line['n']}"
            theirs = descriptive_text(published.loc[line["column"]])
            rows.append([line["column"].replace("_", " "), ours, theirs])
    return markdown(["variable", "simulated", "published"], rows)


def side_by_side(model, node, *, subset=ALL):
    """A table of the 2018 study: coefficients before and after adjustment, ours and published."""
    published = pd.DataFrame(load_template("published_thalamus")["coefficients"])
    table = before_and_after(model[node], published)
    texts = before_and_after_texts(table[table["subset"] == subset])
    columns = [column for column in BEFORE_AND_AFTER if column.name in texts]
    columns = columns[1:] if node == "table2" else [columns[0], *columns[2:]]
    rows = []
    for line in texts.to_dict("records"):
        cells = [line[column.name] for column in columns]
        rows.append([readable_cell(cell) for cell in cells])
    return markdown([column.heading or column.name for column in columns], rows)


def readable_cell(cell):
    return number(cell, ".3f") if isinstance(cell, float) else readable(cell)


def power_table(model):
    rows = []
    for line in model["power"].itertuples():
        values = (line.correlation, line.power, line.detectable_correlation)
        rows.append([line.subset, str(line.n), *(number(value, ".3f") for value in values)])
    return markdown(["patients", "n", "correlation", "power", "detectable with 80 %"], rows)


def patients_table(folder):
    """Thalamic susceptibility and lesion volume of patients with images beside the truth."""
    raw = json.loads((folder / "dataset_description.json").read_text())["DatasetLinks"]["raw"]
    truth_dir = Path(raw.removeprefix("file://")) / "derivatives" / "truth" / "phenotype"
    truth = read_tsv(truth_dir / "thalamus.tsv").set_index("participant_id")
    rows = []
    for path in sorted(folder.glob("sub-*/**/*_desc-rois_chi.tsv")):
        subject = path.name.split("_")[0]
        values = read_tsv(path).set_index("roi")["mean"]
        measured = number(values["thalamus"] * PPB, ".1f")
        true = number(truth.loc[subject, "relative_susceptibility"], ".1f")
        rows.append([subject, measured, true])
    return markdown(["patient", "thalamus, measured (ppb)", "true (ppb)"], rows)


def number(value, spec):
    """A number as papers print it; a dash if it is missing."""
    if pd.isna(value):
        return "–"
    if spec.endswith("3f") and 0 <= value < 0.001:
        return "< .001"
    return f"{value:{spec}}".replace("-", "−")


if __name__ == "__main__":
    main()
