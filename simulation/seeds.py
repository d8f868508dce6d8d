"""Independent random numbers for each draw.

A draw has a key: its name, and the numbers of the participant, site and run that it is for.
"""

import numpy as np

DRAWN = (
    "anatomy",
    "position",
    "prescription",
    "motion",
    "drift",
    "scan",
    "patient",
    "lesions",
    "structural",
    "session",
    "image_quality",
)


def generator(seed: int, drawn: str, *numbers: int) -> np.random.Generator:
    """Return the random generator of one key, independent of all other draws.

    Parameters
    ----------
    seed : int
        Seed of the whole study.
    drawn : str
        Name of the draw, one of `DRAWN`.
    *numbers : int
        Numbers of participant, site and run, as far as the draw depends on them.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng(_sequence(seed, drawn, *numbers))


def derived_seed(seed: int, drawn: str, *numbers: int) -> int:
    """Return a 64-bit seed of one key, to be passed on in place of a generator.

    The parameters are those of `generator`.
    """
    return int(_sequence(seed, drawn, *numbers).generate_state(1, np.uint64)[0])


def _sequence(seed, drawn, *numbers):
    return np.random.SeedSequence(seed, spawn_key=(DRAWN.index(drawn), *numbers))
