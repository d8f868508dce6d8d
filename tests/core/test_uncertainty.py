"""Standard errors agree with the operator's matrix, and with fifty realisations of the noise."""

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
from multiqsm.core.inversion.parameters import SMALLEST_WEIGHT
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.uncertainty import (
    SMOOTHING_SD,
    monte_carlo_standard_error,
    region_standard_errors,
    susceptibility_standard_error,
    weighted_standard_error,
)
from multiqsm.core.inversion.weighted import (
    ROUGH_TOLERANCE,
    iterative,
    zero_field_weight,
)
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
    """A mask of a hundred or so voxels, standard errors, and the inversion as a matrix."""
    shape = (11, 9, 8)
    rng = np.random.default_rng(2)
    mask = ndimage.binary_dilation(rng.random(shape) > 0.95, iterations=2)
    sigma = np.where(mask, rng.lognormal(-7, 1, shape), np.nan).astype(np.float32)
    columns = []
    for place in np.argwhere(mask):
        impulse = np.zeros(shape, np.float32)
        impulse[tuple(place)] = 1
        columns.append(
            deterministic(impulse, mask, VOXEL, b0_dir=OBLIQUE, lambda_value=0.2).chi[mask]
        )
    return mask, sigma, np.array(columns, np.float64).T


SETTINGS = {"voxel_size": VOXEL, "lambda_value": 0.2, "b0_dir": OBLIQUE}


def test_map_is_exact(small):
    mask, sigma, matrix = small
    error = susceptibility_standard_error(sigma, mask, **SETTINGS)
    assert error.dtype == np.float32
    assert not error[~mask].any()
    np.testing.assert_allclose(error[mask], np.sqrt(matrix**2 @ sigma[mask] ** 2), rtol=1e-3)
    region = np.random.default_rng(0).random(mask.shape) * mask
    relative = matrix - region[mask] @ matrix / region.sum()
    error = susceptibility_standard_error(sigma, mask, reference=region, **SETTINGS)
    np.testing.assert_allclose(error[mask], np.sqrt(relative**2 @ sigma[mask] ** 2), rtol=1e-3)


def test_regions_are_exact(small):
    mask, sigma, matrix = small
    rng = np.random.default_rng(1)
    regions = [mask & (rng.random(mask.shape) > 0.7), rng.random(mask.shape), ~mask]
    reference = mask & (rng.random(mask.shape) > 0.8)
    scale = rng.uniform(0.5, 2, mask.shape)
    errors = region_standard_errors(
        sigma, mask, regions=regions, reference=reference, scale=scale, **SETTINGS
    )
    for region, error in zip(regions[:2], errors, strict=False):
        weights = region[mask] / region[mask].sum() - reference[mask] / reference.sum()
        expected = np.linalg.norm((weights * scale[mask]) @ matrix * sigma[mask])
        assert error == pytest.approx(expected, rel=1e-3)
    assert np.isnan(errors[2])
    (zero,) = region_standard_errors(
        sigma, mask, regions=[reference], reference=reference, **SETTINGS
    )
    assert zero == 0


def test_variances_are_exact_beside_a_thousand_times_noisier_voxel(small):
    mask, sigma, matrix = small
    noisy = sigma.copy()
    noisy[tuple(np.argwhere(mask)[0])] = 1000 * np.nanmax(sigma)
    error = susceptibility_standard_error(noisy, mask, **SETTINGS)
    np.testing.assert_allclose(error[mask], np.sqrt(matrix**2 @ noisy[mask] ** 2), rtol=1e-3)


def test_error_of_a_voxel_without_signal_is_interpolated(small):
    """Its field is a mean of its neighbours', whose error is at most the mean of theirs."""
    mask, sigma, _ = small
    voxel = tuple(np.argwhere(mask)[5])
    without_signal = sigma.copy()
    without_signal[voxel] = np.inf
    interpolated = sigma.copy()
    interpolated[voxel] = interpolate_unmeasured(
        sigma, np.isfinite(without_signal), mask, SETTINGS["voxel_size"]
    )[voxel]
    np.testing.assert_allclose(
        susceptibility_standard_error(without_signal, mask, **SETTINGS),
        susceptibility_standard_error(interpolated, mask, **SETTINGS),
        rtol=1e-5,
    )
    assert sigma[mask].min() < interpolated[voxel] < sigma[mask].max()


def test_bad_input_is_refused(small):
    mask, sigma, _ = small
    with pytest.raises(ValueError, match="negative or not-a-number"):
        susceptibility_standard_error(-sigma, mask, **SETTINGS)
    with pytest.raises(ValueError, match="infinite in all of the mask"):
        susceptibility_standard_error(np.full(mask.shape, np.inf), mask, **SETTINGS)
    with pytest.raises(ValueError, match="reference region has no voxel inside the mask"):
        susceptibility_standard_error(sigma, mask, reference=~mask, **SETTINGS)
    with pytest.raises(ValueError, match="at least once, got 0"):
        monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=0)


def test_realisations_of_the_identity(small):
    """Noise of plus or minus σ has the SD σ in every draw, and its logarithm is smoothed."""
    mask = small[0]
    sigma = np.random.default_rng(0).uniform(1, 3, mask.shape).astype(np.float32)
    error = monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=64)
    level = ndimage.gaussian_filter(np.where(mask, np.log(sigma), 0), SMOOTHING_SD)
    inside = ndimage.gaussian_filter(mask.astype(float), SMOOTHING_SD)
    np.testing.assert_allclose(error[mask], np.exp(level / inside)[mask], rtol=0.1)
    assert not error[~mask].any()
    np.testing.assert_array_equal(
        error, monte_carlo_standard_error(np.copy, sigma, mask, VOXEL, draws=64)
    )


@pytest.fixture(scope="module")
def phantom():
    """Balls in a head, noisier below; edges where the magnitude has the balls."""
    shape = (44, 42, 30)
    centres = [(-8, 0, 0), (8, 4, 0), (0, -8, -10)]
    fields = []
    fractions = []
    for centre in centres:
        field, fraction = sphere_field(shape, VOXEL, OBLIQUE, radius=5, chi=0.1, center=centre)
        fields.append(field)
        fractions.append(fraction)
    x, y, z = centred_coordinates(shape, VOXEL)
    mask = (x / 19) ** 2 + (y / 28) ** 2 + (z / 26) ** 2 < 1
    sigma = (0.002 * (1 + 3 / (1 + np.exp(z / 3)))).astype(np.float32)
    magnitude = (1 + 0.3 * sum(fractions)) * mask
    magnitude = magnitude + np.random.default_rng(0).normal(0, 0.05, shape) * mask
    field = sum(fields) * mask
    return {
        "mask": mask,
        "sigma": sigma,
        "field": field.astype(np.float32),
        "magnitude": magnitude.astype(np.float32),
        "regions": [fraction > 0.5 for fraction in fractions],
        "reference": mask & (y > 18),
    }


def spread(respond, phantom, *, realisations=50, seed=8):
    """Return the SD of an inversion's response to noise, of each voxel and of regions' means."""
    mask = phantom["mask"]
    rng = np.random.default_rng(seed)
    variance = 0
    variance_of_regions = 0
    for _ in range(realisations):
        noise = (mask * phantom["sigma"] * rng.standard_normal(mask.shape)).astype(np.float32)
        chi = respond(noise)
        variance = variance + (chi - chi[mask].mean()) ** 2 / realisations
        means = np.array([chi[region].mean() for region in phantom["regions"]])
        deviation = means - chi[phantom["reference"]].mean()
        variance_of_regions = variance_of_regions + deviation**2 / realisations
    return np.sqrt(variance[mask]), np.sqrt(variance_of_regions)


def compare(error, of_regions, observed, observed_of_regions, mask):
    """Check that most voxels, their median and the regions agree within 20 %.

    The SD of fifty realisations itself has an error of 10 %.
    """
    ratio = error[mask] / observed
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(ratio - 1) < 0.2) > 0.7
    ratio = of_regions / observed_of_regions
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.2)
    assert ratio == pytest.approx(1, abs=0.3)


def test_deterministic_spread_of_fifty_realisations(phantom):
    mask = phantom["mask"]
    settings = {"voxel_size": VOXEL, "lambda_value": 0.3, "b0_dir": OBLIQUE}
    observed = spread(lambda noise: deterministic(noise, mask, **settings).chi, phantom)
    error = susceptibility_standard_error(phantom["sigma"], mask, reference=mask, **settings)
    of_regions = region_standard_errors(
        phantom["sigma"],
        mask,
        regions=phantom["regions"],
        reference=phantom["reference"],
        **settings,
    )
    compare(error, of_regions, *observed, mask)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [True, False])
def test_iterative_spread_of_fifty_realisations(phantom, weighted):
    mask = phantom["mask"]
    sigma = phantom["sigma"]
    settings = {"voxel_size": VOXEL, "lambda_value": 0.3, "b0_dir": OBLIQUE}
    options = {"edges": edge_mask(phantom["magnitude"], mask, edge_fraction=0.2), **settings}
    if weighted:
        options["data_weight"] = noise_weight(sigma, mask)
        options["exterior_weight"] = zero_field_weight(
            phantom["field"], mask, float(np.mean(sigma[mask] ** 2))
        )
    observed = spread(lambda noise: iterative(noise, mask, **options).chi, phantom)
    error = monte_carlo_standard_error(
        lambda noise: iterative(noise, mask, tolerance=ROUGH_TOLERANCE, **options).chi,
        sigma,
        mask,
        VOXEL,
    )
    weighted_sigma = weighted_standard_error(sigma, mask) if weighted else sigma
    closed_form = susceptibility_standard_error(weighted_sigma, mask, reference=mask, **settings)
    of_regions = region_standard_errors(
        weighted_sigma,
        mask,
        regions=phantom["regions"],
        reference=phantom["reference"],
        scale=np.divide(error, closed_form, out=np.zeros_like(error), where=mask),
        **settings,
    )
    compare(error, of_regions, *observed, mask)


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
    """Input files of the nodes of three inversions, and outputs of their standard errors' nodes."""
    folder = tmp_path_factory.mktemp("nodes")
    mask = phantom["mask"]
    noise = mask * phantom["sigma"] * np.random.default_rng(4).standard_normal(mask.shape)
    field = {"local_field_file": saved(folder, "field", phantom["field"] + noise)}
    files = {
        "standard_error_file": saved(folder, "sigma", phantom["sigma"]),
        "mask_file": saved(folder, "mask", phantom["mask"]),
    }
    magnitude = np.stack([phantom["magnitude"]] * 2, axis=-1)
    echoes = {"magnitude_file": saved(folder, "magnitude", magnitude)}
    outputs = {}

    def propagate(name, invert, standard_error, inversion_files, error_files):
        inversion = run(invert(**field, **files, **inversion_files), folder / name)
        choices = {"provenance": inversion.provenance, "record": inversion.record}
        node = standard_error(**files, **error_files, **choices)
        outputs[name] = run(node, folder / f"{name}se")

    propagate("deterministic", Deterministic, DeterministicStandardError, {}, {})
    realisations = {**field, **echoes, "draws": 16}
    propagate("iterative", Iterative, IterativeStandardError, echoes, realisations)
    linear = {**echoes, "medi_data": "linear"}
    propagate("medi", Medi, MediStandardError, linear, realisations)
    return field | files | echoes, outputs


def run(interface, folder):
    return Node(interface, name="node", base_dir=folder).run().outputs


def test_nodes_use_the_choices_of_the_inversion(nodes, phantom):
    _, outputs = nodes
    mask = phantom["mask"]
    provenance = outputs["deterministic"].provenance
    expected = susceptibility_standard_error(
        phantom["sigma"],
        mask,
        VOXEL,
        lambda_value=provenance["Lambda"],
        b0_dir=B0_DIR,
        reference=mask,
    )
    np.testing.assert_allclose(
        nib.load(outputs["deterministic"].chi_se_file).get_fdata(), expected, rtol=1e-4
    )
    assert provenance["StandardErrorFrom"] == "closed form"
    assert provenance["VoxelsWithoutSignal"] == 0
    provenance = outputs["iterative"].provenance
    assert provenance["NoiseRealisations"] == 16
    assert provenance["StandardErrorFrom"] == "realisations of the noise"
    edges = edge_mask(
        np.sqrt(2) * phantom["magnitude"], mask, edge_fraction=provenance.get("EdgeFraction")
    )
    options = {
        "lambda_value": provenance["Lambda"],
        "edges": edges,
        "exterior_weight": provenance["ExteriorWeight"],
        "b0_dir": B0_DIR,
        "data_weight": noise_weight(phantom["sigma"], mask, SMALLEST_WEIGHT),
        "tolerance": ROUGH_TOLERANCE,
    }
    expected = monte_carlo_standard_error(
        lambda noise: iterative(noise, mask, VOXEL, **options).chi, phantom["sigma"], mask, VOXEL
    )
    np.testing.assert_allclose(
        nib.load(outputs["iterative"].chi_se_file).get_fdata(), expected, rtol=1e-3
    )


@pytest.mark.slow
def test_nodes_standard_error_is_the_spread_of_medis_maps(nodes, phantom):
    """MEDI is not linear: additional noise also shifts its map, equally in all draws, which is
    included here, up to 30 %.
    """
    files, outputs = nodes
    mask = phantom["mask"]
    provenance = outputs["medi"].provenance
    field = nib.load(files["local_field_file"]).get_fdata(dtype=np.float32)
    space = {"voxel_size": VOXEL, "b0_dir": B0_DIR}
    edges = free_edges(files["magnitude_file"], None, field, mask, space)
    options = {
        **space,
        "edges": edges,
        "standard_error": phantom["sigma"],
        "medi_lambda": provenance["Lambda"],
        "medi_data": "linear",
    }
    alone = medi(field, mask, **options).chi
    observed, _ = spread(
        lambda noise: medi(field + noise, mask, **options).chi - alone, phantom, realisations=16
    )
    error = nib.load(outputs["medi"].chi_se_file).get_fdata()[mask]
    assert np.median(error) == pytest.approx(np.median(observed), rel=0.3)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(np.sqrt(np.mean(observed**2)), rel=0.3)
    assert provenance["ClosedFormLambda"] == pytest.approx(
        deterministic(field, mask, VOXEL, b0_dir=B0_DIR).lambda_choice.value, rel=1e-3
    )


def noise_files(folder, files, outputs):
    """Save standard errors as a scan's derivatives: of the field in Hz, of χ with a sidecar."""
    chi_se = folder / "sub-01_desc-se_Chimap.nii"
    nib.save(nib.load(outputs.chi_se_file), chi_se)
    chi_se.with_suffix(".json").write_text(json.dumps(outputs.provenance))
    in_hertz = 123.2 * nib.load(files["standard_error_file"]).get_fdata()
    return {
        "chi_se": str(chi_se),
        "field_se": saved(folder, "hertz", in_hertz),
        "field_noise": saved(folder, "noise", 0.6 * in_hertz),
    }


@pytest.mark.parametrize("method", ["deterministic", "iterative", "medi"])
def test_table_has_the_standard_error_of_each_mean(nodes, phantom, tmp_path, method):
    files, outputs = nodes
    mask = phantom["mask"]
    sigma = phantom["sigma"]
    lambda_value = outputs[method].provenance["ClosedFormLambda" if method == "medi" else "Lambda"]
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
        noise=[noise_files(tmp_path, files, outputs[method])],
        reference_files=[saved(tmp_path, "reference", phantom["reference"])],
    )
    (rows,) = run(measure, tmp_path / "measured").rows
    scale = None
    weighted_sigma = sigma
    if method != "deterministic":
        weighted_sigma = weighted_standard_error(sigma, mask)
        chi_se = nib.load(outputs[method].chi_se_file).get_fdata(dtype=np.float32)
        closed_form = susceptibility_standard_error(
            weighted_sigma, mask, VOXEL, lambda_value=lambda_value, b0_dir=B0_DIR, reference=mask
        )
        scale = np.divide(chi_se, closed_form, out=np.zeros_like(chi_se), where=mask)
    expected = region_standard_errors(
        weighted_sigma,
        mask,
        VOXEL,
        phantom["regions"],
        lambda_value=lambda_value,
        b0_dir=B0_DIR,
        reference=phantom["reference"],
        scale=scale,
    )
    assert [row["se"] for row in rows[:3]] == pytest.approx(expected, rel=1e-3)
    assert [row["se_noise"] for row in rows[:3]] == pytest.approx(0.6 * expected, rel=1e-3)
    assert [row["se_systematic"] for row in rows[:3]] == pytest.approx(0.8 * expected, rel=1e-3)
    assert np.isnan(rows[3]["se"])
    assert list(rows[0])[:6] == ["method", "roi", "mean", "sd", "median", "se"]
    (without,) = run(MeasureRegions(**shared), tmp_path / "without").rows
    assert np.isnan([row["se"] for row in without]).all()


def test_errors_of_regions_in_another_space(nodes, phantom, tmp_path):
    """Means over the regions in their own space have the spread that the table gives them.

    The test resamples noise maps into that space, and the node the regions' weights into the scan.
    """
    files, outputs = nodes
    mask = phantom["mask"]
    lambda_value = outputs["deterministic"].provenance["Lambda"]
    shape = (40, 40, 40)
    affine = np.diag([1.6, 1.6, 1.6, 1.0])
    motion = np.eye(4)
    affine[:3, 3] = AFFINE[:3, :3] @ ((np.array(mask.shape) - 1) / 2) - 1.6 * 39 / 2
    motion[:3, 3] = 0.7, -0.4, 0.9
    grids = {"affine": AFFINE, "target_affine": affine, "target_shape": shape, "transform": motion}

    def resampled_mask(region):
        return resample(region.astype(np.float32), order=1, **grids) > 0.5

    regions = list(map(resampled_mask, phantom["regions"]))
    reference = resampled_mask(phantom["reference"])
    rng = np.random.default_rng(3)
    means = []
    for _ in range(50):
        noise = (mask * phantom["sigma"] * rng.standard_normal(mask.shape)).astype(np.float32)
        chi = deterministic(noise, mask, VOXEL, b0_dir=B0_DIR, lambda_value=lambda_value).chi
        resampled = resample(chi, mask=mask, **grids)
        zero = resampled[reference].mean()
        means.append([resampled[region].mean() - zero for region in regions])

    def write(name, data):
        nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), tmp_path / f"{name}.nii")
        return str(tmp_path / f"{name}.nii")

    labels = sum(index * region for index, region in enumerate(regions, start=1))
    (tmp_path / "xfm.txt").write_text(itk_text(motion))
    measure = MeasureRegions(
        chi_files=[
            write("chi", np.where(resampled_mask(mask), 0, np.nan)),
        ],
        label_files=[write("labels", labels)],
        names=[{1: "a", 2: "b", 3: "c"}],
        reference="edge",
        method="deterministic",
        noise=[noise_files(tmp_path, files, outputs["deterministic"])],
        reference_files=[write("reference", reference)],
        transform_files=[str(tmp_path / "xfm.txt")],
    )
    (rows,) = run(measure, tmp_path / "measured").rows
    ratio = np.array([row["se"] for row in rows]) / np.sqrt(np.mean(np.square(means), axis=0))
    assert ratio == pytest.approx(1, abs=0.3)
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.2)
