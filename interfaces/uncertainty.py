"""Standard error of susceptibility, of maps and of regions' means."""

from functools import partial

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.inversion.closed_form import deterministic
from ..core.inversion.morphology import medi
from ..core.inversion.uncertainty import (
    monte_carlo_standard_error,
    region_standard_errors,
    susceptibility_standard_error,
    weighted_standard_error,
)
from ..core.inversion.weighted import ROUGH, iterative
from ..core.registration.resampling import resample_weights
from ..dataset.files import read_json
from ..dataset.sidecars import sidecar_path
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import geometry, read_mask, read_volume, write_volume
from .inversion import free_edges, iterative_weight
from .methods import InversionRecord, NoiseModel


class _StandardErrorInputSpec(ThreadedInputSpec):
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where the field was inverted")
    record = traits.Instance(InversionRecord, mandatory=True, desc="what the inversion did")


class _StandardErrorOutputSpec(ProvenanceOutputSpec):
    chi_se_file = File(desc="standard error of susceptibility, ppm")


class _StandardError(CoreInterface):
    """What an inversion makes of the field's noise, by the record of what it did."""

    output_spec = _StandardErrorOutputSpec

    def _run_interface(self, runtime):
        sigma, image = read_volume(self.inputs.standard_error_file)
        mask = read_mask(self.inputs.mask_file)
        with self.threads():
            chi_se = self._propagate(sigma, mask, geometry(image))
        self._results["chi_se_file"] = write_volume(self.out_path(runtime, "chi_se"), chi_se, image)
        self.record(
            Description="Standard error of susceptibility, from the field's noise alone",
            VoxelsWithoutSignal=int(np.isinf(sigma[mask]).sum()),
            **self._described(),
        )
        return runtime


class DeterministicStandardError(_StandardError):
    """Standard error of the closed-form inversion: exact."""

    input_spec = _StandardErrorInputSpec

    def _propagate(self, sigma, mask, space):
        return susceptibility_standard_error(
            sigma, mask, lam=self.inputs.record.lam.value, reference=mask, **space
        )

    def _described(self):
        return {"StandardErrorFrom": "closed form"}


class _DrawnInputSpec(_StandardErrorInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges"
    )
    local_field_file = File(exists=True, mandatory=True, desc="local field, ppm")
    draws = traits.Int(mandatory=True, desc="realisations of the noise")
    seed = traits.Int(0, usedefault=True, desc="seed of the noise")


class _DrawnStandardError(_StandardError):
    """Standard error from an inversion's response to realisations of the noise."""

    is_linear = True

    def _edges(self, edge_fraction, field, mask, space):
        return free_edges(self.inputs.magnitude_file, edge_fraction, field, mask, space)

    def _draw(self, respond, sigma, mask, space):
        options = {
            "draws": self.inputs.draws,
            "seed": self.inputs.seed,
            "gaussian": not self.is_linear,
        }
        return monte_carlo_standard_error(respond, sigma, mask, space["voxel_size"], **options)

    def _described(self):
        return {
            "StandardErrorFrom": "realisations of the noise",
            "DataWeightFollowsNoise": self.inputs.record.weighs_noise,
            "NoiseRealisations": self.inputs.draws,
            "NoiseSeed": self.inputs.seed,
        }


class IterativeStandardError(_DrawnStandardError):
    """Standard error of the inversion that leaves the magnitude's edges free."""

    input_spec = _DrawnInputSpec

    def _propagate(self, sigma, mask, space):
        done = self.inputs.record
        field, _ = read_volume(self.inputs.local_field_file)
        options = {
            "edges": self._edges(done.edge_fraction, field, mask, space),
            "data_weight": iterative_weight(sigma, mask, done.weighs_noise),
            "exterior_weight": done.exterior_weight,
            "lam": done.lam.value,
            "tolerance": ROUGH,
            **space,
        }
        return self._draw(lambda noise: iterative(noise, mask, **options).chi, sigma, mask, space)


class MediStandardError(_DrawnStandardError):
    """Standard error of MEDI, which is not linear: how its map changes as noise is added to its
    field.

    The λ of the closed form is found as well: means over regions take the noise's correlation from
    there.
    """

    input_spec = _DrawnInputSpec
    is_linear = False

    def _propagate(self, sigma, mask, space):
        done = self.inputs.record
        field, _ = read_volume(self.inputs.local_field_file)
        self._closed_form = deterministic(field, mask, **space).lam.value
        invert = partial(
            medi,
            mask=mask,
            edges=self._edges(done.edge_fraction, field, mask, space),
            standard_error=sigma,
            lam=done.lam.value,
            period=done.period,
            merit=done.merit,
            tolerance=done.tolerance,
            max_iterations=done.max_iterations,
            **space,
        )
        undisturbed = invert(field).chi
        return self._draw(lambda noise: invert(field + noise).chi - undisturbed, sigma, mask, space)

    def _described(self):
        return super()._described() | {"ClosedFormLambda": self._closed_form}


STANDARD_ERRORS = {
    "medi": MediStandardError,
    "iterative": IterativeStandardError,
    "deterministic": DeterministicStandardError,
}


def measured_standard_errors(regions, image, *, noise, reference=None, transform=None):
    """Standard error of means over regions of a susceptibility map, from what the scan's
    derivatives say of noise.

    The regions are carried to the scan's own grid as weights. The noise is the closed form's at the
    map's λ (of MEDI, whose λ is another quantity, at that which the closed form would take), scaled
    in each voxel to what the map of standard errors says.

    Parameters
    ----------
    regions : iterable of ndarray of bool, shape (x, y, z)
        Voxels that were averaged.
    image : nibabel.Nifti1Image
        Image on their grid.
    noise : dict of str
        Paths of the scan's ``chi_se`` (ppm) and ``field_se`` (Hz), whose grid is the scan's own.
    reference : ndarray of bool, shape (x, y, z), optional
        The reference region on the same grid; all of the map without it.
    transform : ndarray, shape (4, 4), optional
        From the regions' world to the scan's, mm. They share one by default.

    Returns
    -------
    ndarray, shape (n,)
        In ppm; not a number for regions without a voxel.
    """
    chi_se, scan = read_volume(noise["chi_se"])
    model = NoiseModel.from_sidecar(read_json(sidecar_path(noise["chi_se"])))
    mask = chi_se > 0  # some brain masks are more than was inverted
    # in Hz, but its unit cancels: the scale is relative to it
    sigma, _ = read_volume(noise["field_se"])
    if model.weighs_noise:
        sigma = weighted_standard_error(sigma, mask, model.smallest_weight)
    elif model.weighs_noise is not None:
        sigma = np.where(np.isfinite(sigma), sigma, 0)
    options = {"lam": model.lam, **geometry(scan)}
    closed_form = susceptibility_standard_error(sigma, mask, reference=mask, **options)
    scale = np.divide(chi_se, closed_form, out=np.zeros_like(chi_se), where=closed_form > 0)

    def carried(region):
        return resample_weights(
            region, image.affine, scan.affine, scan.shape[:3], transform=transform
        )

    zero = mask if reference is None else carried(reference)
    weights = (carried(region) for region in regions)
    return region_standard_errors(
        sigma, mask, regions=weights, reference=zero, scale=scale, **options
    )
