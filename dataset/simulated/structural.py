"""Write simulated structural images, FreeSurfer's labels and lesions."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from ...core.grid import voxel_size_of
from ...core.registration.resampling import resample_labels
from ...simulation import head
from ...simulation.effects.pathology import LABELS
from ...simulation.plan import ScanPlan
from ...simulation.structural import Structural
from ..anatomy import ASEG_NAMES
from ..files import PathLike, atomic_write
from ..outputs import bids_uri
from ..sidecars import write_sidecar
from .files import write_image, write_table
from .layout import (
    LESION_SUFFIX,
    SEGMENTED_SUFFIX,
    aseg_path,
    lesions_path,
    seeds_path,
    structural_path,
)
from .scans import scanner_metadata

# Voxels of 1 mm along each axis of FreeSurfer's images, whose axes point to the left, down, and to
# the front.
CONFORMED = 256


def write_structural(
    output_dir: PathLike,
    plan: ScanPlan,
    sequence: Structural,
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
) -> Path:
    """Write an anatomical image of a scan's participant, and what is derived from it.

    With the FLAIR image these are the true lesions on its grid, and a seed in each, as a rater
    would place it. With the T1-weighted image they are FreeSurfer's labels of thalamus, striatum,
    pallidum and lateral ventricles.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.plan.ScanPlan
        What was simulated.
    sequence : multiqsm.simulation.structural.Structural
        The sequence of the image.
    image, labels : ndarray, shape (x, y, z)
        The image, and the label of each voxel.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.

    Returns
    -------
    pathlib.Path
        The image.
    """
    path = structural_path(output_dir, plan, sequence)
    if sequence.suffix == LESION_SUFFIX:
        lesions = lesions_path(output_dir, plan)
        mask = np.isin(labels, [head.anatomy()["labels"]["lesion"], LABELS["lesion_rim"]])
        volume = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        write_image(lesions, mask.astype(np.uint8), affine)
        source = bids_uri(path, output_dir)
        write_sidecar(
            lesions, {"Type": "Lesion", "Volume": volume, "VolumeUnits": "mL", "Sources": [source]}
        )
        write_table(seeds_path(output_dir, plan), _seeds(mask, affine))
    if sequence.suffix == SEGMENTED_SUFFIX:
        _write_aseg(aseg_path(output_dir, plan), labels, affine, plan.position.matrix)
    write_image(path, np.rint(image * (4095 / image.max())).astype(np.int16), affine)
    write_sidecar(path, _structural_metadata(plan, sequence))
    return path


def _seeds(lesions, affine):
    """Return the deepest point of each lesion in scanner coordinates, mm."""
    pieces, n = ndimage.label(lesions)
    depth = ndimage.distance_transform_edt(lesions, sampling=voxel_size_of(affine))
    deepest = np.reshape(ndimage.maximum_position(depth, pieces, range(1, n + 1)), (-1, 3))
    points = deepest @ affine[:3, :3].T + affine[:3, 3]
    rows = []
    for x, y, z in points:
        rows.append({"x": f"{x:.2f}", "y": f"{y:.2f}", "z": f"{z:.2f}"})
    return rows


def _write_aseg(path, labels, affine, pose):
    """Write labels as FreeSurfer does, on a grid of 1 mm along the scanner's axes around the centre
    of the image.
    """
    centre = affine @ [*((np.array(labels.shape) - 1) / 2), 1]
    grid = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    grid[:3, 3] = centre[:3] - grid[:3, :3] @ np.full(3, CONFORMED // 2)
    aseg = resample_labels(_aseg_labels(labels, affine, pose), affine, grid, (CONFORMED,) * 3)
    with atomic_write(path) as partial:
        nib.save(nib.MGHImage(aseg.astype(np.int32), grid), partial)


def _aseg_labels(labels, affine, pose):
    """Replace the simulator's labels by FreeSurfer's.

    FreeSurfer labels the two lateral ventricles separately, the simulator as one: voxels are
    assigned to a side by their position in the head.
    """
    number_of = {name: number for number, name in ASEG_NAMES.items()}
    aseg = np.zeros(labels.shape, np.uint8)
    for label, name in head.label_names().items():
        if name in number_of:
            aseg[labels == label] = number_of[name]
    ventricles = np.argwhere(labels == head.anatomy()["labels"]["lateral_ventricle"])
    to_head = np.linalg.inv(pose) @ affine
    is_left = ventricles @ to_head[0, :3] + to_head[0, 3] < 0
    left_number = number_of["left_lateral_ventricle"]
    right_number = number_of["right_lateral_ventricle"]
    aseg[tuple(ventricles.T)] = np.where(is_left, left_number, right_number)
    return aseg


def _structural_metadata(plan, sequence):
    """Return the sidecar of an anatomical image."""
    metadata = scanner_metadata(plan)
    if sequence.inversion_time is not None:
        metadata["InversionTime"] = sequence.inversion_time
    metadata["EchoTime"] = sequence.echo_time
    metadata["RepetitionTimeExcitation"] = sequence.repetition_time
    metadata["FlipAngle"] = sequence.flip_angle
    return metadata
