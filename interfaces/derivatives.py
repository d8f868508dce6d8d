"""Write results into the derivative dataset."""

from pathlib import Path

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
from .images import read_volume, write_volume


class _SaveDerivativeInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to save")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(mandatory=True, desc="entities of the scan, by their long names")
    suffix = traits.Str(mandatory=True, desc="BIDS suffix")
    desc = traits.Str(desc="BIDS desc entity")
    space = traits.Str(desc="BIDS space entity")
    datatype = traits.Enum("anat", "fmap", usedefault=True, desc="BIDS datatype")
    metadata = traits.Dict(usedefault=True, desc="sidecar fields of this kind of image")
    provenance = traits.Dict(usedefault=True, desc="sidecar fields of the steps that made it")
    hz_per_ppm = traits.Float(desc="convert from ppm to Hz: the centre frequency in MHz")
    is_mask = traits.Bool(False, usedefault=True, desc="save as 0 and 1")
    lookup = traits.Dict(desc="names of labels: save as integers, with a table of them")
    combine_echoes = traits.Bool(
        False, usedefault=True, desc="save the root sum of squares over the echoes"
    )


class _SaveDerivativeOutputSpec(TraitedSpec):
    out_file = File(desc="the saved image")


class SaveDerivative(SimpleInterface):
    """Save an image under its BIDS name, with its sidecar; a reader never meets half a file."""

    input_spec = _SaveDerivativeInputSpec
    output_spec = _SaveDerivativeOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        path = derivative_path(
            inputs.output_dir,
            inputs.entities,
            suffix=inputs.suffix,
            desc=inputs.desc if isdefined(inputs.desc) else None,
            space=inputs.space if isdefined(inputs.space) else None,
            datatype=inputs.datatype,
        )
        data, image = self._voxels()
        save_image(path, data, image, {**inputs.provenance, **inputs.metadata})
        if isdefined(inputs.lookup):
            rows = [{"index": int(index), "name": name} for index, name in inputs.lookup.items()]
            write_tsv(
                path.with_name(path.name.replace(".nii.gz", ".tsv")),
                pd.DataFrame(rows, columns=["index", "name"]),
            )
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
        traits.Str, mandatory=True, desc="map of each scan in the subject space; empty: left out"
    )
    native_files = traits.List(
        traits.Str, mandatory=True, desc="the derivatives that they were made of"
    )
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    offsets = traits.List(
        traits.Dict, mandatory=True, desc="of each, mean and sd of the reference region before"
    )
    reference = traits.Str(mandatory=True, desc="name of the reference region")
    record = traits.Dict(usedefault=True, desc="sidecar fields: how the reference was found")
    steps = traits.List(
        traits.Str, usedefault=True, desc="what the text on methods calls the registration"
    )
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    method = traits.Str(mandatory=True, desc="the inversion")
    average_file = File(
        exists=True, mandatory=True, desc="the saved image that shows the subject space"
    )
    not_made = traits.List(
        traits.Dict,
        usedefault=True,
        desc="what names maps of the scans together that there are not",
    )


class _SaveSubjectMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the saved maps")


class SaveSubjectMaps(SimpleInterface):
    """Save the susceptibility maps of a subject's scans in the subject space, with the transforms
    that led there.
    """

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
                path, transform = self._paths(entities)
                for earlier in (path, sidecar_path(path), transform):
                    earlier.unlink(missing_ok=True)
        for named in inputs.not_made:  # an earlier run may have had other scans
            path = derivative_path(inputs.output_dir, **named)
            for earlier in (path, sidecar_path(path), picture_path(inputs.output_dir, **named)):
                earlier.unlink(missing_ok=True)
        return runtime

    def _paths(self, entities):
        """The scan's map in the subject space, and the transform that led there."""
        root = self.inputs.output_dir
        path = derivative_path(root, entities, **subject_space_map(self.inputs.method))
        return path, derivative_path(root, entities, **TO_SUBJECT)

    def _save(self, in_file, native_file, transform_file, offset, entities):
        inputs = self.inputs
        root = self.inputs.output_dir
        path, transform = self._paths(entities)
        write_text(transform, transform_file.read_text(encoding="utf-8"))
        data, image = read_volume(in_file)
        native = read_json(sidecar_path(native_file))
        own = {
            "Sources": [bids_uri(file, root, "") for file in (native_file, transform)],
            "SpatialReference": bids_uri(inputs.average_file, root, ""),
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
        save_image(path, np.nan_to_num(data), image, {**native, **inputs.record, **own})
        return str(path)


def save_image(path, data, like, metadata):
    """Save an image and its sidecar so that a reader never meets half a file.

    Parameters
    ----------
    path : pathlib.Path
        The image; its folder is made if missing.
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
