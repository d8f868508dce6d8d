"""Standard error of susceptibility, of maps and of regions' means."""

from collections.abc import Iterable, Mapping
from functools import partial

import nibabel as nib
import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from ..core.inversion.closed_form import deterministic
from ..core.inversion.morphology import medi
from ..core.inversion.uncertainty import (
    monte_carlo_standard_error,
    region_standard_errors,
    susceptibility_standard_error,
    weighted_standard_error,
)
from ..core.inversion.weighted import ROUGH_TOLERANCE, iterative
from ..core.registration.resampling import resample_weights
from ..dataset.files import PathLike, read_json
from ..dataset.sidecars import sidecar_path
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import geometry, read_mask, read_volume, write_volume
from .inversion import free_edges, iterative_weight
from .methods import InversionRecord, NoiseModel


class _StandardErrorInputSpec(ThreadedInputSpec):
    standard_error_file = File(
        exists=True, mandatory=True, desc="standard error that the inversion weights by, ppm"
    )
    total_error_file = File(
        exists=True, desc="standard error of the field, ppm; by default that it weights by"
    )
    mask_file = File(exists=True, mandatory=True, desc="mask of the inversion")
    record = traits.Instance(InversionRecord, mandatory=True, desc="record of the inversion")


class _StandardErrorOutputSpec(ProvenanceOutputSpec):
    chi_se_file = File(desc="standard error of susceptibility, ppm")


class _StandardError(CoreInterface):
    """Propagate the field's noise through an inversion, as its record describes it."""

    output_spec = _StandardErrorOutputSpec

    def _run_interface(self, runtime):
        weighted_by, image = read_volume(self.inputs.standard_error_file)
        mask = read_mask(self.inputs.mask_file)
        sigma = weighted_by
        if isdefined(self.inputs.total_error_file):
            sigma, _ = read_volume(self.inputs.total_error_file)
        self._weighted_by = weighted_by
        with self.threads():
            chi_se = self._propagate(sigma, mask, geometry(image))
        self._results["chi_se_file"] = write_volume(self.out_path(runtime, "chi_se"), chi_se, image)
        self.record(
            VoxelsWithoutSignal=int(np.isinf(sigma[mask]).sum()),
            **self._fields(),
        )
        return runtime


class DeterministicStandardError(_StandardError):
    """Standard error of the closed-form inversion: exact."""

    input_spec = _StandardErrorInputSpec

    def _propagate(self, sigma, mask, space):
        return susceptibility_standard_error(
            sigma,
            mask,
            lambda_value=self.inputs.record.lambda_choice.value,
            reference=mask,
            **space,
        )

    def _fields(self):
        return {"StandardErrorFrom": "closed form"}


class _RealisationsInputSpec(_StandardErrorInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges"
    )
    local_field_file = File(exists=True, mandatory=True, desc="local field, ppm")
    draws = traits.Int(mandatory=True, desc="number of realisations of the noise")
    seed = traits.Int(0, usedefault=True, desc="seed of the random noise")


class _RealisationsStandardError(_StandardError):
    """Standard error from the inversion of simulated realisations of the noise."""

    is_linear = True

    def _edges(self, edge_fraction, field, mask, space):
        return free_edges(self.inputs.magnitude_file, edge_fraction, field, mask, space)

    def _standard_error(self, respond, sigma, mask, space):
        options = {
            "draws": self.inputs.draws,
            "seed": self.inputs.seed,
            "gaussian": not self.is_linear,
        }
        return monte_carlo_standard_error(respond, sigma, mask, space["voxel_size"], **options)

    def _fields(self):
        return {
            "StandardErrorFrom": "realisations of the noise",
            "DataWeightFollowsNoise": self.inputs.record.weighs_noise,
            "NoiseRealisations": self.inputs.draws,
            "NoiseSeed": self.inputs.seed,
        }


class IterativeStandardError(_RealisationsStandardError):
    """Standard error of the iterative inversion."""

    input_spec = _RealisationsInputSpec

    def _propagate(self, sigma, mask, space):
        record = self.inputs.record
        field, _ = read_volume(self.inputs.local_field_file)
        options = {
            "edges": self._edges(record.edge_fraction, field, mask, space),
            "data_weight": iterative_weight(self._weighted_by, mask, record.weighs_noise),
            "exterior_weight": record.exterior_weight,
            "lambda_value": record.lambda_choice.value,
            "tolerance": ROUGH_TOLERANCE,
            **space,
        }
        return self._standard_error(
            lambda noise: iterative(noise, mask, **options).chi, sigma, mask, space
        )


class MediStandardError(_RealisationsStandardError):
    """Standard error of MEDI: how its map changes when noise is added to the field.

    MEDI is not linear, so that its response to noise alone would say nothing. The λ of the closed
    form is computed as well: standard errors of regional means need the correlation of the noise,
    which only the closed form has.
    """

    input_spec = _RealisationsInputSpec
    is_linear = False

    def _propagate(self, sigma, mask, space):
        record = self.inputs.record
        field, _ = read_volume(self.inputs.local_field_file)
        self._closed_form = deterministic(field, mask, **space).lambda_choice.value
        invert = partial(
            medi,
            mask=mask,
            edges=self._edges(record.edge_fraction, field, mask, space),
            standard_error=self._weighted_by,
            medi_lambda=record.lambda_choice.value,
            medi_data=record.medi_data,
            period=record.period,
            merit=record.merit,
            tolerance=record.tolerance,
            max_iterations=record.max_iterations,
            **space,
        )
        undisturbed = invert(field).chi
        return self._standard_error(
            lambda noise: invert(field + noise).chi - undisturbed, sigma, mask, space
        )

    def _fields(self):
        return super()._fields() | {"ClosedFormLambda": self._closed_form}


STANDARD_ERRORS = {
    "medi": MediStandardError,
    "iterative": IterativeStandardError,
    "deterministic": DeterministicStandardError,
}


def measured_standard_errors(
    regions: Iterable[np.ndarray],
    image: nib.Nifti1Image,
    *,
    noise: Mapping[str, PathLike],
    reference: np.ndarray | None = None,
    transform: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the standard errors of regional means of a susceptibility map, and their parts.

    The regions are resampled to the scan's own grid as weights. The noise is modelled as that of
    the closed form at the map's λ, scaled in each voxel to the map of standard errors. MEDI's λ is
    another quantity; its maps use the λ that the closed form would choose. Errors of the field are
    taken to be independent between voxels: in simulated heads the mean over 5×5×5 voxels scatters
    by .96 to .99 of what this predicts, although nine tenths of the errors are systematic.

    Parameters
    ----------
    regions : iterable of ndarray of bool, shape (x, y, z)
        Voxels of each region.
    image : nibabel.Nifti1Image
        Image on their grid.
    noise : dict of path-like
        Files of the scan's standard errors on its own grid: ``chi_se`` of susceptibility (ppm),
        ``field_se`` of the field (Hz) and ``field_noise``, its part due to noise (Hz). Without the
        latter, as with maps of earlier versions, the parts are NaN.
    reference : ndarray of bool, shape (x, y, z), optional
        Reference region on the grid of the regions. By default the whole map.
    transform : ndarray, shape (4, 4), optional
        From the world coordinates of the regions to those of the scan, mm. By default they are the
        same.

    Returns
    -------
    dict of ndarray, shape (n,)
        ``se``, and its parts ``se_noise`` and ``se_systematic``, whose squares add up to its own,
        in ppm; NaN of regions without a voxel.
    """
    chi_se, scan = read_volume(noise["chi_se"])
    model = NoiseModel.from_sidecar(read_json(sidecar_path(noise["chi_se"])))
    mask = chi_se > 0  # a brain mask may be larger than the inversion's
    # The unit, Hz, cancels: `scale` converts the closed form's standard error to ppm.
    of_field, _ = read_volume(noise["field_se"])
    sigma = of_field
    if model.weighs_noise:
        sigma = weighted_standard_error(of_field, mask, model.smallest_weight)
    elif model.weighs_noise is not None:
        sigma = np.where(np.isfinite(of_field), of_field, 0)
    space = geometry(scan)
    closed_form = susceptibility_standard_error(
        sigma, mask, lambda_value=model.lambda_value, reference=mask, **space
    )
    scale = np.divide(chi_se, closed_form, out=np.zeros_like(chi_se), where=closed_form > 0)

    def resampled(region: np.ndarray) -> np.ndarray:
        return resample_weights(
            region, image.affine, scan.affine, scan.shape[:3], transform=transform
        )

    reference_weight = mask if reference is None else resampled(reference)

    def region_errors(errors: np.ndarray) -> np.ndarray:
        return region_standard_errors(
            errors,
            mask,
            # lazily, since one region's weights are as large as a map
            regions=map(resampled, masks),
            lambda_value=model.lambda_value,
            reference=reference_weight,
            scale=scale,
            **space,
        )

    masks = list(regions)
    total = region_errors(sigma)
    if "field_noise" not in noise:
        unknown = np.full_like(total, np.nan)
        return {"se": total, "se_noise": unknown, "se_systematic": unknown}
    of_noise, _ = read_volume(noise["field_noise"])
    known = np.isfinite(of_field) & (of_field > 0)
    fraction = np.divide(of_noise, of_field, out=np.ones_like(of_field), where=known)
    part = region_errors(sigma * np.clip(fraction, 0, 1))
    systematic = np.sqrt(np.maximum(total**2 - part**2, 0))
    return {"se": total, "se_noise": part, "se_systematic": systematic}
