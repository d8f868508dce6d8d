"""Points of a subject and of a template are related as put in, and images are taken from where the
relation says.
"""

import sys

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import world
from helpers.analytic_head import SHAPE, affine_of, depth, motion, points_of, scan
from scipy import ndimage

from multiqsm.core.registration.resampling import resample, resample_labels
from multiqsm.core.registration.template import (
    DisplacementField,
    labels_from_template,
    map_to_template,
    register_template,
)
from multiqsm.core.registration.transforms import displacement, itk_text, read_itk_text
from multiqsm.dataset.atlas import load_mni_template
from multiqsm.interfaces.images import read_volume
from multiqsm.interfaces.template import LabelsFromTemplate, MapToTemplate, _read_warp, _write_warp

MATRIX = motion((4, -3, 5), (6, -9, 12)) @ np.diag([1.05, 0.96, 1.03, 1])
GRID = affine_of()


def moved(points, matrix):
    return matrix[:3, :3] @ points + matrix[:3, 3:]


def bend(points):
    """A displacement of up to 4 mm that does not fold."""
    x, y, z = points
    return 2.5 * np.stack([np.sin(y / 25 + 0.3), np.cos(z / 30 + x / 60), np.sin(x / 28 - 0.4)])


def rise(points):
    return np.zeros_like(points) + np.array([[0], [0], [6]])


def field_of(function, affine=GRID, shape=SHAPE):
    vectors = function(world(affine, shape)).astype(np.float32)
    return DisplacementField(np.moveaxis(vectors.reshape(3, *shape), 0, 3), affine)


def test_displacement_between_voxels():
    field = field_of(lambda points: 0.1 * points)
    points = np.array([[1.0, -20, 500], [2, 30, 0], [3, 7, 0]])
    np.testing.assert_allclose(field.at(points)[:, :2], 0.1 * points[:, :2], rtol=1e-5)
    np.testing.assert_array_equal(field.at(points)[:, 2], 0)  # beyond the grid


def test_without_warp_labels_are_those_of_the_affine():
    rng = np.random.default_rng(0)
    blocks = (
        rng.integers(0, 5, (13, 15, 10)).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.int16)
    )
    fine = affine_of((5, 0, 3), centre=(6, -9, 12))
    found = labels_from_template(blocks, fine, GRID, (40, 50, 30), MATRIX)
    expected = resample_labels(blocks, fine, GRID, (40, 50, 30), transform=MATRIX)
    assert found.dtype == np.int16
    assert np.mean(found != expected) < 1e-4  # rounding where shares are equal


def test_labels_through_a_warp():
    """Balls in the template are found where the subject's points, warped, lie in them."""
    template = world(affine_of(shape=(90, 90, 70), axes=np.eye(3) / 2), (90, 90, 70))
    centres = {3: (-10.0, 5, 0), 9: (12.0, -8, 6)}

    def balls(points):
        label = np.zeros(points.shape[1], np.uint8)
        for value, centre in centres.items():
            label[np.linalg.norm(points - np.reshape(centre, (3, 1)), axis=0) < 9] = value
        return label

    labels = balls(template).reshape(90, 90, 70)
    affine = affine_of(shape=(90, 90, 70), axes=np.eye(3) / 2)
    small = np.diag([0.95, 1.02, 0.97, 1.0])
    small[:3, 3] = 2, -1, 1
    found = labels_from_template(labels, affine, GRID, SHAPE, small, to_template=field_of(bend))
    points = moved(world(GRID, SHAPE), small)
    truth = balls(points + bend(points)).reshape(SHAPE)
    for value in centres:
        agreed = (
            2
            * np.sum((found == value) & (truth == value))
            / np.sum((found == value) + 0 + (truth == value))
        )
        assert agreed > 0.94
    assert set(np.unique(found)) == {0, 3, 9}


def test_map_through_a_warp():
    """Each voxel of the template shows the subject's value at A⁻¹ (t + e(t)), and nothing from
    beyond the mask.
    """

    def smooth(points):
        return np.sin(points[0] / 15) * np.cos(points[1] / 17 + points[2] / 20)

    volume = smooth(world(GRID, SHAPE)).reshape(SHAPE).astype(np.float32)
    mask = (depth(world(GRID, SHAPE)) > 0).reshape(SHAPE)
    volume[~mask] = np.nan
    target, shape = affine_of((3, 0, 2), (6, -9, 12), (40, 44, 36)), (40, 44, 36)
    options = {"from_template": field_of(bend, target, shape), "mask": mask, "fill": np.nan}
    found = map_to_template(volume, GRID, target, shape, MATRIX, **options)
    points = world(target, shape)
    source = moved(points + bend(points), np.linalg.inv(MATRIX))
    inner, outer = depth(source).reshape(shape) > 0.1, depth(source).reshape(shape) < -0.1
    np.testing.assert_allclose(found[inner], smooth(source).reshape(shape)[inner], atol=0.01)
    assert np.isnan(found[outer]).all()
    still = map_to_template(volume, GRID, target, shape, MATRIX, mask=mask, fill=np.nan)
    zero = map_to_template(
        volume,
        GRID,
        target,
        shape,
        MATRIX,
        **(options | {"from_template": field_of(np.zeros_like)}),
    )
    np.testing.assert_allclose(zero[inner], still[inner], atol=5e-3)  # the splines begin elsewhere
    assert np.isfinite(still).sum() > 10_000


def template_of_head():
    """The head without its skull as T1-weighted template."""
    image, affine, mask = scan(contrast="t1w")
    return np.where(mask, image, 0), affine, mask


@pytest.mark.slow
def test_affine_between_subject_and_template():
    subject, affine, mask = scan(noise=0.01, bias=0.2, seed=3)
    # Another affine of the same voxels is the same head elsewhere.
    pose = motion((4, -6, 5), (6, -9, 12)) @ np.diag([1.04, 0.97, 1.02, 1])
    fit = register_template(*template_of_head(), subject, pose @ affine, mask)
    assert (fit.to_template, fit.from_template) == (None, None)
    assert displacement(fit.matrix, np.linalg.inv(pose), points_of(pose @ affine, mask)) < 0.5


@pytest.mark.slow
def test_warp_between_subject_and_template():
    """The opposite contrast is drawn nearer than by any affine, and the two directions are
    inverses.
    """
    pytest.importorskip("dipy")
    t1, affine, mask = load_mni_template()
    points = world(affine, t1.shape)
    voxels = moved(points + bend(points), np.linalg.inv(affine))
    bent = ndimage.map_coordinates(t1, voxels, order=3).reshape(t1.shape)
    inside = ndimage.map_coordinates(mask.astype(float), voxels, order=1).reshape(t1.shape) > 0.5
    fit = register_template(
        t1, affine, mask, np.where(inside, 1.6 - bent, 0), affine, inside, nonlinear=True
    )
    some = points_of(affine, inside)[::20].T
    truth = some + bend(some)
    straight = moved(some, fit.matrix)
    warped = straight + fit.to_template.at(straight)
    before, after = (np.linalg.norm(found - truth, axis=0).mean() for found in (straight, warped))
    assert before > 0.8
    assert after < 0.85 * before
    back = moved(warped + fit.from_template.at(warped), np.linalg.inv(fit.matrix))
    assert np.linalg.norm(back - some, axis=0).mean() < 0.05


def test_warp_without_dipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dipy.align", None)
    with pytest.raises(ModuleNotFoundError, match=r"multiqsm\[template\]"):
        register_template(*template_of_head(), *template_of_head(), nonlinear=True)


def test_unusable_input_says_why():
    image, affine, mask = template_of_head()
    with pytest.raises(ValueError, match="template's mask"):
        register_template(image, affine, ~np.ones(SHAPE, bool), image, affine, mask)
    with pytest.raises(ValueError, match="integers"):
        labels_from_template(image, affine, affine, SHAPE, np.eye(4))
    options = {"from_template": field_of(np.zeros_like)}
    with pytest.raises(ValueError, match="not finite"):
        map_to_template(np.full(SHAPE, np.nan), affine, affine, SHAPE, np.eye(4), **options)
    with pytest.raises(ValueError, match="empty"):
        map_to_template(
            image, affine, affine, SHAPE, np.eye(4), mask=~np.ones(SHAPE, bool), **options
        )


# ------------------------------------------------------------------------------
# Nodes
# ------------------------------------------------------------------------------


def test_warp_file_as_nitransforms_reads_it(tmp_path):
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    field = field_of(bend)
    path = _write_warp(tmp_path / "warp.nii.gz", field)
    np.testing.assert_allclose(_read_warp(path).vectors, field.vectors, rtol=1e-6)
    assert _write_warp(tmp_path / "none.nii.gz", None) is None
    points = np.array([[3.0, -6, 9], [15, 21, -12], [-20, 10, 5]])
    theirs = nonlinear.load(path, fmt="itk").map(points)
    np.testing.assert_allclose(theirs, points + field.at(points.T).T, atol=0.05)


def test_map_of_a_scan_in_the_template(tmp_path, monkeypatch):
    """Scan to subject, affine and warp are joined: a bump is where the three shifts, by hand, put
    it.
    """
    monkeypatch.chdir(tmp_path)
    affine = np.diag([2.0, 2, 2, 1])
    points = world(affine, (30, 30, 30))
    bump = np.exp(-(np.linalg.norm(points - np.array([[24.0], [30], [36]]), axis=0) ** 2) / 50)
    nib.save(nib.Nifti1Image(bump.reshape(30, 30, 30).astype(np.float32), affine), "map.nii")
    shifts = {"scan.txt": (4, 0, 0), "affine.txt": (0, -20, 0)}
    for name, shift in shifts.items():
        (tmp_path / name).write_text(itk_text(motion((0, 0, 0), shift)))
    # t + e(t) = s + (0, -20, 0), and the scan's point is s + (4, 0, 0).
    warp = _write_warp(tmp_path / "warp.nii.gz", field_of(rise, affine_of(centre=(20, 10, 30))))
    node = MapToTemplate(
        in_file="map.nii", transform_file="affine.txt", scan_transform_file="scan.txt"
    )
    node.inputs.from_template_file = warp
    data, image = read_volume(node.run().outputs.out_file)
    assert image.shape == load_mni_template()[0].shape
    assert int(image.header["sform_code"]) == 4
    peak = image.affine @ [*np.unravel_index(np.nanargmax(data), data.shape), 1]
    np.testing.assert_allclose(peak[:3], (20, 10, 30), atol=1)
    assert np.isnan(data[0, 0, 0])


@pytest.mark.slow
def test_labels_of_an_atlas_on_a_subject(tmp_path, monkeypatch):
    """The template itself, in another world and as gradient echoes would show it, gets its own
    labels.
    """
    monkeypatch.chdir(tmp_path)
    t1, affine, mask = load_mni_template()
    pose = motion((5, 3, -6), (10, 20, -15))
    like = nib.Nifti1Image(np.where(mask, 1.6 - t1, 0.0).astype(np.float32), pose @ affine)
    nib.save(like, "average.nii")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), pose @ affine), "mask.nii")
    points = world(affine, t1.shape)
    labels = np.zeros(points.shape[1], np.int16)
    for value, centre in {4: (-25.0, 4, 2), 7: (25.0, 4, 2)}.items():
        labels[np.linalg.norm(points - np.reshape(centre, (3, 1)), axis=0) < 8] = value
    labels = labels.reshape(t1.shape)
    nib.save(nib.Nifti1Image(labels, affine), "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n4\tleft_putamen\n7\tright_putamen\n")
    found = (
        LabelsFromTemplate(average_file="average.nii", mask_file="mask.nii", atlas="atlas.nii.gz")
        .run()
        .outputs
    )
    assert found.names == {4: "left_putamen", 7: "right_putamen"}
    assert (found.to_template_file, found.from_template_file, found.notes) == (None, None, [])
    matrix = read_itk_text((tmp_path / "transform.txt").read_text())
    assert displacement(matrix, np.linalg.inv(pose), points_of(pose @ affine, mask)) < 0.3
    values = np.asarray(nib.load(found.labels_file).dataobj)
    for value in (4, 7):
        assert 2 * np.sum((values == value) & (labels == value)) > 0.95 * np.sum(
            (values == value).astype(int) + (labels == value)
        )
    back = MapToTemplate(
        in_file="average.nii", mask_file="mask.nii", transform_file=found.transform_file
    ).run()
    data, _ = read_volume(back.outputs.out_file)
    known = np.isfinite(data)
    assert (
        np.corrcoef(data[known], resample(1.6 - t1, affine, affine, t1.shape)[known])[0, 1] > 0.98
    )
