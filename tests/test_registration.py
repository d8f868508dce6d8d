"""Registration finds motions that were put in by evaluating a function elsewhere, not by any resampling."""

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.transform import Rotation

from multiqsm.core.fieldfit import combine_magnitude
from multiqsm.core.registration import (
    displacement,
    itk_text,
    mid_space,
    read_itk_text,
    register_affine_nmi,
    register_rigid,
    register_rigid_nmi,
    rigid_mean,
)
from multiqsm.simulation.study import make_design, simulate

SHAPE = (52, 60, 40)
VOXEL = (3.0, 3.0, 3.5)
AXES = np.array([70.0, 85.0, 62.0]) * 0.8
TISSUES = {"gre": (0.45, 0.7, 1.0), "t1w": (0.3, 1.0, 0.65)}  # fluid, and two kinds within


def motion(rotation, translation):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def affine_of(rotation=(0, 0, 0), centre=(0, 0, 0), shape=SHAPE, axes=None):
    affine = np.eye(4)
    axes = np.eye(3) if axes is None else axes
    affine[:3, :3] = Rotation.from_rotvec(rotation, degrees=True).as_matrix() @ axes * VOXEL
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def depth(points):
    """1 at the centre of the brain, 0 at its surface."""
    return 1 - np.linalg.norm(points / AXES[:, None], axis=0)


def anatomy(points, contrast="gre"):
    """An ellipsoid with folds, two ventricles and a shell around it, evaluated at points (3, n) in mm."""
    fluid, one, other = TISSUES[contrast]
    x, y, z = points
    folds = np.sin(x / 9 + np.sin(z / 14)) + np.sin(y / 11 + 1 + np.sin(x / 17)) + np.sin(z / 10 + y / 30)
    share = 1 / (1 + np.exp(-3 * folds))
    value = one + (other - one) * share
    for side in (-1, 1):
        distance = np.linalg.norm((points - np.array([[side * 13.0], [4.0], [6.0]])) / [[7.0], [22.0], [9.0]], axis=0)
        value = fluid + (value - fluid) / (1 + np.exp(-12 * (distance - 1)))
    d = depth(points)
    brain = 1 / (1 + np.exp(-60 * d))
    scalp = np.exp(-(((d + 0.17) / 0.05) ** 2))
    return value * brain + 0.8 * scalp


def scan(pose=None, affine=None, *, contrast="gre", bias=0.0, noise=0.0, seed=0, shape=SHAPE, stretch=None):
    """Image of the head at a pose in the scanner, voxel means by eight samples each; affine and mask with it."""
    pose = np.eye(4) if pose is None else pose
    affine = affine_of() if affine is None else affine
    back = np.linalg.inv(pose if stretch is None else pose @ stretch)
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    image = 0
    for corner in np.ndindex(2, 2, 2):
        points = affine[:3, :3] @ (index + np.reshape(corner, (3, 1)) / 2 - 0.25) + affine[:3, 3:]
        image = image + anatomy(back[:3, :3] @ points + back[:3, 3:], contrast) / 8
    rng = np.random.default_rng(seed)
    a, b, c, d = bias * rng.standard_normal(4)
    x, y, z = world / 100
    image = image * np.exp(a * x + b * y + c * z + d * (x**2 - z**2))
    image += noise * rng.standard_normal(image.shape)
    inside = depth(back[:3, :3] @ world + back[:3, 3:]) > 0
    return image.reshape(shape).astype(np.float32), affine, inside.reshape(shape)


def points_of(affine, mask):
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


POSES = [motion((4, -6, 5), (6, -9, 12)), motion((-8, 3, 2), (-5, 4, -10))]
FLIPPED = np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]])


# ----------------------------------------------------------------------------------------------------------
# Same contrast
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("axes", [None, FLIPPED])
def test_motion_between_two_sites(pose, axes):
    """Another head position, prescription, coil, noise and gain: 0.05 mm at voxels of 3 mm."""
    fixed, fixed_affine, mask = scan(bias=0.3, noise=0.02, seed=1)
    shape = SHAPE if axes is not FLIPPED else (64, 44, 60)
    where = affine_of((3, 2, -4), pose[:3, 3], shape, axes)
    moving, moving_affine, _ = scan(pose, where, bias=0.3, noise=0.02, seed=2, shape=shape)
    fit = register_rigid(70 * moving, moving_affine, fixed, fixed_affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(fixed_affine, mask)) < 0.05
    np.testing.assert_allclose(fit.matrix[:3, :3] @ fit.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert fit.correlation > 0.95
    assert fit.residual < 0.05
    assert fit.overlap > 0.9


def test_signal_void_and_vessels_have_no_say():
    """A void as above the sinuses and bright vessels in one image only pull the fit by less than 0.1 mm."""
    pose = POSES[0]
    fixed, affine, mask = scan(noise=0.01, seed=1)
    moving, moving_affine, _ = scan(pose, affine_of(centre=pose[:3, 3]), noise=0.01, seed=2)
    moving[18:34, 40:52, 4:16] *= 0.2
    rng = np.random.default_rng(3)
    moving[tuple(rng.integers(0, SHAPE[a], 400) for a in range(3))] *= 2.5
    fit = register_rigid(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.1


def test_bias_must_be_modelled():
    fixed, affine, mask = scan()
    moving, _, _ = scan(bias=0.6, seed=5)
    with_bias, without = (
        displacement(
            register_rigid(moving, affine, fixed, affine, fixed_mask=mask, bias_degree=degree).matrix,
            np.eye(4),
            points_of(affine, mask),
        )
        for degree in (3, 0)
    )
    assert with_bias < 0.02
    assert without > 3 * with_bias


def test_scanner_whose_origin_is_elsewhere():
    """Images that do not overlap at first are brought together by their centres of intensity."""
    fixed, affine, mask = scan()
    pose = motion((3, 4, -2), (400, -300, 900))
    moving, moving_affine, _ = scan(pose, affine_of(centre=(400, -300, 900)))
    fit = register_rigid(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.02


def test_good_start_needs_few_steps():
    fixed, affine, mask = scan()
    moving, moving_affine, _ = scan(POSES[0], affine_of(centre=POSES[0][:3, 3]))
    near, far = (
        register_rigid(moving, moving_affine, fixed, affine, fixed_mask=mask, start=start) for start in (POSES[0], None)
    )
    assert near.n_iterations < far.n_iterations
    assert displacement(near.matrix, far.matrix, points_of(affine, mask)) < 5e-3


def test_failures_say_why():
    fixed, affine, mask = scan()
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match=r"correlate|converge|overlap"):
        register_rigid(noise, affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="overlap"):
        register_rigid(fixed[:12], affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="mask is empty"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=~np.ones(SHAPE, bool))
    with pytest.raises(ValueError, match="not finite"):
        register_rigid(np.full(SHAPE, np.nan), affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="shape"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=mask[1:])
    with pytest.raises(ValueError, match="rigid"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=mask, start=np.diag([2.0, 1, 1, 1]))


@pytest.mark.slow
def test_simulated_scans_of_two_sites():
    """The head where the simulator put it, in scans with coils, shim, noise and dropout of two scanners."""
    plans = make_design("demo", subjects=1, runs=1, sites=["A", "C"], voxel_size=(4.0, 4.0, 4.0)).plans
    scans = [simulate(plan) for plan in plans]
    fixed, moving = (combine_magnitude(np.abs(s.signal)) for s in scans)
    fit = register_rigid(moving, scans[1].affine, fixed, scans[0].affine, fixed_mask=scans[0].mask)
    truth = plans[1].position.matrix @ np.linalg.inv(plans[0].position.matrix)
    points = points_of(scans[0].affine, scans[0].mask)
    assert displacement(truth, np.eye(4), points) > 3
    assert displacement(truth, fit.matrix, points) < 0.1


# ----------------------------------------------------------------------------------------------------------
# Other contrasts
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_motion_across_contrasts(bias):
    """0.2 mm at voxels of 3 mm, also if a coil shades one image."""
    pose = POSES[0]
    fixed, affine, mask = scan(bias=bias, noise=0.02, seed=1)
    where = affine_of((-2, 3, 4), pose[:3, 3] + 3)
    moving, moving_affine, _ = scan(pose, where, contrast="t1w", noise=0.02, seed=2)
    fit = register_rigid_nmi(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.2
    assert 1.05 < fit.nmi < 2
    assert fit.overlap > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("degrees_of_freedom", [9, 12])
def test_head_of_another_size(degrees_of_freedom):
    pose = motion((3, -4, 2), (5, -8, 6))
    stretch = np.diag([1.05, 0.96, 1.03, 1.0])
    if degrees_of_freedom == 12:
        stretch[0, 1] = 0.03
    fixed, affine, mask = scan(noise=0.01, seed=1)
    moving, moving_affine, _ = scan(pose, affine_of(centre=(5, -8, 6)), contrast="t1w", stretch=stretch, noise=0.01)
    options = {"fixed_mask": mask, "degrees_of_freedom": degrees_of_freedom}
    fit = register_affine_nmi(moving, moving_affine, fixed, affine, **options)
    assert displacement(fit.matrix, pose @ stretch, points_of(affine, mask)) < 0.3
    rigid = register_rigid_nmi(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert rigid.nmi < fit.nmi


def test_nmi_is_the_same_twice():
    fixed, affine, mask = scan(noise=0.02)
    moving, _, _ = scan(contrast="t1w", noise=0.02, seed=1)
    fits = [register_rigid_nmi(moving, affine, fixed, affine, fixed_mask=mask, fwhm=(12.0, 6.0)) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].matrix, fits[1].matrix)


def test_nmi_failures_say_why():
    fixed, affine, mask = scan()
    with pytest.raises(ValueError, match="degrees of freedom"):
        register_affine_nmi(fixed, affine, fixed, affine, fixed_mask=mask, degrees_of_freedom=7)
    with pytest.raises(ValueError, match="constant"):
        register_rigid_nmi(np.ones(SHAPE), affine, fixed, affine, fixed_mask=mask)
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="explain"):
        register_rigid_nmi(noise, affine, fixed, affine, fixed_mask=mask, fwhm=(3.0,), min_nmi=1.03)


# ----------------------------------------------------------------------------------------------------------
# The middle between scans
# ----------------------------------------------------------------------------------------------------------


def test_mean_of_rigid_transforms():
    a, b = (motion((10, 0, -20), (3, 4, 5)), motion((-5, 8, 30), (-2, 0, 9)))
    half = a @ linalg.expm(linalg.logm(np.linalg.inv(a) @ b).real / 2)
    np.testing.assert_allclose(rigid_mean([a, b]), half, atol=1e-9)
    c = motion((0, 30, 0), (1, 1, 1))
    mean, shift = rigid_mean([a, b, c]), motion((40, 20, 10), (100, 50, 20))
    total = sum(linalg.logm(np.linalg.inv(mean) @ t).real for t in (a, b, c))
    np.testing.assert_allclose(total, 0, atol=1e-8)
    np.testing.assert_allclose(rigid_mean([shift @ t for t in (a, b, c)]), shift @ mean, atol=1e-8)
    np.testing.assert_allclose(rigid_mean([np.linalg.inv(t) for t in (a, b, c)]), np.linalg.inv(mean), atol=1e-8)


@pytest.fixture(scope="module")
def three_scans():
    poses = [np.eye(4), *POSES]
    wheres = [affine_of(), affine_of((3, -5, 4), POSES[0][:3, 3]), affine_of((-6, 2, 1), POSES[1][:3, 3])]
    made = [scan(p, w, bias=0.2, noise=0.02, seed=k) for k, (p, w) in enumerate(zip(poses, wheres, strict=True))]
    return poses, [list(x) for x in zip(*made, strict=True)]


@pytest.mark.slow
def test_mid_space_favours_no_scan(three_scans):
    """Transforms are those put in, their logarithms sum to nothing, and the order of the scans does not matter."""
    poses, (images, affines, masks) = three_scans
    found = mid_space(images, affines, masks)
    assert found.causes == [None] * 3
    np.testing.assert_allclose(sum(linalg.logm(t).real for t in found.transforms), 0, atol=1e-6)
    first = points_of(affines[0], masks[0])
    for transform, pose in zip(found.transforms, poses, strict=True):
        assert displacement(transform @ np.linalg.inv(found.transforms[0]), pose, first) < 0.05
    assert max(found.residuals) < 0.05
    np.testing.assert_allclose(np.linalg.norm(found.affine[:3, :3], axis=0), VOXEL)
    inner = points_of(found.affine, found.mask)
    backward = mid_space(images[::-1], affines[::-1], masks[::-1])
    for one, other in zip(found.transforms, backward.transforms[::-1], strict=True):
        assert displacement(one, other, inner) < 0.05


def test_mid_space_average_is_the_head(three_scans):
    """The average holds all masks, has less noise than a scan, and lies where its affine says."""
    _, (images, affines, masks) = three_scans
    found = mid_space(images, affines, masks, voxel_size=(2.5, 2.5, 2.5))
    np.testing.assert_allclose(np.linalg.norm(found.affine[:3, :3], axis=0), 2.5)
    assert found.average.shape == found.mask.shape == found.shape
    volume = found.mask.sum() * 2.5**3
    np.testing.assert_allclose(volume, masks[0].sum() * np.prod(VOXEL), rtol=0.01)
    assert not any(found.mask.take(end, axis).any() for axis in range(3) for end in (0, -1))
    world = points_of(found.affine, found.mask).T
    to_head = found.transforms[0]  # the first scan's pose is the identity
    truth = anatomy(to_head[:3, :3] @ world + to_head[:3, 3:])
    assert np.corrcoef(truth, found.average[found.mask])[0, 1] > 0.97


@pytest.mark.slow
def test_scan_that_fails_does_not_take_down_the_others(three_scans):
    poses, (images, affines, masks) = three_scans
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    blank = np.full(SHAPE, np.nan, np.float32)
    # The first scan is the reference at first: it is noise.
    found = mid_space([noise, *images, blank], [affine_of(), *affines, affine_of()], [masks[0], *masks, masks[0]])
    assert [t is None for t in found.transforms] == [True, False, False, False, True]
    assert [c is None for c in found.causes] == [False, True, True, True, False]
    assert "not registered to scan 2" in found.causes[0]
    assert "not finite" in found.causes[4]
    assert np.isnan(found.residuals[0])
    between = found.transforms[2] @ np.linalg.inv(found.transforms[1])
    assert displacement(between, poses[1], points_of(affines[0], masks[0])) < 0.05


def test_one_scan_stays_as_it_is():
    image, affine, mask = scan(POSES[0])
    found = mid_space([image], [affine], [mask])
    np.testing.assert_array_equal(found.affine, affine)
    np.testing.assert_array_equal(found.transforms[0], np.eye(4))
    np.testing.assert_allclose(found.average * np.median(image[mask]), image, rtol=1e-5)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.shape == SHAPE
    assert found.residuals == [0.0]


def test_axes_in_another_order_do_not_turn_the_grid():
    shape = (64, 44, 60)
    one, two = scan(), scan(POSES[1], affine_of((2, 1, 3), POSES[1][:3, 3], shape, FLIPPED), shape=shape)
    found = mid_space(*zip(one, two, strict=True))
    assert found.causes == [None, None]
    assert np.all(np.diag(found.affine)[:3] > 0.9 * np.array(VOXEL))


def test_mid_space_of_nothing():
    image, affine, mask = scan()
    with pytest.raises(ValueError, match="at least one"):
        mid_space([], [], [])
    with pytest.raises(ValueError, match="none of the scans can be used"):
        mid_space([image], [affine], [~np.ones(SHAPE, bool)])
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="no two"):
        mid_space([image, noise], [affine, affine], [mask, mask])


# ----------------------------------------------------------------------------------------------------------
# ITK's text
# ----------------------------------------------------------------------------------------------------------


def test_itk_text_by_hand():
    """Half a turn about z is the same in LPS; a quarter about x turns the other way round there."""
    quarter = motion((90, 0, 0), (1, 2, 3))
    numbers = [float(v) for v in itk_text(quarter).splitlines()[3].split()[1:]]
    np.testing.assert_allclose(numbers, [1, 0, 0, 0, 0, 1, 0, -1, 0, -1, -2, 3], atol=1e-12)
    assert itk_text(np.eye(4)).startswith("#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform")


def test_itk_text_is_read_back():
    np.testing.assert_allclose(read_itk_text(itk_text(POSES[0])), POSES[0], atol=1e-14)
    text = itk_text(POSES[0]).replace("FixedParameters: 0.0 0.0 0.0", "FixedParameters: 10 20 30")
    # About a centre c: y = A (x - c) + c + t.
    turn, centre = POSES[0][:3, :3], np.array([-10, -20, 30])
    np.testing.assert_allclose(read_itk_text(text)[:3, 3], POSES[0][:3, 3] + centre - turn @ centre, atol=1e-12)


def test_itk_text_as_nitransforms_reads_it(tmp_path):
    linear = pytest.importorskip("nitransforms.linear")
    path = tmp_path / "transform.txt"
    path.write_text(itk_text(POSES[0]))
    np.testing.assert_allclose(linear.load(path, fmt="itk").matrix, POSES[0], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 0 0 0",
        itk_text(np.eye(4)).replace("AffineTransform_double_3_3", "Euler3DTransform_double_3_3"),
        itk_text(np.eye(4)).replace("Parameters: 1.0 0.0", "Parameters: 1.0"),
        itk_text(np.eye(4)).replace("#Transform 0\n", "#Transform 0\nTransform: TranslationTransform_double_3_3\n"),
    ],
)
def test_what_is_no_itk_affine_is_refused(text):
    with pytest.raises(ValueError, match=r"ITK|parameters"):
        read_itk_text(text)
