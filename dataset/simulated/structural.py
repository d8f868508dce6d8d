"""Simulated structural images, FreeSurfer's labels and lesions."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from ...core.grid import voxel_size_of
from ...core.registration.resampling import resample_labels
from ...simulation import head
from ..anatomy import ASEG_NAMES
from ..files import atomic_write
from ..outputs import bids_uri
from ..sidecars import write_sidecar
from .files import write_image, write_table
from .layout import LESIONS_SEEN_IN, SEGMENTED, aseg_path, lesions_path, seeds_path, structural_path
from .scans import scanner_metadata

CONFORMED = (
    256  # voxels of 1 mm along each axis, as FreeSurfer has them: to the left, down, to the front
)


def write_structural(output_dir, plan, sequence, image, labels, affine):
    """Write an anatomical image of a scan's participant, and what is seen in it.

    In the FLAIR image that is the true lesions, on its grid, and a seed in each as a rater would
    place it; in the T1-weighted one, thalamus, striatum, pallidum and lateral ventricles as
    FreeSurfer labels them.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.plan.ScanPlan
        What was simulated.
    sequence : multiqsm.simulation.structural.Structural
        Which image.
    image, labels, affine : ndarray
        What came out.

    Returns
    -------
    pathlib.Path
        The image.
    """
    path = structural_path(output_dir, plan, sequence)
    if sequence.suffix == LESIONS_SEEN_IN:
        lesions = lesions_path(output_dir, plan)
        mask = labels == head.anatomy()["labels"]["lesion"]
        volume = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        write_image(lesions, mask.astype(np.uint8), affine)
        source = bids_uri(path, output_dir)
        write_sidecar(
            lesions, {"Type": "Lesion", "Volume": volume, "VolumeUnits": "mL", "Sources": [source]}
        )
        write_table(seeds_path(output_dir, plan), _seeds(mask, affine))
    if sequence.suffix == SEGMENTED:
        _write_aseg(aseg_path(output_dir, plan), labels, affine, plan.position.matrix)
    write_image(path, np.rint(image * (4095 / image.max())).astype(np.int16), affine)
    write_sidecar(path, _structural_metadata(plan, sequence))
    return path


def _seeds(lesions, affine):
    """The deepest voxel of each lesion in the scanner's mm."""
    pieces, n = ndimage.label(lesions)
    depth = ndimage.distance_transform_edt(lesions, sampling=voxel_size_of(affine))
    deepest = np.reshape(ndimage.maximum_position(depth, pieces, range(1, n + 1)), (-1, 3))
    points = deepest @ affine[:3, :3].T + affine[:3, 3]
    return [dict(zip("xyz", (f"{value:.2f}" for value in point), strict=True)) for point in points]


def _write_aseg(path, labels, affine, pose):
    """Write labels as FreeSurfer has them, on a grid of 1 mm in the scanner's axes around the
    image's middle.
    """
    middle = affine @ [*((np.array(labels.shape) - 1) / 2), 1]
    grid = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    grid[:3, 3] = middle[:3] - grid[:3, :3] @ np.full(3, CONFORMED // 2)
    aseg = resample_labels(_aseg_labels(labels, affine, pose), affine, grid, (CONFORMED,) * 3)
    with atomic_write(path) as partial:
        nib.save(nib.MGHImage(aseg.astype(np.int32), grid), partial)


def _aseg_labels(labels, affine, pose):
    """FreeSurfer's numbers in the place of the simulator's; ventricles have a side by where they
    lie in the head.
    """
    number_of = {name: number for number, name in ASEG_NAMES.items()}
    aseg = np.zeros(labels.shape, np.uint8)
    for label, name in head.label_names().items():
        if name in number_of:
            aseg[labels == label] = number_of[name]
    ventricles = np.argwhere(labels == head.anatomy()["labels"]["lateral_ventricle"])
    to_head = np.linalg.inv(pose) @ affine
    is_left = ventricles @ to_head[0, :3] + to_head[0, 3] < 0
    sides = [number_of[f"{side}_lateral_ventricle"] for side in ("left", "right")]
    aseg[tuple(ventricles.T)] = np.where(is_left, *sides)
    return aseg


def _structural_metadata(plan, sequence):
    """Sidecar of an anatomical image."""
    inversion = (
        {} if sequence.inversion_time is None else {"InversionTime": sequence.inversion_time}
    )
    return {
        **scanner_metadata(plan),
        **inversion,
        "EchoTime": sequence.echo_time,
        "RepetitionTimeExcitation": sequence.repetition_time,
        "FlipAngle": sequence.flip_angle,
    }
