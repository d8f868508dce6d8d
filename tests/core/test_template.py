"""Registration to a template recovers known transforms, and images are resampled accordingly."""

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
    """Return displacements of up to 4 mm that do not fold."""
    x, y, z = points
    return 2.5 * np.stack([np.sin(y / 25 + 0.3), np.cos(z / 30 + x / 60), np.sin(x / 28 - 0.4)])


def rise(points):
    return np.zeros_like(points) + np.array([[0], [0], [6]])


def field_of(function, affine=GRID, shape=SHAPE):
    vectors = function(world(affine, shape)).astype(np.float32)
    return DisplacementField(np.moveaxis(vectors.reshape(3, *shape), 0, 3), affine)


def dice(region_a, region_b):
    return 2 * np.sum(region_a & region_b) / (np.sum(region_a) + np.sum(region_b))


def test_displacement_between_voxels():
    field = field_of(lambda points: 0.1 * points)
    points = np.array([[1.0, -20, 500], [2, 30, 0], [3, 7, 0]])
    np.testing.assert_allclose(field.at(points)[:, :2], 0.1 * points[:, :2], rtol=1e-5)
    np.testing.assert_array_equal(field.at(points)[:, 2], 0)  # beyond the grid


def test_without_warp_labels_are_those_of_the_affine():
    values = np.random.default_rng(0).integers(0, 5, (13, 15, 10)).astype(np.int16)
    blocks = values.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    affine = affine_of((5, 0, 3), centre=(6, -9, 12))
    labels = labels_from_template(blocks, affine, GRID, (40, 50, 30), MATRIX)
    expected = resample_labels(blocks, affine, GRID, (40, 50, 30), transform=MATRIX)
    assert labels.dtype == np.int16
    assert np.mean(labels != expected) < 1e-4  # rounding where fractions are equal


def test_labels_through_a_warp():
    """A voxel has a ball's label if its warped position in the template lies in the ball."""
    shape = (90, 90, 70)
    affine = affine_of(shape=shape, axes=np.eye(3) / 2)
    centres = {3: (-10.0, 5, 0), 9: (12.0, -8, 6)}

    def balls(points):
        label = np.zeros(points.shape[1], np.uint8)
        for value, centre in centres.items():
            label[np.linalg.norm(points - np.reshape(centre, (3, 1)), axis=0) < 9] = value
        return label

    template_labels = balls(world(affine, shape)).reshape(shape)
    matrix = np.diag([0.95, 1.02, 0.97, 1.0])
    matrix[:3, 3] = 2, -1, 1
    labels = labels_from_template(
        template_labels, affine, GRID, SHAPE, matrix, to_template=field_of(bend)
    )
    points = moved(world(GRID, SHAPE), matrix)
    truth = balls(points + bend(points)).reshape(SHAPE)
    for value in centres:
        assert dice(labels == value, truth == value) > 0.94
    assert set(np.unique(labels)) == {0, 3, 9}


def test_map_through_a_warp():
    """Each voxel of the template has the subject's value at A⁻¹ (t + e(t)), within the mask."""

    def smooth(points):
        return np.sin(points[0] / 15) * np.cos(points[1] / 17 + points[2] / 20)

    volume = smooth(world(GRID, SHAPE)).reshape(SHAPE).astype(np.float32)
    mask = (depth(world(GRID, SHAPE)) > 0).reshape(SHAPE)
    volume[~mask] = np.nan
    shape = (40, 44, 36)
    target = affine_of((3, 0, 2), (6, -9, 12), shape)
    arguments = (volume, GRID, target, shape, MATRIX)
    options = {"mask": mask, "fill": np.nan}
    warped = map_to_template(*arguments, from_template=field_of(bend, target, shape), **options)
    points = world(target, shape)
    source = moved(points + bend(points), np.linalg.inv(MATRIX))
    inner = depth(source).reshape(shape) > 0.1
    outer = depth(source).reshape(shape) < -0.1
    np.testing.assert_allclose(warped[inner], smooth(source).reshape(shape)[inner], atol=0.01)
    assert np.isnan(warped[outer]).all()
    affine_only = map_to_template(*arguments, **options)
    zero_warp = map_to_template(*arguments, from_template=field_of(np.zeros_like), **options)
    # The splines start at different voxels.
    np.testing.assert_allclose(zero_warp[inner], affine_only[inner], atol=5e-3)
    assert np.isfinite(affine_only).sum() > 10_000


def template_of_head():
    """Return the T1-weighted head without its skull, its affine and its mask."""
    image, affine, mask = scan(contrast="t1w")
    return np.where(mask, image, 0), affine, mask


@pytest.mark.slow
def test_affine_between_subject_and_template():
    subject, affine, mask = scan(noise=0.01, bias=0.2, seed=3)
    # The same voxels with another affine are the same head at another place.
    pose = motion((4, -6, 5), (6, -9, 12)) @ np.diag([1.04, 0.97, 1.02, 1])
    fit = register_template(*template_of_head(), subject, pose @ affine, mask)
    assert (fit.to_template, fit.from_template) == (None, None)
    assert displacement(fit.matrix, np.linalg.inv(pose), points_of(pose @ affine, mask)) < 0.5


@pytest.mark.slow
def test_warp_between_subject_and_template():
    """A warp improves on the affine with inverted contrast, and the two fields are inverse."""
    pytest.importorskip("dipy")
    t1, affine, mask = load_mni_template()
    points = world(affine, t1.shape)
    voxels = moved(points + bend(points), np.linalg.inv(affine))
    bent = ndimage.map_coordinates(t1, voxels, order=3).reshape(t1.shape)
    inside = ndimage.map_coordinates(mask.astype(float), voxels, order=1).reshape(t1.shape) > 0.5
    fit = register_template(
        t1, affine, mask, np.where(inside, 1.6 - bent, 0), affine, inside, template_warp=True
    )
    points = points_of(affine, inside)[::20].T
    truth = points + bend(points)
    affine_only = moved(points, fit.matrix)
    warped = affine_only + fit.to_template.at(affine_only)
    affine_error = np.linalg.norm(affine_only - truth, axis=0).mean()
    warp_error = np.linalg.norm(warped - truth, axis=0).mean()
    assert affine_error > 0.8
    assert warp_error < 0.85 * affine_error
    returned = moved(warped + fit.from_template.at(warped), np.linalg.inv(fit.matrix))
    assert np.linalg.norm(returned - points, axis=0).mean() < 0.05


def test_warp_without_dipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dipy.align", None)
    with pytest.raises(ModuleNotFoundError, match=r"multiqsm\[template\]"):
        register_template(*template_of_head(), *template_of_head(), template_warp=True)


def test_unusable_input_is_refused():
    image, affine, mask = template_of_head()
    with pytest.raises(ValueError, match="template's mask"):
        register_template(image, affine, ~np.ones(SHAPE, bool), image, affine, mask)
    with pytest.raises(ValueError, match="integers"):
        labels_from_template(image, affine, affine, SHAPE, np.eye(4))
    warp = field_of(np.zeros_like)
    with pytest.raises(ValueError, match="not finite"):
        map_to_template(
            np.full(SHAPE, np.nan), affine, affine, SHAPE, np.eye(4), from_template=warp
        )
    empty = np.zeros(SHAPE, bool)
    with pytest.raises(ValueError, match="empty"):
        map_to_template(image, affine, affine, SHAPE, np.eye(4), from_template=warp, mask=empty)


# ------------------------------------------------------------------------------
# Nodes
# ------------------------------------------------------------------------------


def test_nitransforms_reads_the_same_warp(tmp_path):
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    field = field_of(bend)
    path = _write_warp(tmp_path / "warp.nii.gz", field)
    np.testing.assert_allclose(_read_warp(path).vectors, field.vectors, rtol=1e-6)
    assert _write_warp(tmp_path / "none.nii.gz", None) is None
    points = np.array([[3.0, -6, 9], [15, 21, -12], [-20, 10, 5]])
    mapped = nonlinear.load(path, fmt="itk").map(points)
    np.testing.assert_allclose(mapped, points + field.at(points.T).T, atol=0.05)


def test_map_of_a_scan_in_the_template(tmp_path, monkeypatch):
    """Scan transform, affine and warp are combined.

    Each shifts a bump by a known distance, so that its place in the template is known.
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
    """The template itself, moved and with inverted contrast, gets its own labels."""
    monkeypatch.chdir(tmp_path)
    t1, affine, mask = load_mni_template()
    pose = motion((5, 3, -6), (10, 20, -15))
    inverted = np.where(mask, 1.6 - t1, 0.0).astype(np.float32)
    nib.save(nib.Nifti1Image(inverted, pose @ affine), "average.nii")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), pose @ affine), "mask.nii")
    points = world(affine, t1.shape)
    labels = np.zeros(points.shape[1], np.int16)
    for value, centre in {4: (-25.0, 4, 2), 7: (25.0, 4, 2)}.items():
        labels[np.linalg.norm(points - np.reshape(centre, (3, 1)), axis=0) < 8] = value
    labels = labels.reshape(t1.shape)
    nib.save(nib.Nifti1Image(labels, affine), "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n4\tleft_putamen\n7\tright_putamen\n")
    node = LabelsFromTemplate(
        average_file="average.nii", mask_file="mask.nii", atlas="atlas.nii.gz"
    )
    outputs = node.run().outputs
    assert outputs.names == {4: "left_putamen", 7: "right_putamen"}
    assert outputs.to_template_file is None
    assert outputs.from_template_file is None
    assert outputs.notes == []
    matrix = read_itk_text((tmp_path / "transform.txt").read_text())
    assert displacement(matrix, np.linalg.inv(pose), points_of(pose @ affine, mask)) < 0.3
    values = np.asarray(nib.load(outputs.labels_file).dataobj)
    for value in (4, 7):
        assert dice(values == value, labels == value) > 0.95
    node = MapToTemplate(
        in_file="average.nii", mask_file="mask.nii", transform_file=outputs.transform_file
    )
    data, _ = read_volume(node.run().outputs.out_file)
    valid = np.isfinite(data)
    expected = resample(1.6 - t1, affine, affine, t1.shape)
    assert np.corrcoef(data[valid], expected[valid])[0, 1] > 0.98
