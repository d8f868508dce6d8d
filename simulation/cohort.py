"""Patients whose thalamic susceptibility, lesions and atrophy follow known regressions, of
``cohort.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import numpy as np
from scipy import stats

from .head import load_templates
from .seeds import generator

PATIENTS = 95
MOST_LESIONS, USUAL_LESION = 60, 0.3  # number; volume in mL
# where lesions lie: probability; mm below the surface; z in mm
WHITE_MATTER = 0.7
DEPTH = 8.0
LOWEST = -15.0


@dataclass(frozen=True)
class Patient:
    """One patient.

    Parameters
    ----------
    label : str
        Of the participant, without ``sub-``.
    age : int
        Years.
    sex : {'M', 'F'}
        Sex.
    disease_duration : float
        Years since onset.
    therapy, enhancing_lesions : int
        1 with a disease-modifying therapy, or with at least one enhancing lesion; else 0.
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
def population():
    """What patients are drawn from, ``cohort.json``."""
    return json.loads(files(__package__).joinpath("cohort.json").read_text(encoding="utf-8"))


def draw_patients(n=PATIENTS, *, seed=0):
    """Draw patients.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Each patient is drawn from a key of its own: more of them leave the others as they are.

    Returns
    -------
    list of Patient
    """
    return [_draw_patient(number, generator(seed, "patient", number)) for number in range(n)]


def _draw_patient(number, rng):
    clinical = population()["clinical"]
    spread = population()["clinical"]["age"]
    low, high = ((spread[end] - spread["mean"]) / spread["sd"] for end in ("low", "high"))
    age = round(stats.truncnorm.rvs(low, high, spread["mean"], spread["sd"], random_state=rng))
    sex = "F" if rng.random() < clinical["share_female"] else "M"
    duration = clinical["disease_duration"]
    years = rng.gamma(duration["shape"], duration["mean"] / duration["shape"])
    # Onset after childhood.
    years = round(min(years, age - 16.0), 1)
    therapy, lesions = (
        int(rng.random() < clinical[f"share_{what}"]) for what in ("therapy", "enhancing_lesions")
    )
    known = {"age": age, "male_sex": sex == "M", "disease_duration": years}
    known |= {"therapy": therapy, "enhancing_lesions": lesions}
    measures = _draw_measures(known, rng)
    return Patient(f"{number + 1:03}", age, sex, years, therapy, lesions, measures)


def _draw_measures(known, rng):
    """Draw the dependent variables in turn; a later one may depend on an earlier one."""
    centres = population()["centres"]
    values = dict(known)
    for name, regression in population()["regressions"].items():
        slopes = regression["coefficients"].items()
        expected = regression["intercept"] + sum(
            b * (values[x] - centres.get(x, 0)) for x, b in slopes
        )
        transform = np.exp if regression["transform"] == "log" else float
        values[name] = np.inf
        while values[name] > regression.get("highest", np.finfo(float).max):
            values[name] = float(
                transform(expected + regression["residual_sd"] * rng.standard_normal())
            )
    return {name: values[name] for name in population()["regressions"]}


def affected(subject, patient, rng):
    """A head with a patient's thalamic susceptibility and lesions.

    Parameters
    ----------
    subject : multiqsm.simulation.head.Subject
        The head as it would be in health.
    patient : Patient
        Whose measures it gets.
    rng : numpy.random.Generator
        Places the lesions.

    Returns
    -------
    multiqsm.simulation.head.Subject
    """
    chi = {**subject.chi, "thalamus": patient.measures["relative_susceptibility"] / 1000}
    # Lesions are given in MNI space, their volume in the head.
    volume = 1000 * patient.measures["t2_lesion_volume"] * np.linalg.det(subject.affine[:3, :3])
    return replace(subject, chi=chi, lesions=_draw_lesions(volume, rng))


def _draw_lesions(volume, rng):
    """Balls in deep white matter that touch each other as little as possible, of a volume (mm³) in
    all.
    """
    number = int(np.clip(volume / (1000 * USUAL_LESION), 3, MOST_LESIONS))
    volumes = np.exp(0.8 * rng.standard_normal(number))
    radii = np.sort(np.cbrt(3 / (4 * np.pi) * volume * volumes / volumes.sum()))[::-1]
    sites = _lesion_sites()
    lesions = []
    for radius in radii:
        candidates = sites[rng.integers(len(sites), size=50)]
        gaps = [
            min((np.linalg.norm(c - b[:3]) - b[3] - radius for b in lesions), default=0.0)
            for c in candidates
        ]
        place = candidates[
            next((i for i, gap in enumerate(gaps) if gap >= 0), int(np.argmax(gaps)))
        ]
        lesions.append((*place.tolist(), *[float(radius)] * 3, 0.0, 0.0, 0.0))
    return tuple(lesions)


@cache
def _lesion_sites():
    """Voxels (MNI, mm) where a lesion may be centred, shape (n, 3)."""
    templates = load_templates()
    index = np.argwhere((templates.white > WHITE_MATTER) & (templates.distance < -DEPTH))
    points = index + templates.affine[:3, 3]
    return points[points[:, 2] > LOWEST]
