"""The simulated head: its anatomy against an atlas, its people, and that it is the same on every
grid.
"""

import re
from functools import partial

import numpy as np
import pytest
from helpers.fields import forward_field
from nibabel import load
from scipy import ndimage
from scipy.spatial.transform import Rotation

from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.grid import block_mean, scan_affine, subgrid_affine
from multiqsm.simulation.head import (
    anatomy,
    average_subject,
    draw_subject,
    head_model,
    label_names,
)
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.shapes import ellipsoid_distance, tube_distance
from multiqsm.simulation.specimen import magnetize

INDEX = {name: index for index, name in label_names().items()}
ATLAS = {  # labels of the BigBrain atlas, left and right
    "caudate_nucleus": ((7,), (8,)),
    "putamen": ((9,), (10,)),
    "globus_pallidus": ((11, 13), (12, 14)),
    "red_nucleus": ((1,), (2,)),
    "substantia_nigra": ((3,), (4,)),
    "thalamus": ((15,), (16,)),
}
SHAPE, VOXEL = (62, 75, 60), (3.0, 3.0, 3.5)


@pytest.fixture(scope="module")
def affine():
    return scan_affine(SHAPE, VOXEL, centre=(0, -18, 5))


@pytest.fixture(scope="module")
def head(affine):
    return head_model(average_subject(), SHAPE, affine)


@pytest.fixture(scope="module")
def close_up():
    """Deep grey matter at 1 mm."""
    return head_model(
        average_subject(), (80, 80, 60), scan_affine((80, 80, 60), (1, 1, 1), centre=(0, -4, 5))
    )


def test_nuclei_agree_with_an_atlas(shared):
    """Dice of at least .70 on either side; the atlas is in the same space (mm)."""
    path = shared / "data" / "atlas_bigbrain" / "bigbrain.nii.gz"
    if not path.is_file():
        pytest.skip(f"no atlas at {path}")
    image = load(path)
    atlas = np.asanyarray(image.dataobj)[::2, ::2, ::2]
    head = head_model(average_subject(), atlas.shape, image.affine @ np.diag([2, 2, 2, 1]))
    for name, sides in ATLAS.items():
        for side, labels in zip(("left", "right"), sides, strict=True):
            ours, theirs = head.labels == INDEX[f"{side}_{name}"], np.isin(atlas, labels)
            assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.7, f"{side} {name}"


def test_left_is_left(close_up):
    """Left labels lie at negative x, as far from the middle as the right ones."""
    x = scan_affine((80, 80, 60), (1, 1, 1))[0, 3] + np.arange(80)
    for name in anatomy()["nuclei"]:
        n_left = (close_up.labels == INDEX[f"left_{name}"]).sum(axis=(1, 2))
        n_right = (close_up.labels == INDEX[f"right_{name}"]).sum(axis=(1, 2))
        left = np.average(x, weights=n_left)
        right = np.average(x, weights=n_right)
        assert left < -3
        assert left + right == pytest.approx(0, abs=0.6)


def test_tissues_have_their_places(head):
    """From the outside in: air, scalp, skull, CSF, brain of a plausible size (mL)."""
    millilitres = np.prod(VOXEL) / 1000
    volume = {name: (head.labels == index).sum() * millilitres for name, index in INDEX.items()}
    assert 1400 < head.region.sum() * millilitres < 2100
    assert 8 < volume["lateral_ventricle"] < 40
    assert volume["skull"] > 200
    assert volume["vein"] > 5
    middle = head.labels[:, 35, 36]
    order = middle[1:][np.diff(middle.astype(int)) != 0].tolist()
    assert order[:2] == [INDEX["soft_tissue"], INDEX["skull"]]
    assert middle[0] == middle[-1] == 0


def test_air_is_in_the_sinuses_and_not_in_the_brain(head, affine):
    """Cavities keep clear of the brain; the sphenoid sinus is enclosed by the head."""
    assert np.all(head.chi[head.region > 0.99] < 0.5)
    inside = np.rint(np.linalg.inv(affine) @ [0, 13, -45, 1]).astype(int)[:3]
    assert head.pd[tuple(inside)] < 0.1
    assert head.chi[tuple(inside)] > 8


def test_ventricles_are_csf(close_up):
    """Most of their voxels are pure: no susceptibility of their own and a long T1."""
    pure = ndimage.binary_erosion(close_up.labels == INDEX["lateral_ventricle"])
    assert pure.sum() > 300
    assert np.abs(np.median(close_up.chi[pure])) < 2e-3
    assert np.median(close_up.t1[pure]) > 3.5


def test_nuclei_have_their_susceptibility(close_up):
    """A voxel from their surface, nuclei have the subject's values; veins that run there do not
    count.
    """
    for name, chi in average_subject().chi.items():
        pure = ndimage.binary_erosion(close_up.labels == INDEX[f"left_{name}"])
        assert np.median(close_up.chi[pure]) == pytest.approx(chi, abs=1e-3), name


def test_splenium_lies_across_the_middle_of_the_corpus_callosum():
    """About 24 mm wide, its middle near MNI coordinates (0, −38, 16) mm, and white matter only."""
    shape = (60, 50, 50)
    affine = scan_affine(shape, (1, 1, 1), centre=(0, -38, 16))
    head = head_model(average_subject(), shape, affine)
    splenium = head.labels == INDEX["splenium"]
    points = np.argwhere(splenium) @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), (0, -38, 16), atol=1)
    assert np.ptp(points[:, 0]) == pytest.approx(24, abs=2)
    assert 0.7 < splenium.sum() / 1000 < 2  # mL
    assert ndimage.label(splenium)[1] == 1
    white_matter = anatomy()["tissues"]["white_matter"]
    np.testing.assert_allclose(head.chi[splenium], white_matter["chi"], atol=2e-3)
    np.testing.assert_allclose(head.r2s[splenium], white_matter["r2s"], atol=0.5)


def test_parts_change_nothing_but_the_label_of_their_tissue(head, affine, monkeypatch):
    monkeypatch.setitem(anatomy(), "parts", {})
    without = head_model(average_subject(), SHAPE, affine)
    for name in ("chi", "r2s", "pd", "t1", "region"):
        np.testing.assert_array_equal(getattr(head, name), getattr(without, name))
    is_splenium = head.labels == INDEX["splenium"]
    assert is_splenium.any()
    labels = np.where(is_splenium, INDEX["white_matter"], head.labels)
    np.testing.assert_array_equal(labels, without.labels)


def test_finer_grid_shows_the_same_head(head, affine):
    """Averaging a grid twice as fine gives the coarse one: within 6 % of the susceptibility's
    spread.
    """
    fine = head_model(
        average_subject(), tuple(2 * n for n in SHAPE), subgrid_affine(affine, (2, 2, 2))
    )
    error = block_mean(fine.chi, (2, 2, 2)) - head.chi
    assert abs(error.mean()) < 0.02 * head.chi.std()
    assert error.std() < 0.06 * head.chi.std()
    assert block_mean(fine.region, (2, 2, 2)).sum() == pytest.approx(head.region.sum(), rel=5e-3)


def test_pose_moves_the_head(head, affine):
    """Rotating head and image together changes nothing but rounding."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    pose[:3, 3] = 3, -4, 6
    moved = head_model(average_subject(), SHAPE, pose @ affine, pose=pose)
    np.testing.assert_allclose(moved.chi, head.chi, atol=5e-3)


def test_threads_do_not_change_the_head(head, affine):
    again = head_model(average_subject(), SHAPE, affine, workers=3)
    np.testing.assert_array_equal(again.chi, head.chi)
    np.testing.assert_array_equal(again.labels, head.labels)


def test_people_differ_and_seeds_repeat(affine):
    person = draw_subject((1, 0), 30.0)
    same = draw_subject((1, 0), 30.0)
    stranger = draw_subject((2, 0), 30.0)
    assert person.chi == same.chi
    np.testing.assert_array_equal(person.amplitudes, same.amplitudes)
    brain = head_model(person, SHAPE, affine).region > 0.5
    brain_of_stranger = head_model(stranger, SHAPE, affine).region > 0.5
    dice = 2 * (brain & brain_of_stranger).sum() / (brain.sum() + brain_of_stranger.sum())
    assert 0.85 < dice < 0.99


def test_warp_does_not_fold():
    """The displacement changes by less than half a millimetre per millimetre, whoever is drawn."""
    for seed in range(200):
        person = draw_subject(seed, 30.0)
        steepest = np.abs(person.amplitudes).T @ np.abs(person.wave_vectors)
        assert np.linalg.norm(steepest, 2) < 0.5


def test_normal_range_and_age():
    """Over many people nuclei have the mean, spread and slope of the anatomy file."""
    ages = np.random.default_rng(0).uniform(20, 60, 1000)
    people = [draw_subject([5, i], age) for i, age in enumerate(ages)]
    for name, nucleus in anatomy()["nuclei"].items():
        chi = np.array([p.chi[name] for p in people])
        slope, level = np.polyfit(ages - anatomy()["reference_age"], chi, 1)
        residual = chi - np.polyval([slope, level], ages - anatomy()["reference_age"])
        error = nucleus["chi_sd"] / np.sqrt(len(ages))
        assert slope == pytest.approx(nucleus["chi_per_year"], abs=4 * error / ages.std()), name
        assert level == pytest.approx(nucleus["chi_mean"], abs=8 * error), name
        assert residual.std() == pytest.approx(nucleus["chi_sd"], rel=0.1), name


def test_every_tissue_names_its_source():
    described = []
    for group in ("tissues", "nuclei", "parts"):
        described.extend(anatomy()[group].values())
    for description in described:
        assert re.search(r"\b(19|20)\d\d\b|our choice", description["source"]), description[
            "source"
        ]


@pytest.mark.parametrize(
    ("name", "r"),
    [
        ("caudate_nucleus", 0.0),
        ("putamen", 0.40),
        ("globus_pallidus", 0.35),
        ("red_nucleus", 0.47),
        ("substantia_nigra", 0.20),
    ],
)
def test_susceptibility_correlates_with_age_as_published(name, r):
    """Lin et al. (2015), in people whose ages have a standard deviation of 5 years."""
    nucleus = anatomy()["nuclei"][name]
    explained = 5 * nucleus["chi_per_year"]
    assert explained / np.hypot(explained, nucleus["chi_sd"]) == pytest.approx(r, abs=0.005)


def test_distance_to_an_ellipsoid():
    """Along its rotated axes, the surface is at the semi-axes."""
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2])
    ellipsoid = [1, 2, 3, 4, 5, 6, *turn.as_rotvec()]
    tips = np.array([1, 2, 3]) + turn.apply(np.diag([4.0, 5.0, 6.0]))
    np.testing.assert_allclose(ellipsoid_distance(np.float32(tips.T), ellipsoid), 0, atol=1e-5)
    beyond = np.array([1, 2, 3]) + turn.apply(np.diag([4.1, 5.1, 6.1]))
    np.testing.assert_allclose(ellipsoid_distance(np.float32(beyond.T), ellipsoid), 0.1, atol=5e-3)


def test_distance_to_a_tube():
    """A cone's radius changes along its axis; its ends are round."""
    tube = [[0, 0, 0, 1.0], [10, 0, 0, 3.0]]
    points = np.float32([[5, 2, 0], [0, 4, 0], [-3, 0, 0], [14, 0, 0]]).T
    np.testing.assert_allclose(tube_distance(points, tube), [0, 3, 2, 1], atol=1e-6)


@pytest.mark.slow
def test_scan_of_a_head():
    """A coarse scan as a radiologist expects it.

    Shimmed to a fraction of a ppm but for wraps near the sinuses; white matter decays with its R2*,
    the pallidum faster; the image's grid gives the local field of the brain's own susceptibility to
    20 %.
    """
    protocol = Protocol((70, 80, 40), (3.0, 3.0, 3.5), (0.006, 0.018, 0.036))
    affine = scan_affine(protocol.shape, protocol.voxel_size, centre=(0, -18, 12))
    model = partial(head_model, draw_subject(3, 30.0))
    scan = acquire(magnetize(model, affine, protocol.shape), protocol, seed=4)
    assert 0.05 < scan.total_field[scan.mask].std() < 0.5
    # turns: wraps
    assert np.abs(scan.total_field[scan.mask]).max() * protocol.imaging_frequency * 0.036 > 1
    decay = np.abs(scan.signal[..., 2]) / np.abs(scan.signal[..., 0])
    white = np.median(decay[scan.labels == INDEX["white_matter"]])
    assert white == pytest.approx(np.exp(-18.8 * 0.030), rel=0.1)
    pallidum = np.isin(scan.labels, [INDEX["left_globus_pallidus"], INDEX["right_globus_pallidus"]])
    assert np.median(decay[pallidum]) < 0.8 * white
    own = forward_field(np.where(scan.mask, scan.chi, 0), protocol.voxel_size)
    deep = ndimage.binary_erosion(scan.mask, iterations=2)
    assert np.corrcoef(own[deep], scan.local_field[deep])[0, 1] > 0.95
    assert (own - scan.local_field)[deep].std() < 0.25 * scan.local_field[deep].std()
