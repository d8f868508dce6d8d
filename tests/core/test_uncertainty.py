"""Standard errors are those of the operator's own matrix, and of fifty realisations of the
noise.
"""

import json

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import centred_coordinates, sphere_field
from nipype import Node
from scipy import ndimage

from multiqsm.core.holes import interpolate_unmeasured
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.uncertainty import (
    AVERAGED,
    monte_carlo_standard_error,
    region_standard_errors,
    susceptibility_standard_error,
    weighted_standard_error,
)
from multiqsm.core.inversion.weighted import ROUGH, SMALLEST_WEIGHT, iterative, zero_field_weight
from multiqsm.core.phase.fieldfit import noise_weight
from multiqsm.core.registration.resampling import resample
from multiqsm.core.registration.transforms import itk_text
from multiqsm.interfaces.inversion import Deterministic, Iterative, Medi, free_edges
from multiqsm.interfaces.measurement import MeasureRegions
from multiqsm.interfaces.uncertainty import (
    DeterministicStandardError,
    IterativeStandardError,
    MediStandardError,
)

OBLIQUE = (0.3, -0.25, 0.92)
VOXEL = (1.0, 1.5, 2.0)


@pytest.fixture(scope="module")
def small():
    """A mask of some hundred voxels, standard errors, and the inversion's matrix: a column for each
    voxel's field.
    """
    shape, rng = (11, 9, 8), np.random.default_rng(2)
    mask = ndimage.binary_dilation(rng.random(shape) > 0.95, iterations=2)
    sigma = np.where(mask, rng.lognormal(-7, 1, shape), np.nan).astype(np.float32)
    columns = []
    for place in np.argwhere(mask):
        impulse = np.zeros(shape, np.float32)
        impulse[tuple(place)] = 1
        columns.append(deterministic(impulse, mask, VOXEL, b0_dir=OBLIQUE, lam=0.2).chi[mask])
    return mask, sigma, np.array(columns, np.float64).T


GIVEN = {"voxel_size": VOXEL, "lam": 0.2, "b0_dir": OBLIQUE}


def test_map_is_exact(small):
    mask, sigma, matrix = small
    found = susceptibility_standard_error(sigma, mask, **GIVEN)
    assert found.dtype == np.float32
    assert not found[~mask].any()
    np.testing.assert_allclose(found[mask], np.sqrt(matrix**2 @ sigma[mask] ** 2), rtol=1e-3)
    region = np.random.default_rng(0).random(mask.shape) * mask
    relative = matrix - region[mask] @ matrix / region.sum()
    found = susceptibility_standard_error(sigma, mask, reference=region, **GIVEN)
    np.testing.assert_allclose(found[mask], np.sqrt(relative**2 @ sigma[mask] ** 2), rtol=1e-3)


def test_regions_are_exact(small):
    mask, sigma, matrix = small
    rng = np.random.default_rng(1)
    regions = [mask & (rng.random(mask.shape) > 0.7), rng.random(mask.shape), ~mask]
    reference, scale = mask & (rng.random(mask.shape) > 0.8), rng.uniform(0.5, 2, mask.shape)
    found = region_standard_errors(
        sigma, mask, regions=regions, reference=reference, scale=scale, **GIVEN
    )
    for region, error in zip(regions[:2], found, strict=False):
        shares = region[mask] / region[mask].sum() - reference[mask] / reference.sum()
        assert error == pytest.approx(
            np.linalg.norm((shares * scale[mask]) @ matrix * sigma[mask]), rel=1e-3
        )
    assert np.isnan(found[2])
    (zero,) = region_standard_errors(sigma, mask, regions=[reference], reference=reference, **GIVEN)
    assert zero == 0


def test_variance_of_a_thousand_times_noisier_voxel_drowns_no_other(small):
    mask, sigma, matrix = small
    loud = sigma.copy()
    loud[tuple(np.argwhere(mask)[0])] = 1000 * np.nanmax(sigma)
    found = susceptibility_standard_error(loud, mask, **GIVEN)
    np.testing.assert_allclose(found[mask], np.sqrt(matrix**2 @ loud[mask] ** 2), rtol=1e-3)


def test_voxel_without_signal_counts_as_its_surroundings(small):
    """Its field is continued from its neighbours: a mean of theirs, with at most the mean of their
    errors.
    """
    mask, sigma, _ = small
    place = tuple(np.argwhere(mask)[5])
    silent, continued = sigma.copy(), sigma.copy()
    silent[place] = np.inf
    continued[place] = interpolate_unmeasured(
        sigma, np.isfinite(silent), mask, GIVEN["voxel_size"]
    )[place]
    both = [susceptibility_standard_error(s, mask, **GIVEN) for s in (silent, continued)]
    np.testing.assert_allclose(*both, rtol=1e-5)
    assert sigma[mask].min() < continued[place] < sigma[mask].max()


def test_what_makes_no_sense_is_refused(small):
    mask, sigma, _ = small
    with pytest.raises(ValueError, match="negative or not-a-number"):
        susceptibility_standard_error(-sigma, mask, **GIVEN)
    with pytest.raises(ValueError, match="infinite in all of the mask"):
        susceptibility_standard_error(np.full(mask.shape, np.inf), mask, **GIVEN)
    with pytest.raises(ValueError, match="reference region has no voxel inside the mask"):
        susceptibility_standard_error(sigma, mask, reference=~mask, **GIVEN)
    with pytest.raises(ValueError, match="at least once, got 0"):
        monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=0)


def test_realisations_of_an_inversion_that_does_nothing(small):
    """Noise of plus or minus σ then is σ in every draw, but for the mean, and its logarithm is
    averaged.
    """
    mask = small[0]
    sigma = np.random.default_rng(0).uniform(1, 3, mask.shape).astype(np.float32)
    found = monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=64)
    level, share = (
        ndimage.gaussian_filter(np.where(mask, v, 0), AVERAGED) for v in (np.log(sigma), 1.0)
    )
    np.testing.assert_allclose(found[mask], np.exp(level / share)[mask], rtol=0.1)
    assert not found[~mask].any()
    np.testing.assert_array_equal(
        found, monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=64)
    )


@pytest.fixture(scope="module")
def phantom():
    """Balls in a head, noisier below; edges where the magnitude has the balls."""
    shape = (44, 42, 30)
    centres = [(-8, 0, 0), (8, 4, 0), (0, -8, -10)]
    balls = [
        sphere_field(shape, VOXEL, OBLIQUE, radius=5, chi=0.1, center=centre) for centre in centres
    ]
    x, y, z = centred_coordinates(shape, VOXEL)
    mask = (x / 19) ** 2 + (y / 28) ** 2 + (z / 26) ** 2 < 1
    sigma = (0.002 * (1 + 3 / (1 + np.exp(z / 3)))).astype(np.float32)
    magnitude = (1 + 0.3 * sum(share for _, share in balls)) * mask
    magnitude = magnitude + np.random.default_rng(0).normal(0, 0.05, shape) * mask
    field = sum(field for field, _ in balls) * mask
    return {
        "mask": mask,
        "sigma": sigma,
        "field": field.astype(np.float32),
        "magnitude": magnitude.astype(np.float32),
        "regions": [share > 0.5 for _, share in balls],
        "reference": mask & (y > 18),
    }


def spread(respond, phantom, *, realisations=50, seed=8):
    """Root mean square of the noise that an inversion leaves in each voxel, and in the regions'
    means.
    """
    mask, rng = phantom["mask"], np.random.default_rng(seed)
    variance, of_regions = 0, 0
    for _ in range(realisations):
        noise = (mask * phantom["sigma"] * rng.standard_normal(mask.shape)).astype(np.float32)
        chi = respond(noise)
        variance = variance + (chi - chi[mask].mean()) ** 2 / realisations
        zero = chi[phantom["reference"]].mean()
        of_regions = (
            of_regions
            + np.array([chi[r].mean() - zero for r in phantom["regions"]]) ** 2 / realisations
        )
    return np.sqrt(variance[mask]), np.sqrt(of_regions)


def compare(found, of_regions, observed, observed_of_regions, mask):
    """Within 20 %: most voxels, their median, and the regions; of fifty realisations the spread
    itself errs by 10 %.
    """
    ratio = found[mask] / observed
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(ratio - 1) < 0.2) > 0.7
    ratio = of_regions / observed_of_regions
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.2)
    assert ratio == pytest.approx(1, abs=0.3)


def test_deterministic_spread_of_fifty_realisations(phantom):
    mask, given = phantom["mask"], {"voxel_size": VOXEL, "lam": 0.3, "b0_dir": OBLIQUE}
    observed = spread(lambda noise: deterministic(noise, mask, **given).chi, phantom)
    found = susceptibility_standard_error(phantom["sigma"], mask, reference=mask, **given)
    of_regions = region_standard_errors(
        phantom["sigma"], mask, regions=phantom["regions"], reference=phantom["reference"], **given
    )
    compare(found, of_regions, *observed, mask)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [True, False])
def test_iterative_spread_of_fifty_realisations(phantom, weighted):
    mask, sigma = phantom["mask"], phantom["sigma"]
    given = {"voxel_size": VOXEL, "lam": 0.3, "b0_dir": OBLIQUE}
    options = {"edges": edge_mask(phantom["magnitude"], mask, fraction=0.2), **given}
    if weighted:
        options["data_weight"] = noise_weight(sigma, mask)
        options["exterior_weight"] = zero_field_weight(
            phantom["field"], mask, float(np.mean(sigma[mask] ** 2))
        )
    observed = spread(lambda noise: iterative(noise, mask, **options).chi, phantom)
    found = monte_carlo_standard_error(
        lambda noise: iterative(noise, mask, tolerance=ROUGH, **options).chi, sigma, mask, VOXEL
    )
    entering = weighted_standard_error(sigma, mask) if weighted else sigma
    closed_form = susceptibility_standard_error(entering, mask, reference=mask, **given)
    of_regions = region_standard_errors(
        entering,
        mask,
        regions=phantom["regions"],
        reference=phantom["reference"],
        scale=np.divide(found, closed_form, out=np.zeros_like(found), where=mask),
        **given,
    )
    compare(found, of_regions, *observed, mask)


TILT = np.radians(12)
AFFINE = np.eye(4)
AFFINE[:3, :3] = [
    [1, 0, 0],
    [0, np.cos(TILT), -np.sin(TILT)],
    [0, np.sin(TILT), np.cos(TILT)],
] @ np.diag(VOXEL)
B0_DIR = (0, np.sin(TILT), np.cos(TILT))


def saved(folder, name, data):
    path = folder / f"{name}.nii"
    nib.save(nib.Nifti1Image(np.asarray(data, np.float32), AFFINE), path)
    return str(path)


@pytest.fixture(scope="module")
def nodes(phantom, tmp_path_factory):
    """What the nodes of all inversions give, with the files that they were given."""
    folder, mask = tmp_path_factory.mktemp("nodes"), phantom["mask"]
    noise = mask * phantom["sigma"] * np.random.default_rng(4).standard_normal(mask.shape)
    files = {
        "local_field_file": saved(folder, "field", phantom["field"] + noise),
        "standard_error_file": saved(folder, "sigma", phantom["sigma"]),
        "mask_file": saved(folder, "mask", phantom["mask"]),
    }
    echoes = {
        "magnitude_file": saved(folder, "magnitude", np.stack([phantom["magnitude"]] * 2, axis=-1))
    }
    found = {}
    for name, invert, propagate, more in (
        ("deterministic", Deterministic, DeterministicStandardError, {}),
        ("iterative", Iterative, IterativeStandardError, echoes),
        ("medi", Medi, MediStandardError, echoes),
    ):
        inverted = run(invert(**files, **more), folder / name)
        inputs = {kind: path for kind, path in files.items() if kind != "local_field_file" or more}
        more = more and {**more, "draws": 16}
        told = {"provenance": inverted.provenance, "record": inverted.record}
        found[name] = run(propagate(**inputs, **more, **told), folder / f"{name}se")
    return files | echoes, found


def run(interface, folder):
    return Node(interface, name="node", base_dir=folder).run().outputs


def test_nodes_take_the_inversions_own_choices(nodes, phantom):
    _, found = nodes
    mask = phantom["mask"]
    told = found["deterministic"].provenance
    expected = susceptibility_standard_error(
        phantom["sigma"], mask, VOXEL, lam=told["Lambda"], b0_dir=B0_DIR, reference=mask
    )
    np.testing.assert_allclose(
        nib.load(found["deterministic"].chi_se_file).get_fdata(), expected, rtol=1e-4
    )
    assert told["StandardErrorFrom"] == "closed form"
    assert told["VoxelsWithoutSignal"] == 0
    told = found["iterative"].provenance
    assert (told["NoiseRealisations"], told["StandardErrorFrom"]) == (
        16,
        "realisations of the noise",
    )
    edges = edge_mask(np.sqrt(2) * phantom["magnitude"], mask, fraction=told.get("EdgeFraction"))
    options = {
        "lam": told["Lambda"],
        "edges": edges,
        "exterior_weight": told["ExteriorWeight"],
        "b0_dir": B0_DIR,
    }
    options["data_weight"] = noise_weight(phantom["sigma"], mask, SMALLEST_WEIGHT)
    expected = monte_carlo_standard_error(
        lambda noise: iterative(noise, mask, VOXEL, tolerance=ROUGH, **options).chi,
        phantom["sigma"],
        mask,
        VOXEL,
    )
    np.testing.assert_allclose(
        nib.load(found["iterative"].chi_se_file).get_fdata(), expected, rtol=1e-3
    )


@pytest.mark.slow
def test_nodes_standard_error_is_the_spread_of_medis_maps(nodes, phantom):
    """MEDI is not linear: more noise also shifts its map, by the same in all draws, which is
    counted in: up to 30 %.
    """
    files, found = nodes
    mask, told = phantom["mask"], found["medi"].provenance
    field = nib.load(files["local_field_file"]).get_fdata(dtype=np.float32)
    space = {"voxel_size": VOXEL, "b0_dir": B0_DIR}
    edges = free_edges(files["magnitude_file"], None, field, mask, space)
    options = {**space, "edges": edges, "standard_error": phantom["sigma"], "lam": told["Lambda"]}
    alone = medi(field, mask, **options).chi
    observed, _ = spread(
        lambda noise: medi(field + noise, mask, **options).chi - alone, phantom, realisations=16
    )
    error = nib.load(found["medi"].chi_se_file).get_fdata()[mask]
    assert np.median(error) == pytest.approx(np.median(observed), rel=0.3)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(np.sqrt(np.mean(observed**2)), rel=0.3)
    assert told["ClosedFormLambda"] == pytest.approx(
        deterministic(field, mask, VOXEL, b0_dir=B0_DIR).lam.value, rel=1e-3
    )


def noise_files(folder, files, found):
    """The derivatives of a scan: standard errors of the field in Hz, of susceptibility with its
    sidecar.
    """
    chi_se = folder / "sub-01_desc-se_Chimap.nii"
    nib.save(nib.load(found.chi_se_file), chi_se)
    chi_se.with_suffix(".json").write_text(json.dumps(found.provenance))
    in_hertz = saved(folder, "hertz", 123.2 * nib.load(files["standard_error_file"]).get_fdata())
    return {"chi_se": str(chi_se), "field_se": in_hertz}


@pytest.mark.parametrize("method", ["deterministic", "iterative", "medi"])
def test_table_has_the_standard_error_of_each_mean(nodes, phantom, tmp_path, method):
    files, found = nodes
    mask, sigma, told = phantom["mask"], phantom["sigma"], found[method].provenance
    lam = told["ClosedFormLambda" if method == "medi" else "Lambda"]
    labels = sum(index * region for index, region in enumerate(phantom["regions"], start=1))
    names = {index: f"ball {index}" for index in (1, 2, 3)} | {4: "nowhere"}
    shared = {
        "chi_files": [files["local_field_file"]],
        "mask_files": [files["mask_file"]],
        "label_files": [saved(tmp_path, "labels", labels)],
        "names": [names],
        "reference": "edge",
        "method": method,
    }
    measure = MeasureRegions(
        **shared,
        noise=[noise_files(tmp_path, files, found[method])],
        reference_files=[saved(tmp_path, "reference", phantom["reference"])],
    )
    (rows,) = run(measure, tmp_path / "measured").rows
    scale, entering = None, sigma
    if method != "deterministic":
        entering = weighted_standard_error(sigma, mask)
        chi_se = nib.load(found[method].chi_se_file).get_fdata(dtype=np.float32)
        closed_form = susceptibility_standard_error(
            entering, mask, VOXEL, lam=lam, b0_dir=B0_DIR, reference=mask
        )
        scale = np.divide(chi_se, closed_form, out=np.zeros_like(chi_se), where=mask)
    expected = region_standard_errors(
        entering,
        mask,
        VOXEL,
        phantom["regions"],
        lam=lam,
        b0_dir=B0_DIR,
        reference=phantom["reference"],
        scale=scale,
    )
    assert [row["se"] for row in rows[:3]] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(rows[3]["se"])
    assert list(rows[0])[:6] == ["method", "roi", "mean", "sd", "median", "se"]
    (without,) = run(MeasureRegions(**shared), tmp_path / "without").rows
    assert all(np.isnan(row["se"]) for row in without)


def test_regions_in_another_space_are_carried_to_the_scan(nodes, phantom, tmp_path):
    """The spread of means over a region there, of the noise carried there: once by the data, once
    by the weights.
    """
    files, found = nodes
    mask, lam = phantom["mask"], found["deterministic"].provenance["Lambda"]
    shape, affine, motion = (40, 40, 40), np.diag([1.6, 1.6, 1.6, 1.0]), np.eye(4)
    affine[:3, 3] = AFFINE[:3, :3] @ ((np.array(mask.shape) - 1) / 2) - 1.6 * 39 / 2
    motion[:3, 3] = 0.7, -0.4, 0.9
    carry = {"affine": AFFINE, "target_affine": affine, "target_shape": shape, "transform": motion}
    regions = [resample(r.astype(np.float32), order=1, **carry) > 0.5 for r in phantom["regions"]]
    reference = resample(phantom["reference"].astype(np.float32), order=1, **carry) > 0.5

    def respond(noise):
        return deterministic(noise, mask, VOXEL, b0_dir=B0_DIR, lam=lam).chi

    rng, means = np.random.default_rng(3), []
    for _ in range(50):
        chi = respond(
            (mask * phantom["sigma"] * rng.standard_normal(mask.shape)).astype(np.float32)
        )
        there = resample(chi, mask=mask, **carry)
        means.append([there[r].mean() - there[reference].mean() for r in regions])

    def write(name, data):
        nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), tmp_path / f"{name}.nii")
        return str(tmp_path / f"{name}.nii")

    (tmp_path / "xfm.txt").write_text(itk_text(motion))
    measure = MeasureRegions(
        chi_files=[
            write(
                "chi",
                np.where(resample(mask.astype(np.float32), order=1, **carry) > 0.5, 0, np.nan),
            )
        ],
        label_files=[write("labels", sum(i * r for i, r in enumerate(regions, start=1)))],
        names=[{1: "a", 2: "b", 3: "c"}],
        reference="edge",
        method="deterministic",
        noise=[noise_files(tmp_path, files, found["deterministic"])],
        reference_files=[write("reference", reference)],
        transform_files=[str(tmp_path / "xfm.txt")],
    )
    (rows,) = run(measure, tmp_path / "measured").rows
    ratio = np.array([row["se"] for row in rows]) / np.sqrt(np.mean(np.square(means), axis=0))
    assert ratio == pytest.approx(1, abs=0.3)
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.2)
