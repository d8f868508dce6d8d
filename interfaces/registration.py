"""Scans of one subject brought together."""

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
from ..dataset.files import write_json
from ..dataset.names import REGISTRATION_TABLE
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from .images import read_mask, read_volume, write_volume

NOT_REGISTERED = ""  # in the place of a file, in lists that go along with the scans


class _RegisterScansInputSpec(BaseInterfaceInputSpec):
    magnitude_files = traits.List(File(exists=True), mandatory=True, desc="magnitude of each scan")
    mask_files = traits.List(File(exists=True), mandatory=True, desc="their brain masks")
    space = traits.Enum(
        "middle", "first", usedefault=True, desc="in the middle of the scans, or the first scan's"
    )
    magnitude_files_elsewhere = traits.List(
        File(exists=True), usedefault=True, desc="of scans that are to follow"
    )
    mask_files_elsewhere = traits.List(File(exists=True), usedefault=True, desc="their brain masks")


class _RegisterScansOutputSpec(TraitedSpec):
    transform_files = traits.List(
        traits.Str, desc="subject space to scan, ITK text; empty where a scan failed"
    )
    average_file = File(desc="mean magnitude in the subject space, each scan divided by its median")
    mask_file = File(desc="brain mask in the subject space")
    found = traits.List(
        traits.Dict, desc="of each scan: translation, rotation, displacement, cause of failure"
    )
    transform_files_elsewhere = traits.List(
        traits.Str, desc="subject space to each scan that follows"
    )
    found_elsewhere = traits.List(
        traits.Dict, desc="of each of these: translation, rotation, cause of failure"
    )
    steps = traits.List(traits.Str, desc="what the text on methods calls it")


class RegisterScans(SimpleInterface):
    """Bring a subject's scans into one space; one that does not fit leaves the others.

    Scans that are to follow have no part in the space; they are registered to what it shows.
    """

    input_spec = _RegisterScansInputSpec
    output_spec = _RegisterScansOutputSpec

    def _run_interface(self, runtime):
        images = [read_volume(path) for path in self.inputs.magnitude_files]
        masks = [read_mask(path) for path in self.inputs.mask_files]
        scans = [data for data, _ in images], [image.affine for _, image in images], masks
        space = mid_space(*scans)
        if self.inputs.space == "first":
            space = first_space(space, *scans)
        folder = Path(runtime.cwd)
        like = nib.Nifti1Image(space.average, space.affine)
        self._results["average_file"] = write_volume(folder / "average.nii", space.average, like)
        self._results["mask_file"] = write_volume(folder / "mask.nii", space.mask, like)
        self._results["transform_files"] = [
            _write_transform(folder / f"scan{place}_xfm.txt", matrix)
            for place, matrix in enumerate(space.transforms)
        ]
        registered = sum(matrix is not None for matrix in space.transforms)
        self._results["found"] = [
            _described(matrix, cause, space, residual) if registered > 1 or matrix is None else {}
            for matrix, residual, cause in zip(
                space.transforms, space.residuals, space.causes, strict=True
            )
        ]
        several = "registration" if self.inputs.space == "middle" else "registration_first"
        self._results["steps"] = [several if registered > 1 else "single_scan"]
        self._register_elsewhere(space, folder)
        return runtime

    def _register_elsewhere(self, space, folder):
        self._results["transform_files_elsewhere"] = []
        self._results["found_elsewhere"] = []
        files = zip(
            self.inputs.magnitude_files_elsewhere, self.inputs.mask_files_elsewhere, strict=True
        )
        for place, (magnitude_file, mask_file) in enumerate(files):
            magnitude, image = read_volume(magnitude_file)
            try:
                matrix = register_to_space(space, magnitude, image.affine, read_mask(mask_file))
                cause = None
            except ValueError as error:
                matrix = None
                cause = f"not registered to the average of the scans: {error}"
            transform_file = _write_transform(folder / f"elsewhere{place}_xfm.txt", matrix)
            self._results["transform_files_elsewhere"].append(transform_file)
            self._results["found_elsewhere"].append(_described(matrix, cause, space))


class _SaveRegistrationInputSpec(BaseInterfaceInputSpec):
    found = traits.List(
        traits.Dict, mandatory=True, desc="of each scan, what `RegisterScans` found"
    )
    found_elsewhere = traits.List(
        traits.Dict, usedefault=True, desc="the same of the scans that followed"
    )
    labels = traits.List(
        traits.Dict, mandatory=True, desc="of each of both, the columns that tell which scan it is"
    )
    subject = traits.Str(mandatory=True, desc="label of the subject")
    columns = traits.Dict(mandatory=True, desc="what the columns mean")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveRegistrationOutputSpec(TraitedSpec):
    out_file = File(desc="the table")


class SaveRegistration(SimpleInterface):
    """Write the table of a subject's registered scans, and of those that were not, with the
    cause.
    """

    input_spec = _SaveRegistrationInputSpec
    output_spec = _SaveRegistrationOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        found = [*inputs.found, *inputs.found_elsewhere]
        rows = [{**labels, **row} for labels, row in zip(inputs.labels, found, strict=True)]
        columns = list(inputs.columns)
        subject = {"subject": inputs.subject}
        path = derivative_path(inputs.output_dir, subject, **REGISTRATION_TABLE)
        write_tsv(path, pd.DataFrame(rows).reindex(columns=columns))
        write_json(path.with_suffix(".json"), inputs.columns)
        self._results["out_file"] = str(path)
        return runtime


class _ResampleMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str, mandatory=True, desc="a map of each scan; empty: there is none"
    )
    mask_files = traits.List(File(exists=True), mandatory=True, desc="where each is known")
    transform_files = traits.List(
        traits.Str, mandatory=True, desc="subject space to scan; empty: leave it out"
    )
    grid_file = File(exists=True, mandatory=True, desc="an image in the subject space")


class _ResampleMapsOutputSpec(TraitedSpec):
    out_files = traits.List(
        traits.Str, desc="the maps in the subject space, not-a-number where they are not known"
    )


class ResampleMaps(SimpleInterface):
    """Bring a map of each scan into the subject space, with one interpolation."""

    input_spec = _ResampleMapsInputSpec
    output_spec = _ResampleMapsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        grid = nib.load(self.inputs.grid_file)
        self._results["out_files"] = []
        files = zip(inputs.in_files, inputs.mask_files, inputs.transform_files, strict=True)
        for place, (in_file, mask_file, transform_file) in enumerate(files):
            out_file = NOT_REGISTERED
            if NOT_REGISTERED not in (in_file, transform_file):
                data, image = read_volume(in_file)
                carried = resample(
                    data,
                    image.affine,
                    grid.affine,
                    grid.shape,
                    transform=read_transform(transform_file),
                    mask=read_mask(mask_file),
                    fill=np.nan,
                )
                out_file = write_volume(Path(runtime.cwd) / f"scan{place}.nii", carried, grid)
            self._results["out_files"].append(out_file)
        return runtime


def read_transform(path):
    """Read a transform that `RegisterScans` wrote: a matrix of shape (4, 4), mm."""
    return read_itk_text(Path(path).read_text(encoding="utf-8"))


def _write_transform(path, matrix):
    if matrix is None:
        return NOT_REGISTERED
    path.write_text(itk_text(matrix), encoding="utf-8")
    return str(path)


def _described(matrix, cause, space, residual=None):
    if matrix is None:
        return {"cause": cause}
    middle = space.affine @ [*((np.array(space.shape) - 1) / 2), 1]
    moved = (matrix @ middle - middle)[:3]
    motion = {
        "translation": float(np.linalg.norm(moved)),
        "rotation": float(np.degrees(Rotation.from_matrix(matrix[:3, :3]).magnitude())),
    }
    return motion if residual is None else {**motion, "displacement": float(residual)}
