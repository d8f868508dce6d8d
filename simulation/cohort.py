"""Patients whose thalamic susceptibility, lesions and atrophy follow known regressions.

The regressions and the population are in ``cohort.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from scipy import special, stats

from .head import Subject
from .lesions import draw_lesions
from .seeds import generator

PATIENTS = 100
EDSS_STEPS = (0.0, *np.arange(1.0, 8.6, 0.5).tolist())


@dataclass(frozen=True)
class Patient:
    """One patient.

    Parameters
    ----------
    label : str
        Label of the participant, without ``sub-``.
    age : int
        Years.
    sex : {'M', 'F'}
        Sex.
    disease_duration : float
        Years since onset.
    therapy, enhancing_lesions : int
        1 with a disease-modifying therapy or at least one enhancing lesion respectively, else 0.
    edss : float
        Disability on the Expanded Disability Status Scale.
    image_quality : {'good', 'poor'}
        Quality of the images; of every hundred patients, five have images too poor to be analysed.
    measures : dict of float
        Dependent variables of the regressions, in their units.
    """

    label: str
    age: int
    sex: str
    disease_duration: float
    therapy: int
    enhancing_lesions: int
    edss: float
    image_quality: str
    measures: Mapping[str, float]


@cache
def population() -> dict[str, Any]:
    """Return the distributions that patients are drawn from, ``cohort.json``."""
    return json.loads(files(__package__).joinpath("cohort.json").read_text(encoding="utf-8"))


def draw_patients(n: int = PATIENTS, *, seed: int = 0) -> list[Patient]:
    """Draw patients.

    Parameters
    ----------
    n : int
        Number of patients.
    seed : int
        Seed of the cohort. Each patient has random numbers of their own, so the first patients of a
        larger cohort are those of a smaller one.

    Returns
    -------
    list of Patient
    """
    hundred = population()["image_quality"]["of"]
    n_poor = population()["image_quality"]["poor"]
    patients = []
    for number in range(n):
        place = number % hundred
        if place == 0:
            rng = generator(seed, "image_quality", number // hundred)
            poor_places = rng.choice(hundred, n_poor, replace=False)
        quality = "poor" if place in poor_places else "good"
        patients.append(_draw_patient(number, quality, generator(seed, "patient", number)))
    return patients


def _draw_patient(number, quality, rng):
    clinical = population()["clinical"]
    age = _draw_age(clinical["age"], rng)
    sex = "F" if rng.random() < clinical["fraction_female"] else "M"
    years = _draw_duration(clinical["disease_duration"], age, rng)
    therapy = int(rng.random() < clinical["fraction_therapy"])
    lesions = int(rng.random() < clinical["fraction_enhancing_lesions"])
    covariates = {
        "age": age,
        "male_sex": sex == "M",
        "disease_duration": years,
        "therapy": therapy,
        "enhancing_lesions": lesions,
    }
    measures = _draw_measures(covariates, rng)
    edss = _draw_edss(clinical["edss"], rng)
    label = f"{number + 1:03}"
    return Patient(label, age, sex, years, therapy, lesions, edss, quality, measures)


def _draw_age(ages, rng):
    """Draw an age in whole years from a truncated normal distribution."""
    half_year = (
        0.5  # ages are rounded, and the youngest and oldest are as likely as their neighbours
    )
    low = (ages["low"] - half_year - ages["mean"]) / ages["sd"]
    high = (ages["high"] + half_year - ages["mean"]) / ages["sd"]
    age = stats.truncnorm.rvs(low, high, ages["mean"], ages["sd"], random_state=rng)
    return int(np.clip(round(age), ages["low"], ages["high"]))


def _draw_duration(durations, age, rng):
    """Draw years since onset from a gamma distribution that is truncated to the possible range."""
    shape = durations["shape"]
    scale = durations["mean"] / shape
    longest = min(durations["high"], age - durations["earliest_onset"])
    low, high = special.gammainc(shape, np.array([durations["low"], longest]) / scale)
    return round(scale * float(special.gammaincinv(shape, rng.uniform(low, high))), 1)


def _draw_edss(scores, rng):
    """Draw a score from a beta distribution over the scale, rounded to the nearest step."""
    score = EDSS_STEPS[-1] * rng.beta(scores["a"], scores["b"])
    return EDSS_STEPS[int(np.argmin(np.abs(np.array(EDSS_STEPS) - score)))]


def _draw_measures(covariates, rng):
    """Draw the dependent variables in turn; a later one may depend on an earlier one."""
    centres = population()["centres"]
    values = dict(covariates)
    for name, regression in population()["regressions"].items():
        slopes = regression["coefficients"].items()
        effects = [slope * (values[x] - centres.get(x, 0)) for x, slope in slopes]
        expected = regression["intercept"] + sum(effects)
        transform = np.exp if regression["transform"] == "log" else float
        lowest = regression.get("lowest", -np.inf)
        highest = regression.get("highest", np.inf)
        value = np.nan
        while not lowest <= value <= highest:
            residual = regression["residual_sd"] * rng.standard_normal()
            value = float(transform(expected + residual))
        values[name] = value
    return {name: values[name] for name in population()["regressions"]}


def with_disease(subject: Subject, patient: Patient, rng: np.random.Generator) -> Subject:
    """Give a head a patient's thalamic susceptibility and lesions.

    Parameters
    ----------
    subject : Subject
        The head as it would be in health.
    patient : Patient
        Patient whose measures the head gets.
    rng : numpy.random.Generator
        Places the lesions.

    Returns
    -------
    Subject
    """
    chi = {**subject.chi, "thalamus": patient.measures["relative_susceptibility"] / 1000}
    lesions = draw_lesions(subject, 1000 * patient.measures["t2_lesion_volume"], rng)
    return replace(subject, chi=chi, lesions=lesions)
