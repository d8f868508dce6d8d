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

from .head import Subject, load_templates
from .seeds import generator

PATIENTS = 95
MOST_LESIONS = 60  # in one head
USUAL_LESION = 0.3  # mL
# Where lesions may lie:
WHITE_MATTER = 0.7  # least probability of white matter
DEPTH = 8.0  # mm below the brain's surface
LOWEST = -15.0  # z in MNI space, mm


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
    measures : dict of float
        Dependent variables of the regressions, in their units.
    """

    label: str
    age: int
    sex: str
    disease_duration: float
    therapy: int
    enhancing_lesions: int
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
    return [_draw_patient(number, generator(seed, "patient", number)) for number in range(n)]


def _draw_patient(number, rng):
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
    return Patient(f"{number + 1:03}", age, sex, years, therapy, lesions, measures)


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


def _draw_measures(covariates, rng):
    """Draw the dependent variables in turn; a later one may depend on an earlier one."""
    centres = population()["centres"]
    values = dict(covariates)
    for name, regression in population()["regressions"].items():
        slopes = regression["coefficients"].items()
        effects = [slope * (values[x] - centres.get(x, 0)) for x, slope in slopes]
        expected = regression["intercept"] + sum(effects)
        transform = np.exp if regression["transform"] == "log" else float
        values[name] = np.inf
        while values[name] > regression.get("highest", np.finfo(float).max):
            values[name] = float(
                transform(expected + regression["residual_sd"] * rng.standard_normal())
            )
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
    # Lesions are placed in MNI space, but their volume is measured in the head.
    volume = 1000 * patient.measures["t2_lesion_volume"] * np.linalg.det(subject.affine[:3, :3])
    return replace(subject, chi=chi, lesions=_draw_lesions(volume, rng))


def _draw_lesions(volume, rng):
    """Draw balls in deep white matter whose volumes (mm³) add up to `volume`.

    Each is placed at the first of 50 random sites where it touches no earlier one, or else where it
    overlaps least.
    """
    number = int(np.clip(volume / (1000 * USUAL_LESION), 3, MOST_LESIONS))
    volumes = np.exp(0.8 * rng.standard_normal(number))
    radii = np.sort(np.cbrt(3 / (4 * np.pi) * volume * volumes / volumes.sum()))[::-1]
    sites = lesion_sites()
    lesions = []
    for radius in radii:
        candidates = sites[rng.integers(len(sites), size=50)]
        gaps = np.array([_gap(centre, radius, lesions) for centre in candidates])
        clear = np.flatnonzero(gaps >= 0)
        centre = candidates[clear[0] if clear.size else np.argmax(gaps)]
        lesions.append((*centre.tolist(), *[float(radius)] * 3, 0.0, 0.0, 0.0))
    return tuple(lesions)


def _gap(centre, radius, lesions):
    """Return the distance (mm) between a ball and the nearest lesion, negative if they overlap.

    Without lesions it is 0.
    """
    gaps = [np.linalg.norm(centre - ball[:3]) - ball[3] - radius for ball in lesions]
    return min(gaps, default=0.0)


@cache
def lesion_sites() -> np.ndarray:
    """Return the voxels (MNI, mm) at which a lesion may be centred, shape (n, 3)."""
    templates = load_templates()
    index = np.argwhere((templates.white > WHITE_MATTER) & (templates.distance < -DEPTH))
    points = index + templates.affine[:3, 3]
    return points[points[:, 2] > LOWEST]
