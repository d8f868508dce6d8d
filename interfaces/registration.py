"""Registration of the scans of a subject to one space."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from scipy.spatial.transform import Rotation

from ..core.registration.midspace import first_space, mid_space, register_to_space
from ..core.registration.resampling import resample
from ..core.registration.transforms import itk_text, read_itk_text
from ..dataset.files import PathLike, write_json
from ..dataset.names import REGISTRATION_TABLE
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from .images import read_mask, read_volume, write_volume

# Stands for the file of a scan that could not be registered, in lists with one file for each scan.
NOT_REGISTERED = ""


class _RegisterScansInputSpec(BaseInterfaceInputSpec):
    magnitude_files = traits.List(File(exists=True), mandatory=True, desc="magnitude of each scan")
    mask_files = traits.List(File(exists=True), mandatory=True, desc="their brain masks")
    space = traits.Enum(
        "middle", "first", usedefault=True, desc="halfway between the scans, or the first scan's"
    )
    magnitude_files_elsewhere = traits.List(
        File(exists=True), usedefault=True, desc="magnitude of scans that do not define the space"
    )
    mask_files_elsewhere = traits.List(File(exists=True), usedefault=True, desc="their brain masks")


class _RegisterScansOutputSpec(TraitedSpec):
    transform_files = traits.List(
        traits.Str, desc="subject space to scan, ITK text; empty where a scan failed"
    )
    average_file = File(desc="mean magnitude in the subject space, each scan divided by its median")
    mask_file = File(desc="brain mask in the subject space")
    motion = traits.List(
        traits.Dict,
        desc="translation, rotation and displacement of each scan, or the cause of failure",
    )
    transform_files_elsewhere = traits.List(
        traits.Str, desc="subject space to each scan that does not define the space"
    )
    motion_elsewhere = traits.List(
        traits.Dict,
        desc="translation and rotation of each of these scans, or the cause of failure",
    )
    steps = traits.List(traits.Str, desc="keys of the sentences on it in the methods text")


class RegisterScans(SimpleInterface):
    """Register a subject's scans to one space; a scan that cannot be registered is left out.

    Further scans, which do not define the space, are registered to the average of those that do.
    """

    input_spec = _RegisterScansInputSpec
    output_spec = _RegisterScansOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        images = list(map(read_volume, inputs.magnitude_files))
        masks = list(map(read_mask, inputs.mask_files))
        volumes = [volume for volume, _ in images]
        affines = [image.affine for _, image in images]
        space = mid_space(volumes, affines, masks)
        if inputs.space == "first":
            space = first_space(space, volumes, affines, masks)
        folder = Path(runtime.cwd)
        like = nib.Nifti1Image(space.average, space.affine)
        self._results["average_file"] = write_volume(folder / "average.nii", space.average, like)
        self._results["mask_file"] = write_volume(folder / "mask.nii", space.mask, like)
        self._results["transform_files"] = [
            _write_transform(folder / f"scan{index}_xfm.txt", matrix)
            for index, matrix in enumerate(space.transforms)
        ]
        n_registered = sum(matrix is not None for matrix in space.transforms)
        self._results["motion"] = []
        for matrix, residual, cause in zip(
            space.transforms, space.residuals, space.causes, strict=True
        ):
            # a single scan is the space and does not move
            is_moving = n_registered > 1 or matrix is None
            self._results["motion"].append(
                _motion(matrix, cause, space, residual) if is_moving else {}
            )
        step = "registration" if inputs.space == "middle" else "registration_first"
        self._results["steps"] = [step if n_registered > 1 else "single_scan"]
        self._register_elsewhere(space, folder)
        return runtime

    def _register_elsewhere(self, space, folder):
        """Register the scans that do not define the space."""
        self._results["transform_files_elsewhere"] = []
        self._results["motion_elsewhere"] = []
        files = zip(
            self.inputs.magnitude_files_elsewhere, self.inputs.mask_files_elsewhere, strict=True
        )
        for index, (magnitude_file, mask_file) in enumerate(files):
            magnitude, image = read_volume(magnitude_file)
            try:
                matrix = register_to_space(space, magnitude, image.affine, read_mask(mask_file))
                cause = None
            except ValueError as error:
                matrix = None
                cause = f"not registered to the average of the scans: {error}"
            transform_file = _write_transform(folder / f"elsewhere{index}_xfm.txt", matrix)
            self._results["transform_files_elsewhere"].append(transform_file)
            self._results["motion_elsewhere"].append(_motion(matrix, cause, space))


class _SaveRegistrationInputSpec(BaseInterfaceInputSpec):
    motion = traits.List(
        traits.Dict, mandatory=True, desc="motion of each scan, as returned by `RegisterScans`"
    )
    motion_elsewhere = traits.List(
        traits.Dict, usedefault=True, desc="motion of the scans that do not define the space"
    )
    labels = traits.List(
        traits.Dict, mandatory=True, desc="columns that identify the scan, of all scans in order"
    )
    subject = traits.Str(mandatory=True, desc="label of the subject")
    columns = traits.Dict(mandatory=True, desc="descriptions of the columns")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveRegistrationOutputSpec(TraitedSpec):
    out_file = File(desc="the table")


class SaveRegistration(SimpleInterface):
    """Write the table of a subject's scans: their motion, or why they were not registered."""

    input_spec = _SaveRegistrationInputSpec
    output_spec = _SaveRegistrationOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        motion = [*inputs.motion, *inputs.motion_elsewhere]
        rows = [{**labels, **row} for labels, row in zip(inputs.labels, motion, strict=True)]
        subject = {"subject": inputs.subject}
        path = derivative_path(inputs.output_dir, subject, **REGISTRATION_TABLE)
        write_tsv(path, pd.DataFrame(rows).reindex(columns=list(inputs.columns)))
        write_json(path.with_suffix(".json"), inputs.columns)
        self._results["out_file"] = str(path)
        return runtime


class _ResampleMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan; empty if there is none"
    )
    mask_files = traits.List(File(exists=True), mandatory=True, desc="valid voxels of each")
    transform_files = traits.List(
        traits.Str, mandatory=True, desc="subject space to each scan; empty: leave the scan out"
    )
    grid_file = File(exists=True, mandatory=True, desc="an image in the subject space")


class _ResampleMapsOutputSpec(TraitedSpec):
    out_files = traits.List(
        traits.Str, desc="the maps in the subject space, NaN where they are not valid"
    )


class ResampleMaps(SimpleInterface):
    """Resample a map of each scan to the subject space, with a single interpolation."""

    input_spec = _ResampleMapsInputSpec
    output_spec = _ResampleMapsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        grid = nib.load(inputs.grid_file)
        self._results["out_files"] = []
        files = zip(inputs.in_files, inputs.mask_files, inputs.transform_files, strict=True)
        for index, (in_file, mask_file, transform_file) in enumerate(files):
            out_file = NOT_REGISTERED
            if NOT_REGISTERED not in (in_file, transform_file):
                data, image = read_volume(in_file)
                resampled = resample(
                    data,
                    image.affine,
                    grid.affine,
                    grid.shape,
                    transform=read_transform(transform_file),
                    mask=read_mask(mask_file),
                    fill=np.nan,
                )
                out_file = write_volume(Path(runtime.cwd) / f"scan{index}.nii", resampled, grid)
            self._results["out_files"].append(out_file)
        return runtime


def read_transform(path: PathLike) -> np.ndarray:
    """Read a transform that `RegisterScans` wrote: a matrix of shape (4, 4), mm."""
    return read_itk_text(Path(path).read_text(encoding="utf-8"))


def _write_transform(path, matrix):
    if matrix is None:
        return NOT_REGISTERED
    path.write_text(itk_text(matrix), encoding="utf-8")
    return str(path)


def _motion(matrix, cause, space, residual=None):
    """Return a scan's columns in the table: how far the centre of the space moves, or the cause."""
    if matrix is None:
        return {"cause": cause}
    centre = space.affine @ [*((np.array(space.shape) - 1) / 2), 1]
    displacement = (matrix @ centre - centre)[:3]
    motion = {
        "translation": float(np.linalg.norm(displacement)),
        "rotation": float(np.degrees(Rotation.from_matrix(matrix[:3, :3]).magnitude())),
    }
    return motion if residual is None else {**motion, "displacement": float(residual)}
