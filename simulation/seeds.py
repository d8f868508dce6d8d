"""Random numbers by key: what is drawn, and the numbers of participant, site and run that it is
drawn for.
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
)


def generator(seed, drawn, *numbers):
    """Random numbers of one key, whatever else is drawn.

    Parameters
    ----------
    seed : int
        Of the whole study.
    drawn : str
        One of `DRAWN`.
    *numbers : int
        Of participant, site and run, as far as the draw depends on them.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng(_sequence(seed, drawn, *numbers))


def derived_seed(seed, drawn, *numbers):
    """One integer of 64 bits in place of a generator, to be passed on; parameters as of
    `generator`.
    """
    return int(_sequence(seed, drawn, *numbers).generate_state(1, np.uint64)[0])


def _sequence(seed, drawn, *numbers):
    return np.random.SeedSequence(seed, spawn_key=(DRAWN.index(drawn), *numbers))
