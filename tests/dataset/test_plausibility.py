"""Implausible figures of a scan are reported, and plausible ones are not."""

import pytest

from multiqsm.dataset.methods import METHOD_STEPS
from multiqsm.dataset.plausibility import find_doubts

# Of a head at 3 T, and of a phantom with tubes of gadolinium.
HEAD = {
    METHOD_STEPS: ["mask", "fieldmap"],
    "BrainMaskVolume": 1450.0,
    "BrainMaskFractionOfImage": 0.2,
    "VoxelsWithoutWeightFraction": 0.0002,
    "MedianFieldStandardError": 0.009,
    "MedianFieldNoiseError": 0.001,
    "LocalFieldStandardDeviation": 0.008,
    "LocalFieldRobustStandardDeviation": 0.0056,
    "SignAsymmetry": 0.9,
    "SignLooksWrong": False,
    "Lambda": 0.3,
    "LambdaUnits": "mm",
    "LambdaAtBound": False,
}
PHANTOM = HEAD | {
    METHOD_STEPS: ["phantom", "phantom_mask"],
    "VoxelsWithoutWeightFraction": 0.077,
    "LocalFieldStandardDeviation": 0.078,
    "LocalFieldRobustStandardDeviation": 0.012,
}


def doubted(sidecar, **changes):
    return [doubt.figure for doubt in find_doubts({"medi": sidecar | changes})]


@pytest.mark.parametrize("sidecar", [HEAD, PHANTOM, {}])
def test_plausible_scans(sidecar):
    assert find_doubts({"medi": sidecar, "iterative": sidecar}) == []


def test_a_newborns_brain_and_a_slab_are_plausible():
    assert doubted(HEAD, BrainMaskVolume=350.0, BrainMaskFractionOfImage=0.09) == []
    assert doubted(HEAD, BrainMaskVolume=260.0, BrainMaskFractionOfImage=0.3) == []


@pytest.mark.parametrize(
    ("changes", "figure", "text"),
    [
        ({"BrainMaskVolume": 4181.0}, "mask_volume", "has 4181 mL, more than any brain"),
        (
            {"BrainMaskVolume": 60.0, "BrainMaskFractionOfImage": 0.01},
            "mask_volume",
            "60 mL, 1.0% of the image",
        ),
        (
            {"BrainMaskFractionUnresolved": 0.4},
            "unresolved_voxels",
            "40% of the mask was excluded at its surface",
        ),
        (
            {"BrainMaskFractionTrimmed": 0.35},
            "mask_volume",
            "35% of the mask was excluded at its surface, since the field there is noise",
        ),
        ({"VoxelsWithoutWeightFraction": 0.05}, "without_weight", "5.0% of the mask has no weight"),
        (
            {"LocalFieldStandardDeviation": 0.085},
            "local_field_sd",
            "85 ppb, 85 times the field's noise",
        ),
        (
            {"MedianFieldNoiseError": 0.01},
            "local_field_sd",
            "5.6 ppb) is below its noise",
        ),
        (
            {"SignLooksWrong": True, "PhaseSignSource": "given by the user"},
            "sign_asymmetry",
            "given by the user",
        ),
        (
            {"LambdaAtBound": True},
            "lambda_at_bound",
            "λ of the medi inversion, 0.3 mm, is at a bound of its search range",
        ),
        (
            {"InversionConverged": False, "InversionIterations": 100},
            "not_converged",
            "the medi inversion stopped after 100 iterations, the most allowed",
        ),
    ],
)
def test_implausible_figures_of_a_head(changes, figure, text):
    (doubt,) = find_doubts({"medi": HEAD | changes})
    assert doubt.figure == figure
    assert text in doubt.text


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"BrainMaskFractionOfImage": 0.99}, "mask_volume"),
        ({"VoxelsWithoutWeightFraction": 0.4}, "without_weight"),
        ({"LocalFieldStandardDeviation": 0.48}, "local_field_sd"),
        ({"LocalFieldRobustStandardDeviation": 0.06}, "local_field_sd"),
        ({"LambdaAtBound": True}, "lambda_at_bound"),
    ],
)
def test_implausible_figures_of_a_phantom(changes, figure):
    assert doubted(PHANTOM, **changes) == [figure]


def test_phantom_may_be_large_and_homogeneous():
    assert doubted(PHANTOM, BrainMaskVolume=8000.0, MedianFieldStandardError=0.02) == []


def test_each_inversion_has_its_own_bound():
    at_bound = HEAD | {"LambdaAtBound": True}
    doubts = find_doubts({"medi": HEAD, "iterative": at_bound, "deterministic": at_bound})
    assert [doubt.text.split(" inversion")[0] for doubt in doubts] == [
        "λ of the iterative",
        "λ of the deterministic",
    ]
