"""Detect implausible quality figures of a scan, and advise what to inspect.

The limits are far from the figures of simulated heads, real heads and phantoms; see
docs/quality.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .methods import METHOD_STEPS

LARGEST_BRAIN = 2200.0  # mL; the largest skulls hold about 1900
SMALLEST_BRAIN_FRACTION = (
    0.03  # of the image; whole heads have 0.18 to 0.33, a newborn's would have 0.09
)
LARGEST_PHANTOM_FRACTION = 0.95  # of the image; there is always some air around a phantom
LARGEST_BRAIN_FIELD = 0.05  # ppm, SD of the local field
LARGEST_PHANTOM_FIELD = 0.25  # ppm, SD; tubes of contrast agent reach a third of that
LARGEST_PHANTOM_BULK = 0.05  # ppm, robust SD; most of a phantom is water between the tubes
MAX_WITHOUT_WEIGHT = 0.02  # of a brain mask
# Of a phantom's mask, where walls, bubbles and tubes of high susceptibility have no weight.
MAX_WITHOUT_WEIGHT_IN_PHANTOM = 0.2
MAX_UNRESOLVED = 0.1  # of a mask, at its surface
MAX_TRIMMED = 0.1  # of a mask, likewise; good scans have up to 0.05


@dataclass(frozen=True)
class Doubt:
    """An implausible figure.

    Attributes
    ----------
    figure : str
        Its column in the table of quality.
    text : str
        The figure, possible causes, and what to do.
    """

    figure: str
    text: str


def find_doubts(sidecars: Mapping[str, dict]) -> list[Doubt]:
    """Find the implausible figures of a scan.

    Parameters
    ----------
    sidecars : mapping of str to dict
        Sidecars of the scan's maps, by inversion. Figures that are missing, as in sidecars of
        earlier versions, are not checked.

    Returns
    -------
    list of Doubt
        In the order of processing; empty for a plausible scan.

    Examples
    --------
    >>> [doubt.figure for doubt in find_doubts({"medi": {"BrainMaskVolume": 4181.0}})]
    ['mask_volume']
    """
    any_sidecar = next(iter(sidecars.values()), {})  # figures of the scan are the same in all maps
    doubts = [
        _doubt_mask(any_sidecar),
        _doubt_surface(any_sidecar),
        _doubt_trimming(any_sidecar),
        _doubt_weights(any_sidecar),
        _doubt_local_field(any_sidecar),
        _doubt_sign(any_sidecar),
    ]
    for method, sidecar in sidecars.items():
        doubts.append(_doubt_lambda(method, sidecar))
        doubts.append(_doubt_convergence(method, sidecar))
    return list(filter(None, doubts))


def _doubt_mask(sidecar):
    volume = sidecar.get("BrainMaskVolume")
    fraction = sidecar.get("BrainMaskFractionOfImage", 0.5)
    if volume is None:
        return None
    advice = (
        "look at the picture of the mask, and provide your own mask (see --derivatives) if it is "
        "wrong"
    )
    if _is_phantom(sidecar):
        if fraction <= LARGEST_PHANTOM_FRACTION:
            return None
        cause = (
            f"the mask covers {fraction:.0%} of the image: it may include the air around the "
            "phantom"
        )
    elif volume > LARGEST_BRAIN:
        cause = f"the mask has {volume:.0f} mL, more than any brain: it may include air or scalp"
    elif fraction < SMALLEST_BRAIN_FRACTION:
        cause = (
            f"the mask has {volume:.0f} mL, {fraction:.1%} of the image: most of the brain may be "
            "missing"
        )
    else:
        return None
    return Doubt("mask_volume", f"{cause}; {advice}")


def _doubt_surface(sidecar):
    fraction = sidecar.get("BrainMaskFractionUnresolved", 0)
    if fraction <= MAX_UNRESOLVED:
        return None
    return Doubt(
        "unresolved_voxels",
        f"{fraction:.0%} of the mask was excluded at its surface, since the phase could not be "
        "unwrapped there: the mask may include air or scalp, or the phase may be damaged; look at "
        "the picture of the mask, and at the phase",
    )


def _doubt_trimming(sidecar):
    fraction = sidecar.get("BrainMaskFractionTrimmed", 0)
    if fraction <= MAX_TRIMMED:
        return None
    return Doubt(
        "mask_volume",
        f"{fraction:.0%} of the mask was excluded at its surface, since the field there is noise "
        "or the echoes contradict each other: the mask may include air or scalp, or the phase may "
        "be unwrapped wrongly; look at the picture of the mask, and compare with "
        "--unwrapping spatial",
    )


def _doubt_weights(sidecar):
    fraction = sidecar.get("VoxelsWithoutWeightFraction", 0)
    limit = MAX_WITHOUT_WEIGHT_IN_PHANTOM if _is_phantom(sidecar) else MAX_WITHOUT_WEIGHT
    if fraction <= limit:
        return None
    return Doubt(
        "without_weight",
        f"{fraction:.1%} of the mask has no weight, since the phase is noise or could not be "
        "unwrapped: there the maps are extrapolated from the surroundings; look at the picture of "
        "the mask, and at the phase",
    )


def _doubt_local_field(sidecar):
    sd = sidecar.get("LocalFieldStandardDeviation")
    robust_sd = sidecar.get("LocalFieldRobustStandardDeviation")
    # Systematic errors are smooth for the most part: they are in the background that is removed.
    error = sidecar.get("MedianFieldNoiseError", sidecar.get("MedianFieldStandardError"))
    if sd is None:
        return None
    ratio = f", {sd / error:.0f} times the field's noise" if error else ""
    if not _is_phantom(sidecar):
        if sd > LARGEST_BRAIN_FIELD:
            cause = (
                f"the local field has a standard deviation of {1000 * sd:.0f} ppb{ratio}; in "
                "brains it is 5 to 30 ppb"
            )
        elif error and robust_sd < error:
            cause = (
                f"the local field (robust standard deviation {1000 * robust_sd:.1f} ppb) is below "
                f"its noise (standard error {1000 * error:.1f} ppb)"
            )
        else:
            return None
    elif sd > LARGEST_PHANTOM_FIELD:
        cause = (
            f"the local field has a standard deviation of {1000 * sd:.0f} ppb{ratio}; in phantoms "
            "it is at most 100 ppb"
        )
    elif robust_sd > LARGEST_PHANTOM_BULK:
        cause = (
            f"the local field has a robust standard deviation of {1000 * robust_sd:.0f} ppb; in "
            "phantoms it is at most 15 ppb"
        )
    else:
        return None
    advice = "look at the picture of the mask, at the field and at the echo times"
    return Doubt("local_field_sd", f"{cause}; {advice}")


def _doubt_sign(sidecar):
    if not sidecar.get("SignLooksWrong"):
        return None
    return Doubt(
        "sign_asymmetry",
        f"susceptibility is skewed to negative values (skewness {sidecar['SignAsymmetry']:.2f}), "
        "which suggests a wrong phase sign "
        f"({sidecar.get('PhaseSignSource', 'source unknown')}); look at the maps, and set "
        "--phase-sign if deep nuclei are dark",
    )


def _doubt_lambda(method, sidecar):
    if not sidecar.get("LambdaAtBound"):
        return None
    option = _lambda_option(method)
    return Doubt(
        "lambda_at_bound",
        f"λ of the {method} inversion, {sidecar['Lambda']:.3g} {sidecar['LambdaUnits']}, is at a "
        "bound of its search range, so that its criterion did not determine it: the map may be "
        f"noisy or too smooth; look at it and at the scan's other doubts, or set {option}",
    )


def _doubt_convergence(method, sidecar):
    if sidecar.get("InversionConverged", True):
        return None
    option = _lambda_option(method)
    return Doubt(
        "not_converged",
        f"the {method} inversion stopped after {sidecar['InversionIterations']} iterations, the "
        "most allowed, before it met its tolerance: strong sources may come out too weak; look at "
        f"the map and at the scan's other doubts, or set {option} (a solution of less "
        "regularisation takes fewer iterations)",
    )


def _lambda_option(method):
    return "--medi-lambda" if method == "medi" else "--lambda"


def _is_phantom(sidecar):
    return "phantom" in sidecar.get(METHOD_STEPS, ())
