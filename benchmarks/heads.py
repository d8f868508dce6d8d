"""Simulated heads that benchmarks share: a scan at each site of the 2015 study, its field as the
pipeline fits it.
"""

import pickle
from dataclasses import dataclass

import numpy as np

from multiqsm.core.dipole import b0_direction
from multiqsm.core.mask.brain import brain_mask
from multiqsm.core.mask.reliability import fill_unmeasured, trim_unreliable
from multiqsm.core.mask.shapes import erode
from multiqsm.core.phase.fieldfit import combine_magnitude, fit_field
from multiqsm.core.phase.unwrapping import unwrap_echoes
from multiqsm.simulation.head import label_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

NUCLEI = ("caudate_nucleus", "putamen", "globus_pallidus", "red_nucleus", "substantia_nigra")
CORE_DEPTH = 5.0  # mm


@dataclass(frozen=True)
class Head:
    """A simulated scan, its field as the pipeline fits it, and the truth; fields and susceptibility
    in ppm.

    `brain` is the simulated brain, `mask` what the pipeline would map of it; `period` is the field
    that wraps the phase once from echo to echo.
    """

    site: str
    field: np.ndarray
    standard_error: np.ndarray
    magnitude: np.ndarray
    mask: np.ndarray
    brain: np.ndarray
    total_field: np.ndarray
    local_field: np.ndarray
    chi: np.ndarray
    labels: np.ndarray
    voxel_size: tuple
    b0_dir: tuple
    period: float

    @property
    def arguments(self):
        return self.field, self.mask, self.voxel_size

    @property
    def core(self):
        return erode(self.mask, self.voxel_size, CORE_DEPTH)

    @property
    def nuclei(self):
        return self.region(*NUCLEI)

    def region(self, *names):
        """Voxels of the mask in some regions, left and right."""
        indices = [index for index, name in label_names().items() if name.endswith(names)]
        return np.isin(self.labels, indices) & self.mask


def site_heads(threads, *, sites=None, voxel_size=None, automatic_mask=False, keep=None):
    """Yield one head a site; those that lie in the folder `keep` are not simulated again."""
    for plan in make_design("study", subjects=1, runs=1, sites=sites, voxel_size=voxel_size).plans:
        if plan.participant.model == "head":
            marks = ["automask"] if automatic_mask else []
            marks += ["x".join(f"{size:g}" for size in voxel_size)] if voxel_size else []
            name = "-".join(["head", plan.scanner.site, *marks])
            yield stored(
                keep,
                name,
                lambda plan=plan: simulate_head(plan, threads, automatic_mask=automatic_mask),
            )


def simulate_head(plan, threads, *, automatic_mask=False):
    """Simulate a scan, and `fit_head` of it."""
    return fit_head(simulate(plan, workers=threads), plan, automatic_mask=automatic_mask)


def fit_head(scan, plan, *, automatic_mask=False):
    """Fit a scan's field in the true mask or the pipeline's, without the voxels that the pipeline
    removes.
    """
    times = plan.protocol.echo_times
    voxel_size = plan.protocol.voxel_size
    frequency = plan.protocol.imaging_frequency
    total = fit_valid(
        scan.signal, times, voxel_size, frequency, mask=None if automatic_mask else scan.mask
    )
    return Head(
        site=plan.scanner.site,
        field=total.field,
        standard_error=total.standard_error,
        magnitude=combine_magnitude(np.abs(scan.signal)),
        mask=total.mask,
        brain=scan.mask,
        total_field=scan.total_field,
        local_field=scan.local_field * total.mask,
        chi=scan.chi,
        labels=scan.labels,
        voxel_size=voxel_size,
        b0_dir=tuple(b0_direction(plan.affine)),
        period=float(1 / (frequency * np.diff(times).min())),
    )


def fit_valid(signal, echo_times, voxel_size, centre_frequency, *, mask=None):
    """Fit the field (ppm) of complex echoes in a brain mask, by default the pipeline's, where it is
    valid: without the voxels that the pipeline removes.
    """
    phase = np.angle(signal)
    magnitude = np.abs(signal)
    if mask is None:
        mask = brain_mask(magnitude, phase, voxel_size)
    unwrapped = unwrap_echoes(phase, mask, echo_times)
    fit = fit_field(unwrapped, magnitude, echo_times, mask, centre_frequency=centre_frequency)
    trimmed = trim_unreliable(mask, fit.standard_error)
    return fill_unmeasured(fit.field, fit.standard_error, trimmed, fit.unresolved, voxel_size)


def nrmse(estimate, truth, region):
    """Error relative to the truth's spread, both about their means over a region, in per cent."""
    return 100 * (estimate - truth)[region].std() / truth[region].std()


def stored(folder, name, make):
    """Return what is stored in a folder under a name, after making and storing it if it is not
    there yet. Without a folder it is only made.
    """
    if folder is None:
        return make()
    path = folder / f"{name}.pickle"
    if not path.exists():
        content = make()
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
    return pickle.loads(path.read_bytes())
