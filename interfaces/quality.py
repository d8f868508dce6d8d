"""Quality of scans, to decide which ones to exclude."""

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

from ..core.quality import check_sign_of_total
from ..dataset.files import read_json, write_json
from ..dataset.names import QUALITY_TABLE
from ..dataset.outputs import derivative_path
from ..dataset.plausibility import find_doubts
from ..dataset.sidecars import sidecar_path
from ..dataset.tables import write_tsv
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import geometry, read_mask, read_volume


class _CheckSignInputSpec(ThreadedInputSpec):
    field_file = File(exists=True, mandatory=True, desc="total field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="its standard error, ppm")
    mask_file = File(exists=True, mandatory=True, desc="brain mask")


class CheckSign(CoreInterface):
    """Check whether the phase of a person's scan has the right sign."""

    input_spec = _CheckSignInputSpec
    output_spec = ProvenanceOutputSpec

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.field_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        mask = read_mask(self.inputs.mask_file)
        with self.threads():
            sign = check_sign_of_total(
                field, mask, standard_error=standard_error, **geometry(image)
            )
        fields = {}
        if sign.asymmetry is not None:
            fields = {"SignAsymmetry": sign.asymmetry, "SignLooksWrong": sign.looks_wrong}
        self.record(**fields)
        return runtime


class _SaveQualityInputSpec(BaseInterfaceInputSpec):
    maps = traits.List(
        traits.Dict,
        mandatory=True,
        desc="maps of each scan by inversion; their sidecars are read",
    )
    magnitude_files = traits.List(
        File(exists=True), mandatory=True, desc="combined magnitude of each"
    )
    mask_files = traits.List(File(exists=True), mandatory=True, desc="brain mask of each")
    motion = traits.List(
        traits.Dict,
        desc="motion of each, as returned by `multiqsm.interfaces.registration.RegisterScans`; "
        "scans of a phantom are not registered",
    )
    labels = traits.List(
        traits.Dict, mandatory=True, desc="columns that identify the scan, of each"
    )
    subject = traits.Str(mandatory=True, desc="label of the subject")
    columns = traits.Dict(mandatory=True, desc="descriptions of the columns")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveQualityOutputSpec(TraitedSpec):
    out_file = File(desc="the table")


class SaveQuality(SimpleInterface):
    """Write the quality table of a subject, with one row for each scan."""

    input_spec = _SaveQualityInputSpec
    output_spec = _SaveQualityOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        motion = inputs.motion if isdefined(inputs.motion) else [{}] * len(inputs.labels)
        scans = zip(
            inputs.labels,
            inputs.maps,
            inputs.magnitude_files,
            inputs.mask_files,
            motion,
            strict=True,
        )
        rows = []
        for labels, maps, magnitude_file, mask_file, motion_columns in scans:
            quality = _quality(maps, magnitude_file, mask_file)
            rows.append({**labels, **quality, **motion_columns})
        subject = {"subject": inputs.subject}
        path = derivative_path(inputs.output_dir, subject, **QUALITY_TABLE)
        write_tsv(path, pd.DataFrame(rows).reindex(columns=list(inputs.columns)))
        write_json(path.with_suffix(".json"), inputs.columns)
        self._results["out_file"] = str(path)
        return runtime


def _quality(maps, magnitude_file, mask_file):
    """Return a scan's columns, from its derivatives and their sidecars.

    Fields that an earlier version did not write are None.
    """
    sidecars = {method: read_json(sidecar_path(chi_file)) for method, chi_file in maps.items()}
    sidecar = next(iter(sidecars.values()))
    magnitude, image = read_volume(magnitude_file)
    mask = read_mask(mask_file)
    n_voxels = int(np.count_nonzero(mask))
    noise = sidecar.get("MagnitudeNoiseStandardDeviation")
    n_unresolved = sidecar.get("UnresolvedVoxels")
    fraction_unresolved = None
    if n_unresolved is not None:
        fraction_unresolved = n_unresolved / max(n_voxels + n_unresolved, 1)
    at_bound = []
    not_converged = []
    for method, fields in sidecars.items():
        if fields.get("LambdaAtBound"):
            at_bound.append(method)
        if not fields.get("InversionConverged", True):
            not_converged.append(method)
    # dict.fromkeys removes repetitions and keeps the order
    doubts = dict.fromkeys(doubt.figure for doubt in find_doubts(sidecars))
    return {
        "snr": float(np.median(magnitude[mask])) / noise if noise and n_voxels else None,
        "snr_first_echo": sidecar.get("FirstEchoSignalToNoise"),
        "field_se": sidecar.get("MedianFieldStandardError"),
        "field_se_noise": sidecar.get("MedianFieldNoiseError"),
        "field_se_systematic": sidecar.get("MedianFieldSystematicError"),
        "local_field_sd": sidecar.get("LocalFieldStandardDeviation"),
        "local_field_robust_sd": sidecar.get("LocalFieldRobustStandardDeviation"),
        "unresolved_voxels": n_unresolved,
        "unresolved_fraction": fraction_unresolved,
        "without_weight": sidecar.get("VoxelsWithoutWeightFraction"),
        "mask_volume": n_voxels * float(np.prod(geometry(image)["voxel_size"])) / 1000,
        "lambda_at_bound": ", ".join(at_bound) or "none",
        "not_converged": ", ".join(not_converged) or "none",
        "sign_asymmetry": sidecar.get("SignAsymmetry"),
        "doubts": ", ".join(doubts) or "none",
    }
