"""Lesions of a subject in the FLAIR image: grown or taken, edited, counted and saved."""

from pathlib import Path

import nibabel as nib
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
from .derivatives import save_image
from .images import geometry, read_mask, read_volume, write_volume


class _SegmentLesionsInputSpec(BaseInterfaceInputSpec):
    flair_file = File(exists=True, mandatory=True, desc="FLAIR image")
    ready_file = File(exists=True, desc="lesion mask that is taken as it is")
    seeds_file = File(exists=True, desc="table of coordinates (mm), or mask of points, in lesions")
    added_file = File(exists=True, desc="mask of voxels that are added")
    removed_file = File(exists=True, desc="mask of voxels that are removed")


class _SegmentLesionsOutputSpec(TraitedSpec):
    mask_file = File(desc="all lesions on the FLAIR image's grid")
    seeds = traits.List(traits.List(traits.Int), desc="voxels of the seeds")
    record = traits.Dict(desc="sidecar fields: how the lesions were found")


class SegmentLesions(SimpleInterface):
    """Grow lesions from seeds, or take a ready mask; then add and remove what was drawn by hand."""

    input_spec = _SegmentLesionsInputSpec
    output_spec = _SegmentLesionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        flair, image = read_volume(inputs.flair_file)
        seeds = np.zeros((0, 3), int)
        record = {}
        if isdefined(inputs.ready_file):
            lesions = self._mask("ready", image)
            record["LesionSource"] = f"mask {Path(inputs.ready_file).name}, as it is"
        else:
            seeds = _seed_voxels(Path(inputs.seeds_file), image)
            lesions, grown = grow_lesions(
                np.nan_to_num(flair), seeds, geometry(image)["voxel_size"]
            )
            record["LesionSource"] = (
                f"grown by similar intensity from the seeds in {Path(inputs.seeds_file).name}"
            )
            record["Seeds"] = len(seeds)
            record["SeedsNotGrown"] = _points(seeds[~grown], image).round(2).tolist()
        for kind, change in (("added", np.logical_or), ("removed", lambda a, b: a & ~b)):
            if isdefined(getattr(inputs, f"{kind}_file")):
                before = lesions
                lesions = change(lesions, self._mask(kind, image))
                record[f"VoxelsBy{kind.capitalize()}Mask"] = int(
                    np.count_nonzero(before != lesions)
                )
        self._results["mask_file"] = write_volume(Path(runtime.cwd) / "lesions.nii", lesions, image)
        self._results["seeds"] = seeds.tolist()
        self._results["record"] = record
        return runtime

    def _mask(self, kind, image):
        """A mask on the FLAIR image's grid, whatever grid it was drawn on."""
        path = getattr(self.inputs, f"{kind}_file")
        drawn = nib.load(path)
        if drawn.ndim != 3:
            raise ValueError(f"{path}: {drawn.ndim} dimensions; a mask is one volume of three")
        mask = read_mask(path)
        if drawn.shape == image.shape and is_same_place(
            image.shape[:3], drawn.affine, image.affine
        ):
            return mask
        return resample_labels(mask.view(np.uint8), drawn.affine, image.affine, image.shape) > 0


class _SaveLesionsInputSpec(BaseInterfaceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="all lesions")
    flair_file = File(exists=True, mandatory=True, desc="the image that they are seen in")
    flair_uri = traits.Str(mandatory=True, desc="its BIDS URI")
    seeds = traits.List(traits.List(traits.Int), mandatory=True, desc="voxels of the seeds")
    record = traits.Dict(mandatory=True, desc="sidecar fields: how the lesions were found")
    columns = traits.Dict(mandatory=True, desc="what the table's columns mean")
    subject = traits.Str(mandatory=True, desc="label of the subject")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveLesionsOutputSpec(TraitedSpec):
    mask_file = File(desc="the saved mask")
    table_file = File(desc="the saved table")


class SaveLesions(SimpleInterface):
    """Save the lesion mask, and the table of lesions with their total."""

    input_spec = _SaveLesionsInputSpec
    output_spec = _SaveLesionsOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        root = self.inputs.output_dir
        image = nib.load(inputs.flair_file)
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
        path = derivative_path(root, {"subject": inputs.subject}, **LESION_TABLE)
        write_tsv(path, table.round({"volume": 6, "x": 2, "y": 2, "z": 2}))
        write_json(path.with_suffix(".json"), {**inputs.columns, **inputs.record})
        self._results["mask_file"] = str(mask_path.absolute())
        self._results["table_file"] = str(path.absolute())
        return runtime


def _seed_voxels(path, image):
    """Voxels of the seeds, shape (n, 3); of a mask the deepest of each component."""
    if path.suffix == ".tsv":
        points = np.array(read_points(path))
    else:
        marked = nib.load(path)
        points = _points(_middles(read_mask(path)), marked)
    voxels = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(image.affine).T
    return np.rint(voxels[:, :3]).astype(int)


def _middles(mask):
    pieces, n = ndimage.label(mask, np.ones((3, 3, 3)))
    depth = ndimage.distance_transform_edt(mask)
    return np.reshape(ndimage.maximum_position(depth, pieces, range(1, n + 1)), (-1, 3))


def _points(voxels, image):
    return voxels @ image.affine[:3, :3].T + image.affine[:3, 3]
