"""The FLAIR image is registered to the scans, and the map is drawn on its grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.travelling import (
    NUCLEI,
    POSES,
    SHAPE,
    affine_of,
    head_points,
    magnitude_of,
    susceptibility,
    voxel_means,
)

from multiqsm.core.registration.transforms import displacement, itk_text, read_itk_text
from multiqsm.dataset.names import FLAIR_REGIONS, picture_path
from multiqsm.interfaces import flair
from multiqsm.interfaces.flair import PlotFlair, RegisterFlair
from multiqsm.pictures.fusion import fusion_figure

SUBJECT = {"subject": "01"}
AVERAGE, FLAIR, SCAN = 0, 1, 2  # places of the person in the subject space and in two scans
RADIUS = 10.0  # mm


def save(path, volume, place):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine_of(place)), path)
    return str(path)


def ball(name, place, radius=RADIUS):
    """Return the voxels of a scan within a distance of the centre of a nucleus."""
    centre = np.reshape(NUCLEI[name][0], (3, 1))
    return (np.linalg.norm(head_points(place) - centre, axis=0) < radius).reshape(SHAPE)


def write_transform(folder, place):
    """Write the transform from the subject space to a scan; return its file."""
    path = folder / f"to_{place}.txt"
    path.write_text(itk_text(POSES[place] @ np.linalg.inv(POSES[AVERAGE])))
    return str(path)


def test_flair_is_registered_to_the_scans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    magnitude, mask = magnitude_of(AVERAGE)
    moved, _ = magnitude_of(FLAIR, seed=1)
    contrast = np.where(moved > 10, 130 - moved, 0)  # dark where the magnitude is bright
    node = RegisterFlair(
        flair_file=save(tmp_path / "flair.nii", contrast, FLAIR),
        average_file=save(tmp_path / "average.nii", magnitude, AVERAGE),
        mask_file=save(tmp_path / "mask.nii", mask, AVERAGE),
    )
    matrix = read_itk_text(Path(node.run().outputs.transform_file).read_text())
    truth = POSES[FLAIR] @ np.linalg.inv(POSES[AVERAGE])
    points = head_points(AVERAGE)[:, mask.ravel()].T
    # A third of a voxel of 3.5 mm.
    assert displacement(matrix, truth, points) < 1.2


def plot_node(folder, place, **options):
    """Return the node that draws the map of a scan at a place, with its left nucleus as region."""
    region = np.where(ball("left nucleus", place), 1, 0)
    veins = ball("left nucleus", place) & ~ball("left nucleus", place, radius=7)
    bright = 100 * ball("left nucleus", FLAIR) + 50 * ball("right nucleus", FLAIR) + 10
    chi = np.where(magnitude_of(place)[1], voxel_means(susceptibility, place), np.nan)
    defaults = {
        "chi_files": ["", save(folder / "chi.nii", chi, place)],
        "label_files": ["", save(folder / "labels.nii", region, place)],
        "names": [{}, {"1": "left nucleus"}],
        "excluded_files": ["", save(folder / "veins.nii", veins, place)],
        "reference_files": ["", save(folder / "csf.nii", ball("right nucleus", place), place)],
        "flair_file": save(folder / "flair.nii", bright, FLAIR),
        "transform_file": write_transform(folder, FLAIR),
        "title": "FLAIR and susceptibility",
        "entities": SUBJECT,
        "output_dir": str(folder),
    }
    return PlotFlair(**FLAIR_REGIONS, **(defaults | options))


def assert_same_ball(first, second):
    """Check that two balls of whole voxels have the same centre and volume.

    A label does not resolve a shift by less than half a voxel; the motion is three voxels.
    """
    centres = [np.argwhere(volume).mean(axis=0) for volume in (first, second)]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.5)
    assert first.sum() == pytest.approx(second.sum(), rel=0.1)


@pytest.mark.parametrize("place", [AVERAGE, SCAN])
def test_regions_lie_on_what_they_show_in_the_flair_image(tmp_path, monkeypatch, place):
    drawings = []

    def record(*volumes, **options):
        drawings.append(volumes)
        return fusion_figure(*volumes, **options)

    monkeypatch.setattr(flair, "fusion_figure", record)
    options = {}
    if place == SCAN:
        options["transform_files"] = ["", write_transform(tmp_path, SCAN)]
    out_file = plot_node(tmp_path, place, **options).run().outputs.out_file
    assert out_file == str(picture_path(tmp_path, SUBJECT, **FLAIR_REGIONS))
    image, chi, regions, excluded, reference, _ = drawings[0]
    assert_same_ball(regions, image > 80)
    assert_same_ball(reference, (image > 40) & (image < 80))
    assert excluded.sum() > 0.3 * regions.sum()
    assert not (excluded & ~regions).any()
    # More than half of these voxels have all neighbours within the nucleus.
    assert np.median(chi[regions & ~excluded]) == pytest.approx(NUCLEI["left nucleus"][1], rel=0.01)


@pytest.mark.parametrize("missing", ["flair", "regions", "map"])
def test_picture_of_an_earlier_run_is_removed(tmp_path, missing):
    earlier = picture_path(tmp_path, SUBJECT, **FLAIR_REGIONS)
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"earlier")
    node = plot_node(tmp_path, AVERAGE)
    if missing == "flair":
        node.inputs.trait_set(flair_file=flair.traits.Undefined)
    elif missing == "regions":
        node.inputs.names = [{}, {"2": "right nucleus"}]
    else:
        node.inputs.chi_files = ["", ""]
    node.run()
    assert not earlier.exists()
