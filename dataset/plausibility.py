"""Figures of a scan that no good scan has, and what to look at where one is met.

The limits are far from what simulated heads, real heads and phantoms show; docs/quality.md has the
figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .methods import METHOD_STEPS

LARGEST_BRAIN = 2200.0  # mL; the largest skulls hold about 1900
SMALLEST_BRAIN_FRACTION = (
    0.03  # of the image; whole heads have 0.18 to 0.33, a newborn's would have 0.09
)
LARGEST_PHANTOM_FRACTION = 0.95  # of the image; some air is around a phantom
LARGEST_BRAIN_FIELD = 0.05  # ppm, SD of the local field
LARGEST_PHANTOM_FIELD = 0.25  # ppm, SD; tubes of contrast agent come to a third of that
LARGEST_PHANTOM_BULK = 0.05  # ppm, robust SD: between the tubes a phantom is water
MOST_WITHOUT_WEIGHT = 0.02  # of a brain mask
MOST_WITHOUT_WEIGHT_IN_PHANTOM = (
    0.2  # of a phantom's mask; walls, bubbles and strong tubes have no weight
)
MOST_UNRESOLVED = 0.1  # of a mask, at its surface


@dataclass(frozen=True)
class Doubt:
    """A figure that is not plausible.

    Attributes
    ----------
    figure : str
        Its column in the table of quality.
    text : str
        The figure, what it may come from, and what to do.
    """

    figure: str
    text: str


def find_doubts(sidecars: Mapping[str, dict]) -> list[Doubt]:
    """Find what is implausible about a scan.

    Parameters
    ----------
    sidecars : mapping of str to dict
        Of each inversion, the sidecar of its map. A figure that is not there, as in the sidecars of
        earlier versions, is not judged.

    Returns
    -------
    list of Doubt
        In the order of processing; empty for a plausible scan.

    Examples
    --------
    >>> [doubt.figure for doubt in find_doubts({"medi": {"BrainMaskVolume": 4181.0}})]
    ['mask_volume']
    """
    told = next(iter(sidecars.values()), {})
    of_scan = (_doubt_mask, _doubt_surface, _doubt_weights, _doubt_local_field, _doubt_sign)
    found = [doubt for judge in of_scan if (doubt := judge(told))]
    return found + [
        doubt for method, own in sidecars.items() if (doubt := _doubt_lambda(method, own))
    ]


def _doubt_mask(told):
    volume = told.get("BrainMaskVolume")
    fraction = told.get("BrainMaskFractionOfImage", 0.5)
    if volume is None:
        return None
    look = (
        "look at the picture of the mask, and bring a mask of your own (see --derivatives) if it "
        "is off"
    )
    if _is_phantom(told):
        if fraction <= LARGEST_PHANTOM_FRACTION:
            return None
        cause = (
            f"the mask takes {fraction:.0%} of the image, as if it held the air around the phantom"
        )
    elif volume > LARGEST_BRAIN:
        cause = f"the mask holds {volume:.0f} mL, more than any brain: air or scalp may be in it"
    elif fraction < SMALLEST_BRAIN_FRACTION:
        cause = (
            f"the mask holds {volume:.0f} mL, {fraction:.1%} of the image: most of the brain may "
            "be missing"
        )
    else:
        return None
    return Doubt("mask_volume", f"{cause}; {look}")


def _doubt_surface(told):
    fraction = told.get("BrainMaskFractionUnresolved", 0)
    if fraction <= MOST_UNRESOLVED:
        return None
    return Doubt(
        "unresolved_voxels",
        f"{fraction:.0%} of the mask was left out at its surface, since its phase could not be "
        "unwrapped: the mask may "
        "hold air or scalp, or the phase be damaged; look at the picture of the mask, and at the "
        "phase",
    )


def _doubt_weights(told):
    fraction = told.get("VoxelsWithoutWeightFraction", 0)
    if fraction <= (MOST_WITHOUT_WEIGHT_IN_PHANTOM if _is_phantom(told) else MOST_WITHOUT_WEIGHT):
        return None
    return Doubt(
        "without_weight",
        f"{fraction:.1%} of the mask has no weight, its phase not being unwrapped or being noise: "
        "there the maps are "
        "a guess from around; look at the picture of the mask, and at the phase",
    )


def _doubt_local_field(told):
    spread = told.get("LocalFieldStandardDeviation")
    bulk = told.get("LocalFieldRobustStandardDeviation")
    error = told.get("MedianFieldStandardError")
    if spread is None:
        return None
    look = "look at the picture of the mask, at the field and at the echo times"
    beside = f", {spread / error:.0f} times the field's standard error" if error else ""
    if not _is_phantom(told):
        if spread > LARGEST_BRAIN_FIELD:
            cause = (
                f"the local field has a standard deviation of {1000 * spread:.0f} ppb{beside}; a "
                "brain has 5 to 30"
            )
        elif error and bulk < error:
            cause = (
                f"the local field (robust standard deviation {1000 * bulk:.1f} ppb) does not stand "
                "out of its noise "
                f"(standard error {1000 * error:.1f} ppb)"
            )
        else:
            return None
    elif spread > LARGEST_PHANTOM_FIELD:
        cause = (
            f"the local field has a standard deviation of {1000 * spread:.0f} ppb{beside}; "
            "phantoms have up to 100"
        )
    elif bulk > LARGEST_PHANTOM_BULK:
        cause = (
            f"the local field has a robust standard deviation of {1000 * bulk:.0f} ppb; in "
            "phantoms it is up to 15"
        )
    else:
        return None
    return Doubt("local_field_sd", f"{cause}; {look}")


def _doubt_sign(told):
    if not told.get("SignLooksWrong"):
        return None
    return Doubt(
        "sign_asymmetry",
        "dark values reach further than bright ones, as if the phase had the wrong sign "
        f"({told.get('PhaseSignSource', 'source unknown')}); look at the maps, and give "
        "--phase-sign if deep nuclei "
        "are dark",
    )


def _doubt_lambda(method, told):
    if not told.get("LambdaAtBound"):
        return None
    return Doubt(
        "lambda_at_bound",
        f"λ of the {method} inversion is at a bound of its search, {told['Lambda']:.3g} "
        f"{told['LambdaUnits']}, and not "
        "one that its rule finds: the map may be all noise or too smooth; look at it and at the "
        "doubts beside this, or "
        f"give {'--medi-lambda' if method == 'medi' else '--lambda'}",
    )


def _is_phantom(told):
    return "phantom" in told.get(METHOD_STEPS, ())
