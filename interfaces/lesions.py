"""Lesions of a subject in the FLAIR image: segmented, edited, counted and saved."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from scipy import ndimage

from ..core.grid import is_same_place
from ..core.regions.lesions import grow_lesions, lesion_table
from ..core.registration.resampling import resample_labels
from ..dataset.anatomy import read_points
from ..dataset.files import write_json
from ..dataset.names import LESION_MASK, LESION_TABLE
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from ..dataset.volumes import load_volume
from .derivatives import save_image
from .images import geometry, read_mask, read_single_volume, write_volume


class _SegmentLesionsInputSpec(BaseInterfaceInputSpec):
    flair_file = File(exists=True, mandatory=True, desc="FLAIR image")
    ready_file = File(exists=True, desc="lesion mask that is used unchanged")
    seeds_file = File(exists=True, desc="seeds in lesions: table of coordinates (mm), or mask")
    added_file = File(exists=True, desc="mask of voxels to add")
    removed_file = File(exists=True, desc="mask of voxels to remove")


class _SegmentLesionsOutputSpec(TraitedSpec):
    mask_file = File(desc="all lesions, on the grid of the FLAIR image")
    seeds = traits.List(traits.List(traits.Int), desc="voxels of the seeds")
    record = traits.Dict(desc="sidecar fields on how the lesions were segmented")


class SegmentLesions(SimpleInterface):
    """Grow lesions from seeds or read a mask of them, then apply the edits drawn by hand."""

    input_spec = _SegmentLesionsInputSpec
    output_spec = _SegmentLesionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        flair, image = read_single_volume(inputs.flair_file)
        seeds = np.zeros((0, 3), int)
        record = {}
        if isdefined(inputs.ready_file):
            lesions = self._mask("ready", image)
            record["LesionSource"] = f"mask {Path(inputs.ready_file).name}, as it is"
        else:
            seeds = _seed_voxels(Path(inputs.seeds_file), image)
            lesions, has_grown = grow_lesions(
                np.nan_to_num(flair), seeds, geometry(image)["voxel_size"]
            )
            record["LesionSource"] = (
                f"grown by similar intensity from the seeds in {Path(inputs.seeds_file).name}"
            )
            record["Seeds"] = len(seeds)
            record["SeedsNotGrown"] = _world_points(seeds[~has_grown], image).round(2).tolist()
        if isdefined(inputs.added_file):
            mask = self._mask("added", image)
            record["VoxelsByAddedMask"] = int(np.count_nonzero(mask & ~lesions))
            lesions = lesions | mask
        if isdefined(inputs.removed_file):
            mask = self._mask("removed", image)
            record["VoxelsByRemovedMask"] = int(np.count_nonzero(mask & lesions))
            lesions = lesions & ~mask
        self._results["mask_file"] = write_volume(Path(runtime.cwd) / "lesions.nii", lesions, image)
        self._results["seeds"] = seeds.tolist()
        self._results["record"] = record
        return runtime

    def _mask(self, kind, image):
        """Read a mask, resampled to the grid of the FLAIR image if it was drawn on another one."""
        path = getattr(self.inputs, f"{kind}_file")
        mask_image = load_volume(path)
        if mask_image.ndim != 3:
            raise ValueError(
                f"{path}: the image has {mask_image.ndim} dimensions; save the mask as a single "
                "volume with three"
            )
        mask = read_mask(path)
        if mask_image.shape == image.shape and is_same_place(
            image.shape[:3], mask_image.affine, image.affine
        ):
            return mask
        resampled = resample_labels(
            mask.view(np.uint8), mask_image.affine, image.affine, image.shape
        )
        return resampled > 0


class _SaveLesionsInputSpec(BaseInterfaceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="all lesions")
    flair_file = File(exists=True, mandatory=True, desc="image in which they were segmented")
    flair_uri = traits.Str(mandatory=True, desc="BIDS URI of the FLAIR image")
    seeds = traits.List(traits.List(traits.Int), mandatory=True, desc="voxels of the seeds")
    record = traits.Dict(mandatory=True, desc="sidecar fields on how the lesions were segmented")
    columns = traits.Dict(mandatory=True, desc="descriptions of the columns")
    subject = traits.Str(mandatory=True, desc="label of the subject")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveLesionsOutputSpec(TraitedSpec):
    mask_file = File(desc="the saved mask")
    table_file = File(desc="the saved table")


class SaveLesions(SimpleInterface):
    """Save the lesion mask, and the table of all lesions and their total."""

    input_spec = _SaveLesionsInputSpec
    output_spec = _SaveLesionsOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        root = inputs.output_dir
        image = load_volume(inputs.flair_file)
        lesions = read_mask(inputs.mask_file)
        table, _ = lesion_table(lesions, image.affine, seeds=inputs.seeds)
        total = table.iloc[-1]
        entities = {"subject": inputs.subject, "label": "lesion"}
        mask_path = derivative_path(root, entities, **LESION_MASK)
        metadata = {
            "Description": "T2 lesions",
            "Type": "Lesion",
            "SkullStripped": False,
            "SpatialReference": inputs.flair_uri,
            "Sources": [inputs.flair_uri],
            "Volume": total["volume"],
            "VolumeUnits": "mL",
            "Lesions": len(table) - 1,
        }
        save_image(mask_path, lesions.astype(np.uint8), image, {**inputs.record, **metadata})
        table_path = derivative_path(root, {"subject": inputs.subject}, **LESION_TABLE)
        write_tsv(table_path, table.round({"volume": 6, "x": 2, "y": 2, "z": 2}))
        write_json(table_path.with_suffix(".json"), {**inputs.columns, **inputs.record})
        self._results["mask_file"] = str(mask_path.absolute())
        self._results["table_file"] = str(table_path.absolute())
        return runtime


def _seed_voxels(path, image):
    """Return the voxels of the seeds, shape (n, 3).

    A mask has one seed in each connected component: its deepest voxel.
    """
    if path.suffix == ".tsv":
        points = np.array(read_points(path))
    else:
        points = _world_points(_deepest_voxels(read_mask(path)), load_volume(path))
    voxels = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(image.affine).T
    return np.rint(voxels[:, :3]).astype(int)


def _deepest_voxels(mask):
    """Return the voxel farthest from the surface in each connected component, shape (n, 3)."""
    components, n_components = ndimage.label(mask, np.ones((3, 3, 3)))
    depth = ndimage.distance_transform_edt(mask)
    voxels = ndimage.maximum_position(depth, components, range(1, n_components + 1))
    return np.reshape(voxels, (-1, 3))


def _world_points(voxels, image):
    """Return the world coordinates of voxels, mm."""
    return voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
