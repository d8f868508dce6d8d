"""How often the 95 % confidence intervals of the study of the thalamus hold the true coefficients.

python benchmarks/coverage.py [--seeds N]

For each seed the tables of 100 patients are simulated and written as multiqsm-simulate does, read
as the group level does, and put through the model that ships with the package, which leaves out
five with poor images. Printed is a Markdown table.

The truth of a coefficient is that of the least-squares line through the population, which is what
the regression estimates: ordinary least squares through many patients whose outcomes have no
residual. It is the design's own coefficient, but where the design is no line (lesion volumes are
limited to the published range, which flattens their logarithm's slopes) or a variable that matters
is left out (disease duration before adjustment takes a part of age's).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy import stats

from multiqsm.cohort.model_files import read_model
from multiqsm.cohort.patients import collect_patients
from multiqsm.dataset.simulated.cohort import write_cohort
from multiqsm.dataset.simulated.layout import TRUTH
from multiqsm.simulation.cohort import draw_patients, population
from multiqsm.simulation.study import make_patient_design
from multiqsm.stats.model import run_model

MODEL = replace(read_model("thalamus"), subsets=())
REGRESSION = ["outcome", "predictor", "adjusted"]
# patients of the truth, which chance then moves by some hundredths of a confidence interval
POPULATION = 20_000
POPULATION_SEED = 10**6


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200)
    options = parser.parse_args()
    print_coverage(coverage(estimates(range(options.seeds)), true_coefficients()))


def estimates(seeds):
    """Coefficients of the model in the cohort of each seed."""
    return pd.concat([_of_cohort(seed) for seed in seeds], ignore_index=True)


def _of_cohort(seed):
    patients = draw_patients(seed=seed)
    design = make_patient_design(patients, voxel_size=None, flow_phase=0.0, seed=seed)
    with TemporaryDirectory() as folder:
        write_cohort(folder, patients, design)
        phenotype = [Path(folder) / TRUTH / "phenotype" / "thalamus.tsv"]
        patients = collect_patients(folder, Path(folder) / "none", phenotype=phenotype)
    tables = run_model(patients.table, MODEL)
    assert tables["problems"].empty
    return tables["coefficients"].assign(seed=seed)


def true_coefficients():
    """Coefficients of the population, and of the design where it has them."""
    patients = draw_patients(POPULATION, seed=POPULATION_SEED)
    columns = ("age", "sex", "disease_duration", "therapy", "enhancing_lesions")
    table = pd.DataFrame(
        [{name: getattr(patient, name) for name in columns} for patient in patients]
    )
    chi = np.array([patient.measures["relative_susceptibility"] for patient in patients])
    measured = table.assign(relative_susceptibility=chi)
    expected = {name: _expected(name, measured) for name in population()["regressions"]}
    expected["t2_lesion_volume"] = np.exp(_truncated(expected["t2_lesion_volume"]))
    # Susceptibility as a predictor has its residual; as an outcome its expectation.
    tables = [
        run_model(table.assign(**{**expected, **own}), replace(MODEL, nodes=(node,)))[
            "coefficients"
        ]
        for node, own in zip(MODEL.nodes, ({"relative_susceptibility": chi}, {}), strict=True)
    ]
    coefficients = pd.concat(tables, ignore_index=True)
    regressions = population()["regressions"]
    design = [
        regressions[outcome.removeprefix("log_")]["coefficients"].get(
            predictor.removesuffix(".M"), 0.0
        )
        for outcome, predictor in coefficients[["outcome", "predictor"]].to_numpy()
    ]
    # the rest are rounding errors
    truth = coefficients["coefficient"].where(coefficients["coefficient"].abs() > 1e-9, 0.0)
    return coefficients[REGRESSION].assign(truth=truth, design=design)


def _expected(name, patients):
    """What the design expects of a measure, before its transform."""
    regression = population()["regressions"][name]
    centres = population()["centres"]
    slopes = regression["coefficients"].items()
    return regression["intercept"] + sum(
        (b * (patients[x] - centres.get(x, 0)) for x, b in slopes), 0.0 * patients["age"]
    )


def _truncated(expected):
    """Mean of the logarithm of lesion volumes that are drawn again outside their range."""
    lesions = population()["regressions"]["t2_lesion_volume"]
    sd = lesions["residual_sd"]
    low = (np.log(lesions["lowest"]) - expected) / sd
    high = (np.log(lesions["highest"]) - expected) / sd
    return stats.truncnorm.mean(low, high, expected, sd)


def coverage(estimates, truth):
    """Return the fraction of intervals that cover the truth, by coefficient.

    Returns
    -------
    DataFrame
        Columns ``outcome``, ``predictor``, ``adjusted``, ``design``, ``truth``, ``mean`` (of the
        estimates), ``covered`` and ``covered_design`` (shares), ``n`` (cohorts).
    """
    merged = estimates.merge(truth, on=REGRESSION)
    for name, value in (("covered", "truth"), ("covered_design", "design")):
        merged[name] = (merged["ci_low"] <= merged[value]) & (merged[value] <= merged["ci_high"])
    grouped = merged.groupby(REGRESSION, sort=False)
    columns = {
        "design": "first",
        "truth": "first",
        "coefficient": "mean",
        "covered": "mean",
        "covered_design": "mean",
    }
    return (
        grouped.agg({**columns, "seed": "size"})
        .rename(columns={"coefficient": "mean", "seed": "n"})
        .reset_index()
    )


def print_coverage(table):
    """Print the coverage of each coefficient and of all."""
    print(
        "| outcome | predictor | adjusted | design | truth | mean estimate | truth covered | "
        "design covered |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in table.itertuples():
        cells = [
            row.outcome,
            row.predictor,
            "yes" if row.adjusted else "no",
            f"{row.design:.4g}",
            f"{row.truth:.4g}",
        ]
        shares = [f"{100 * share:.1f} %" for share in (row.covered, row.covered_design)]
        print("| " + " | ".join([*cells, f"{row.mean:.4g}", *shares]) + " |")
    shares = [f"{100 * table[name].mean():.2f} %" for name in ("covered", "covered_design")]
    print(f"| all | | | | | | {' | '.join(shares)} |")
    spread = 100 * np.sqrt(0.05 * 0.95 / table["n"].iloc[0])
    print(
        f"\n{table['n'].iloc[0]} cohorts; standard error of the coverage of one coefficient "
        f"{spread:.1f} %"
    )


if __name__ == "__main__":
    main()
