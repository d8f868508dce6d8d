"""Scans of one subject brought together."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, traits
from scipy.spatial.transform import Rotation

from ..core.midspace import first_space, mid_space
from ..core.resample import resample
from ..core.transforms import itk_text, read_itk_text
from ..dataset.derivatives import derivative_path, write_json, write_tsv
from .images import read_mask, read_volume, write_volume

NOT_REGISTERED = ""  # in the place of a file, in lists that go along with the scans


class _RegisterScansInputSpec(BaseInterfaceInputSpec):
    magnitude_files = traits.List(File(exists=True), mandatory=True, desc="magnitude of each scan")
    mask_files = traits.List(File(exists=True), mandatory=True, desc="their brain masks")
    space = traits.Enum("middle", "first", usedefault=True, desc="in the middle of the scans, or the first scan's")


class _RegisterScansOutputSpec(TraitedSpec):
    transform_files = traits.List(traits.Str, desc="subject space to scan, ITK text; empty where a scan failed")
    average_file = File(desc="mean magnitude in the subject space, each scan divided by its median")
    mask_file = File(desc="brain mask in the subject space")
    found = traits.List(traits.Dict, desc="of each scan: translation, rotation, displacement, cause of failure")


class RegisterScans(SimpleInterface):
    """Bring a subject's scans into one space; one that does not fit leaves the others."""

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
            _write_transform(folder / f"scan{place}_xfm.txt", matrix) for place, matrix in enumerate(space.transforms)
        ]
        self._results["found"] = [
            _described(*found, space) for found in zip(space.transforms, space.residuals, space.causes, strict=True)
        ]
        return runtime


class _SaveRegistrationInputSpec(BaseInterfaceInputSpec):
    found = traits.List(traits.Dict, mandatory=True, desc="of each scan, what `RegisterScans` found")
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    sites = traits.List(traits.Str, mandatory=True, desc="site of each")
    columns = traits.Dict(mandatory=True, desc="what the columns mean")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveRegistrationOutputSpec(TraitedSpec):
    out_file = File(desc="the table")


class SaveRegistration(SimpleInterface):
    """Write the table of a subject's registered scans, and of those that were not, with the cause."""

    input_spec = _SaveRegistrationInputSpec
    output_spec = _SaveRegistrationOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        given = self.inputs
        rows = [
            {**{key: entities.get(key) for key in ("session", "run")}, "site": site, **found}
            for entities, site, found in zip(given.entities, given.sites, given.found, strict=True)
        ]
        columns = list(given.columns)
        path = derivative_path(
            given.output_dir,
            {"subject": given.entities[0]["subject"]},
            datatype="xfm",
            suffix="xfm",
            desc="registration",
        )
        write_tsv(path, pd.DataFrame(rows).reindex(columns=columns))
        write_json(path.with_suffix(".json"), given.columns)
        self._results["out_file"] = str(path)
        return runtime


class _ResampleMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(traits.Str, mandatory=True, desc="a map of each scan; empty: there is none")
    mask_files = traits.List(File(exists=True), mandatory=True, desc="where each is known")
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to scan; empty: leave it out")
    grid_file = File(exists=True, mandatory=True, desc="an image in the subject space")


class _ResampleMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the maps in the subject space, not-a-number where they are not known")


class ResampleMaps(SimpleInterface):
    """Bring a map of each scan into the subject space, with one interpolation."""

    input_spec = _ResampleMapsInputSpec
    output_spec = _ResampleMapsOutputSpec

    def _run_interface(self, runtime):
        given, grid = self.inputs, nib.load(self.inputs.grid_file)
        self._results["out_files"] = []
        files = zip(given.in_files, given.mask_files, given.transform_files, strict=True)
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


def _described(matrix, residual, cause, space):
    if matrix is None:
        return {"cause": cause}
    middle = space.affine @ [*((np.array(space.shape) - 1) / 2), 1]
    moved = (matrix @ middle - middle)[:3]
    return {
        "translation": float(np.linalg.norm(moved)),
        "rotation": float(np.degrees(Rotation.from_matrix(matrix[:3, :3]).magnitude())),
        "displacement": float(residual),
    }
