"""Quality of scans, for those who decide which to leave out."""

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
    """Tell whether the phase of a person's scan has the right sign."""

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
        judged = sign.asymmetry is not None
        self.record(
            **(
                {"SignAsymmetry": sign.asymmetry, "SignLooksWrong": sign.looks_wrong}
                if judged
                else {}
            )
        )
        return runtime


class _SaveQualityInputSpec(BaseInterfaceInputSpec):
    maps = traits.List(
        traits.Dict,
        mandatory=True,
        desc="maps of each scan by inversion, whose sidecars tell of it",
    )
    magnitude_files = traits.List(
        File(exists=True), mandatory=True, desc="combined magnitude of each"
    )
    mask_files = traits.List(File(exists=True), mandatory=True, desc="brain mask of each")
    found = traits.List(
        traits.Dict,
        desc="of each, what `multiqsm.interfaces.registration.RegisterScans` found; a phantom's "
        "scans are not registered",
    )
    labels = traits.List(
        traits.Dict, mandatory=True, desc="of each, the columns that tell which scan it is"
    )
    subject = traits.Str(mandatory=True, desc="label of the subject")
    columns = traits.Dict(mandatory=True, desc="what the columns mean")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveQualityOutputSpec(TraitedSpec):
    out_file = File(desc="the table")


class SaveQuality(SimpleInterface):
    """Write the table of the quality of a subject's scans, one row each."""

    input_spec = _SaveQualityInputSpec
    output_spec = _SaveQualityOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        files = zip(inputs.maps, inputs.magnitude_files, inputs.mask_files, strict=True)
        found = inputs.found if isdefined(inputs.found) else [{}] * len(inputs.labels)
        scans = zip(inputs.labels, found, files, strict=True)
        rows = [{**labels, **_measured(*paths), **found} for labels, found, paths in scans]
        subject = {"subject": inputs.subject}
        path = derivative_path(inputs.output_dir, subject, **QUALITY_TABLE)
        write_tsv(path, pd.DataFrame(rows).reindex(columns=list(inputs.columns)))
        write_json(path.with_suffix(".json"), inputs.columns)
        self._results["out_file"] = str(path)
        return runtime


def _measured(maps, magnitude_file, mask_file):
    """What a scan's derivatives and their sidecars say of its quality; what an earlier program did
    not write lacks.
    """
    sidecars = {method: read_json(sidecar_path(chi_file)) for method, chi_file in maps.items()}
    told = next(iter(sidecars.values()))
    magnitude, image = read_volume(magnitude_file)
    mask = read_mask(mask_file)
    inside = int(np.count_nonzero(mask))
    unresolved = told.get("UnresolvedVoxels")
    noise = told.get("MagnitudeNoiseStandardDeviation")
    at_bound = [method for method, own in sidecars.items() if own.get("LambdaAtBound")]
    return {
        "snr": float(np.median(magnitude[mask])) / noise if noise and inside else None,
        "field_se": told.get("MedianFieldStandardError"),
        "local_field_sd": told.get("LocalFieldStandardDeviation"),
        "local_field_robust_sd": told.get("LocalFieldRobustStandardDeviation"),
        "unresolved_voxels": unresolved,
        "unresolved_share": None
        if unresolved is None
        else unresolved / max(inside + unresolved, 1),
        "without_weight": told.get("VoxelsWithoutWeightFraction"),
        "mask_volume": inside * float(np.prod(geometry(image)["voxel_size"])) / 1000,
        "lambda_at_bound": ", ".join(at_bound) or "none",
        "sign_asymmetry": told.get("SignAsymmetry"),
        "doubts": ", ".join(dict.fromkeys(doubt.figure for doubt in find_doubts(sidecars)))
        or "none",
    }
