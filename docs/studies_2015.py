"""Tables of docs/studies.md on the 2015 study: published beside those of a simulated study."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pandas as pd
from page_tables import PPB, in_words, markdown, mean_sd, number, p_text, paragraph
from studies_remarks import (
    age_remark,
    bias_remark,
    calibration_remark,
    references_remark,
    region_tests_remark,
    tests_remark,
    times_remark,
)
from studies_truth import correlations_with_age, true_means

from multiqsm.bids_templates import load_template
from multiqsm.dataset.tables import read_tsv
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.scanners import HEAD_PROTOCOL, PHANTOM_PROTOCOL, SCANNERS
from multiqsm.simulation.study import PHANTOM_LABEL
from multiqsm.stats.families import DEEP_GREY

METHODS = ("iterative", "deterministic")
IMPRECISIONS = ("within", "cross")
# Regions near the skull base, and those that the study found to be more precise.
NEAR_SKULL_BASE = ("red_nucleus", "substantia_nigra")
FAR_FROM_IT = ("putamen", "globus_pallidus")

Tables = Mapping[str, pd.DataFrame]


def study_parts(study: Tables, folder: Path) -> dict[str, str]:
    """Write the parts of the page on the 2015 study.

    Parameters
    ----------
    study : dict of str to DataFrame
        Tables of the group level, by the names of their files.
    folder : Path
        The derivative dataset.

    Returns
    -------
    dict of str to str
        By their names in the template.
    """
    snr = _measured_snr(folder)
    people = study["roi_chi"].drop_duplicates("subject").set_index("subject")
    truth = true_means(folder, people.index)
    means = _means(study, truth)
    true_r = correlations_with_age(truth, people["age"])
    published_age = pd.DataFrame(load_template("published_age")).set_index("roi")
    age = study["age"].query("method == 'iterative'").set_index(["analysis", "roi"])
    region_tests = _region_tests(study)
    return {
        "scans": _scan_counts(study),
        "values": _values(study),
        "people": _people(study),
        "scanners": _scanners(snr),
        "snr_note": paragraph(_snr_note(snr)),
        "head_protocol": protocol_text(HEAD_PROTOCOL),
        "phantom_protocol": protocol_text(PHANTOM_PROTOCOL),
        "imprecision": _imprecision(study),
        "truth": _truth(means),
        "bias_remark": bias_remark(means),
        "tests": _tests(study),
        "tests_remark": tests_remark(study["within_versus_cross"]),
        "region_tests": _region_table(region_tests),
        "region_tests_remark": region_tests_remark(region_tests),
        "calibration": _calibration(study),
        "calibration_remark": calibration_remark(study["calibration"]),
        "age": _age(age, published_age, true_r),
        "age_remark": age_remark(age.loc["naive"], published_age, true_r),
        "times": _times(study),
        "times_remark": times_remark(study["times"]),
        "references": _references(study),
        "references_remark": references_remark(study["references"]),
    }


def protocol_text(protocol: Protocol) -> str:
    """Write matrix, voxel size, times and flip angle of a sequence.

    Parameters
    ----------
    protocol : Protocol
        The sequence.

    Returns
    -------
    str
    """
    shape = "×".join(map(str, protocol.shape))
    size = "×".join(f"{length:g}" for length in protocol.voxel_size)
    times = ", ".join(f"{1000 * time:g}" for time in protocol.echo_times)
    return (
        f"{shape}, {size} mm, TR {1000 * protocol.repetition_time:g} ms, TE {times} ms, flip angle "
        f"{protocol.flip_angle:g}°"
    )


def _scan_counts(study):
    rois, tubes = _scans(study["roi_chi"]), _scans(study["tubes_chi"])
    return (
        f"{rois['subject'].nunique()} people, {rois['site'].nunique()} sites, {len(rois)} scans, "
        f"{len(tubes)} of the phantom"
    )


def _values(study):
    """Say which values are calibrated."""
    rois = study["roi_chi"]
    if "calibrated" not in rois:
        return "as measured, since no line of the phantom was accepted ([below](#phantom))"
    methods = rois.loc[rois["calibrated"].astype(str) == "True", "method"].unique()
    return f"calibrated by the phantom ({', '.join(methods)})"


def _scans(table):
    return table.drop_duplicates(["subject", "site", "scan"])


def _people(study):
    scans = _scans(study["roi_chi"])
    people = scans.drop_duplicates("subject")
    n_men = (people["sex"] == "M").sum()
    n_of_session = scans.groupby(["subject", "site"]).size()
    n_of_phantom = _scans(study["tubes_chi"]).groupby("site").size()
    return markdown(
        ["", "published", "simulated here"],
        [
            ["people", "9 (7 men)", f"{len(people)} ({n_men} men)"],
            ["age (years)", "28 ± 5 (23 to 37)", mean_sd(people["age"], ".0f")],
            ["scanners", "3", str(scans["site"].nunique())],
            ["scans of a person at each scanner", "5", _counts(n_of_session)],
            ["scans of people", "135", str(len(scans))],
            ["scans of the phantom at each scanner", "not stated", _counts(n_of_phantom)],
        ],
    )


def _counts(numbers):
    return " to ".join(map(str, sorted({numbers.min(), numbers.max()})))


def _measured_snr(folder):
    """Read the mean SNR of the first echo at each site, without the phantom's scans.

    Empty for scans that were processed before tables on image quality had it.
    """
    paths = sorted(folder.glob("sub-*/**/*_desc-quality_stats.tsv"))
    people = [path for path in paths if not path.name.startswith(f"sub-{PHANTOM_LABEL}_")]
    quality = pd.concat([read_tsv(path) for path in people], ignore_index=True)
    if "snr_first_echo" not in quality:
        return pd.Series(dtype=float)
    return quality.groupby("site")["snr_first_echo"].mean()


def _snr_note(snr):
    if snr.empty:
        return (
            "The simulated SNR is set. The measured one is missing: these scans were processed "
            "before the measured SNR of the first echo was recorded."
        )
    return "The simulated SNR is set; the measured one is that of the report on image quality."


def _scanners(snr):
    """Compare scanners, with the SNR that was measured in the images."""
    published = pd.DataFrame(load_template("published_scanners")).set_index("site")
    rows = []
    for scanner in SCANNERS:
        theirs = published.loc[scanner.site]
        ours = f"{scanner.manufacturer} {scanner.model}, {scanner.channels} channels"
        measured = number(snr.get(scanner.site), ".0f")
        cells = [theirs["scanner"], str(theirs["snr"]), ours, f"{scanner.snr:.0f}", measured]
        rows.append([scanner.site, *cells])
    headings = ["site", "published", "SNR, first echo", "simulated", "SNR, first echo"]
    return markdown([*headings, "SNR measured, first echo"], rows)


def _imprecision(study):
    published = pd.DataFrame(load_template("published")).set_index(["method", "roi"])
    measured = study["imprecision_summary"].set_index(["method", "roi"])
    rows = []
    for method, roi in product(METHODS, DEEP_GREY):
        ours = measured.loc[(method, roi)]
        theirs = published.loc[(method, roi)]
        implied = 100 * theirs["within"] / theirs["within_percent"]
        cells = [method, in_words(roi), f"{ours['n_subjects']:.0f}"]
        cells += [number(mean * PPB, ".0f") for mean in (ours["mean"], implied)]
        for kind in IMPRECISIONS:
            cells.append(_sd_text(ours[kind], ours[f"{kind}_percent"]))
            cells.append(_sd_text(theirs[kind], theirs[f"{kind}_percent"]))
        rows.append(cells)
    headings = ["method", "region", "people", "χ (ppb)", "implied by the published"]
    headings += ["within (ppb)", "published", "cross (ppb)", "published"]
    return markdown(headings, rows)


def _means(study, truth):
    """Put the true mean of each region beside the measured and the published ones (ppm)."""
    published = pd.DataFrame(load_template("published")).set_index(["method", "roi"])
    measured = study["imprecision_summary"].set_index(["method", "roi"])["mean"]
    implied = 100 * published["within"] / published["within_percent"]
    means = pd.DataFrame({"true": truth.mean()})
    for method in METHODS:
        means[method] = measured[method]
        means[f"published_{method}"] = implied[method]
    return means


def _truth(means):
    rows = []
    for roi, line in means.iterrows():
        cells = [in_words(roi), number(line["true"] * PPB, ".0f")]
        for method in METHODS:
            error = number(100 * (line[method] / line["true"] - 1), "+.0f")
            cells += [number(line[method] * PPB, ".0f"), f"{error} %"]
            cells.append(number(line[f"published_{method}"] * PPB, ".0f"))
        rows.append(cells)
    headings = ["region", "true (ppb)"]
    for method in METHODS:
        headings += [f"{method} (ppb)", "error", "implied by the published"]
    return markdown(headings, rows)


def _sd_text(ppm, percent):
    return f"{number(ppm * PPB, '.1f')} ({number(percent, '.1f')} %)"


def _tests(study):
    rows = []
    for test in study["within_versus_cross"].itertuples():
        if test.roi in DEEP_GREY:
            difference = number(test.mean_difference * PPB, "+.2f")
            names = [test.method, in_words(test.roi), str(test.n_subjects)]
            rows.append(
                [*names, difference, p_text(test.p), p_text(test.p_bonferroni), "not significant"]
            )
    headings = ["method", "region", "n", "cross − within (ppb)", "P", "P, Bonferroni"]
    return markdown([*headings, "published P"], rows)


def _region_tests(study):
    """Compare the two regions near the skull base with the two that are more precise.

    Differences are positive where those near the skull base are less precise.
    """
    keys = ["method", "measure", "roi_1", "roi_2"]
    table = study["between_rois"].set_index(keys)
    tests = []
    for method, measure in product(METHODS, IMPRECISIONS):
        for near, far in product(NEAR_SKULL_BASE, FAR_FROM_IT):
            sign = 1
            key = (method, measure, near, far)
            if key not in table.index:
                sign = -1
                key = (method, measure, far, near)
            test = table.loc[key]
            tests.append(
                {
                    "method": method,
                    "imprecision": f"{measure}-site",
                    "regions": f"{in_words(near)} − {in_words(far)}",
                    "n": test["n_subjects"],
                    "difference": sign * test["mean_difference"],
                    "p": test["p"],
                    "p_bonferroni": test["p_bonferroni"],
                    "significant": str(test["significant"]) == "True",
                }
            )
    return pd.DataFrame(tests)


def _region_table(tests):
    rows = []
    for test in tests.itertuples():
        difference = number(test.difference * PPB, "+.2f")
        names = [test.method, test.imprecision, test.regions, str(test.n)]
        rows.append([*names, difference, p_text(test.p), p_text(test.p_bonferroni)])
    headings = ["method", "imprecision", "regions", "n", "difference (ppb)", "P", "P, Bonferroni"]
    return markdown(headings, rows)


def _calibration(study):
    published = pd.DataFrame(load_template("published_calibration")).set_index("site").loc["all"]
    line = [published[column] for column in ("slope", "intercept", "r_squared")]
    rows = [["published", "all", "6", *line]]
    for fit in study["calibration"].itertuples():
        slope = number(fit.slope, ".3f")
        line = [slope, number(fit.intercept, "+.4f"), number(fit.r_squared, ".4f")]
        rows.append([fit.method, fit.site, str(fit.n_tubes), *line])
    return markdown(["method", "site", "tubes", "slope", "intercept (ppm)", "R²"], rows)


def _age(lines, published, true_r):
    rows = []
    for roi in DEEP_GREY:
        naive = lines.loc[("naive", roi)]
        means = lines.loc[("subject_means", roi)]
        theirs = published.loc[roi]
        rows.append(
            [
                in_words(roi),
                number(naive["slope"] * PPB, "+.2f"),
                number(naive["r"], "+.2f"),
                number(true_r[roi], "+.2f"),
                theirs["r"],
                p_text(naive["p"]),
                theirs["p"],
                p_text(naive["p_bonferroni"]),
                p_text(means["p"]),
                p_text(means["p_bonferroni"]),
            ]
        )
    headings = ["region", "slope (ppb a year)", "r, all scans", "r, true values"]
    headings += ["published r", "P", "published P", "P, Bonferroni"]
    return markdown([*headings, "P, means of people", "P, Bonferroni"], rows)


def _times(study):
    published = pd.DataFrame(load_template("published_times")).set_index("method")
    rows = []
    for line in study["times"].itertuples():
        values = (line.wall, line.cpu, line.fft_pairs, line.wall_ratio, line.cpu_ratio)
        texts = [number(value, "#.3g").removesuffix(".") for value in values]
        theirs = published.loc[line.method] if line.method in published.index else {}
        texts += [number(theirs.get(column), ".3g") for column in ("wall", "wall_ratio")]
        rows.append([line.method, str(line.n_scans), *texts])
    headings = ["method", "scans", "time (s)", "CPU time (s)", "FFT pairs"]
    ratios = ["ratio to deterministic", "of CPU times", "published (s)", "published ratio"]
    return markdown([*headings, *ratios], rows)


def _references(study):
    rows = []
    for line in study["references"].itertuples():
        values = (line.within, line.cross, line.regions_within, line.regions_cross)
        texts = [number(value * PPB, ".2f") for value in values]
        rows.append([line.method, line.reference, str(line.n_subjects), *texts])
    own = ["method", "reference", "people", "its own within (ppb)", "cross (ppb)"]
    return markdown([*own, "five regions relative to it: within (ppb)", "cross (ppb)"], rows)
