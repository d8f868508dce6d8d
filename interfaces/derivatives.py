"""Nodes that write results into the derivative dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from ..core.phase.encoding import ppm_to_hz
from ..core.phase.fieldfit import combine_magnitude
from ..dataset.files import atomic_write, read_json, write_text
from ..dataset.methods import METHOD_STEPS
from ..dataset.names import TO_SUBJECT, picture_path, subject_space_map
from ..dataset.outputs import bids_uri, derivative_path
from ..dataset.sidecars import sidecar_path, write_sidecar
from ..dataset.tables import write_tsv
from .base import none_if_undefined
from .images import read_volume, write_volume


class _SaveDerivativeInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to save")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(
        mandatory=True, desc="entities of the scan, with their long names as keys"
    )
    suffix = traits.Str(mandatory=True, desc="BIDS suffix")
    desc = traits.Str(desc="BIDS desc entity")
    space = traits.Str(desc="BIDS space entity")
    datatype = traits.Enum("anat", "fmap", usedefault=True, desc="BIDS datatype")
    metadata = traits.Dict(usedefault=True, desc="sidecar fields that describe this kind of image")
    provenance = traits.Dict(usedefault=True, desc="sidecar fields of the steps that made it")
    hz_per_ppm = traits.Float(desc="centre frequency in MHz, to convert from ppm to Hz")
    is_mask = traits.Bool(False, usedefault=True, desc="save 0 and 1")
    lookup = traits.Dict(desc="names by label, to save integers with a lookup table")
    combine_echoes = traits.Bool(
        False, usedefault=True, desc="save the root sum of squares over the echoes"
    )


class _SaveDerivativeOutputSpec(TraitedSpec):
    out_file = File(desc="the saved image")


class SaveDerivative(SimpleInterface):
    """Save an image under its BIDS name, with its sidecar; files are written atomically."""

    input_spec = _SaveDerivativeInputSpec
    output_spec = _SaveDerivativeOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        path = derivative_path(
            inputs.output_dir,
            inputs.entities,
            suffix=inputs.suffix,
            desc=none_if_undefined(inputs.desc),
            space=none_if_undefined(inputs.space),
            datatype=inputs.datatype,
        )
        data, image = self._voxels()
        save_image(path, data, image, {**inputs.provenance, **inputs.metadata})
        if isdefined(inputs.lookup):
            lookup = pd.DataFrame(inputs.lookup.items(), columns=["index", "name"])
            lookup["index"] = lookup["index"].astype(int)
            write_tsv(path.with_name(path.name.replace(".nii.gz", ".tsv")), lookup)
        self._results["out_file"] = str(path.absolute())
        return runtime

    def _voxels(self):
        data, image = read_volume(self.inputs.in_file)
        if self.inputs.is_mask:
            data = data != 0
        if isdefined(self.inputs.lookup):
            data = np.rint(data).astype(np.int32)
        if self.inputs.combine_echoes:
            data = combine_magnitude(data)
        if isdefined(self.inputs.hz_per_ppm):
            data = ppm_to_hz(data, self.inputs.hz_per_ppm)
        return data, image


class _SaveSubjectMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str,
        mandatory=True,
        desc="map of each scan in the subject space; empty: the scan is left out",
    )
    native_files = traits.List(
        traits.Str, mandatory=True, desc="derivative from which each map was resampled"
    )
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    offsets = traits.List(
        traits.Dict,
        mandatory=True,
        desc="mean and SD of the reference region of each map, before the mean was subtracted",
    )
    reference = traits.Str(mandatory=True, desc="name of the reference region")
    record = traits.Dict(usedefault=True, desc="sidecar fields on the reference region")
    steps = traits.List(
        traits.Str,
        usedefault=True,
        desc="keys of the sentences on the registration in the methods text",
    )
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    method = traits.Str(mandatory=True, desc="name of the inversion")
    average_file = File(
        exists=True, mandatory=True, desc="saved average magnitude in the subject space"
    )
    obsolete = traits.List(
        traits.Dict,
        usedefault=True,
        desc="names of maps across scans that cannot be computed; those of an earlier run are "
        "removed",
    )


class _SaveSubjectMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the saved maps")


class SaveSubjectMaps(SimpleInterface):
    """Save the maps of a subject's scans in the subject space, and the transforms to it."""

    input_spec = _SaveSubjectMapsInputSpec
    output_spec = _SaveSubjectMapsOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        scans = zip(
            inputs.in_files,
            inputs.native_files,
            inputs.transform_files,
            inputs.offsets,
            inputs.entities,
            strict=True,
        )
        for in_file, native_file, transform_file, offset, entities in scans:
            if in_file:
                self._results["out_files"].append(
                    self._save(in_file, Path(native_file), Path(transform_file), offset, entities)
                )
            else:  # an earlier run may have registered the scan
                map_file, saved_transform = self._paths(entities)
                _remove(map_file, sidecar_path(map_file), saved_transform)
        for names in inputs.obsolete:  # an earlier run may have had other scans
            map_file = derivative_path(inputs.output_dir, **names)
            _remove(map_file, sidecar_path(map_file), picture_path(inputs.output_dir, **names))
        return runtime

    def _paths(self, entities):
        """Return the paths of the scan's map in the subject space and of its transform."""
        root = self.inputs.output_dir
        map_file = derivative_path(root, entities, **subject_space_map(self.inputs.method))
        return map_file, derivative_path(root, entities, **TO_SUBJECT)

    def _save(self, in_file, native_file, transform_file, offset, entities):
        inputs = self.inputs
        root = inputs.output_dir
        map_file, saved_transform = self._paths(entities)
        write_text(saved_transform, transform_file.read_text(encoding="utf-8"))
        data, image = read_volume(in_file)
        native = read_json(sidecar_path(native_file))
        fields = {
            "Sources": [bids_uri(file, root, "") for file in (native_file, saved_transform)],
            "SpatialReference": bids_uri(inputs.average_file, root, ""),
            "Description": f"Magnetic susceptibility relative to {inputs.reference}, in subject "
            f"space, by the inversion {inputs.method}",
            "Interpolation": "cubic B-spline, once",
            "ReferenceRegion": inputs.reference,
            "ReferenceOffset": offset["mean"],
            "ReferenceOffsetOver": native.get("ReferenceRegion"),
            "ReferenceStandardDeviation": offset["sd"],
            "ReferenceVoxels": offset["n_voxels"],
            METHOD_STEPS: [
                *native.get(METHOD_STEPS, ()),
                *inputs.steps,
                *inputs.record.get(METHOD_STEPS, ()),
            ],
        }
        save_image(map_file, np.nan_to_num(data), image, {**native, **inputs.record, **fields})
        return str(map_file)


def _remove(*paths):
    """Remove files of an earlier run, if they exist."""
    for path in paths:
        path.unlink(missing_ok=True)


def save_image(
    path: Path, data: np.ndarray, like: nib.Nifti1Image, metadata: Mapping[str, Any]
) -> None:
    """Save an image and its sidecar, each atomically.

    Parameters
    ----------
    path : pathlib.Path
        File of the image. Its folder is created if it does not exist.
    data : ndarray
        Voxels.
    like : nibabel.Nifti1Image
        An image in the same space.
    metadata : dict
        Content of the sidecar.
    """
    with atomic_write(path) as partial:
        write_volume(partial, data, like)
        write_sidecar(path, metadata)
