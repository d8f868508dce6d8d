"""White matter whose frequency depends on the angle between its fibres and B0.

Two effects with the same fibres. The susceptibility of fibres is anisotropic, and has a field of
its own. Water within myelin sheaths has another frequency than water outside them: this offset is
local, the field of no susceptibility. Both belong to a person: they are the same in
all scans, up to the angle to B0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from ...core.grid import Vector, voxel_size_of
from ..fibres import Fibres, orientation_along
from ..grid import along_axis, block_mean, subgrid_affine
from ..head import Subject, anatomy, load_templates
from ..specimen import Specimen
from ..tissue import Tissue
from ..warp import warped_coordinates

FIBRE_VOXEL = 2.0  # mm, on which directions of fibres, which are smooth, are computed
FINEST_SOURCE = 0.9  # mm, smallest voxel of the sources of the anisotropic field
MARGIN = 24.0  # mm of padding, over which the field of the brain's anisotropy falls off


@dataclass(frozen=True)
class Anisotropy:
    """Anisotropic susceptibility of white matter.

    Parameters
    ----------
    difference : float
        χ∥ - χ⊥ of parallel fibres, ppm: susceptibility along the fibres less that across them. The
        mean susceptibility (χ∥ + 2 χ⊥) / 3 is that of the isotropic head.

    References
    ----------
    van Gelderen et al., Magn Reson Med 74:1388-1396 (2015), a torque balance: 13.6 to 19.2 ppb.
    """

    difference: float = 0.016


@dataclass(frozen=True)
class Microstructure:
    """Frequency of the water in myelinated axons, hollow cylinders of anisotropic susceptibility.

    Parameters
    ----------
    myelin_anisotropy : float
        Anisotropic susceptibility χ_A of the sheath, ppm.
    g_ratio : float
        Inner over outer radius of the sheath.
    axonal_fraction : float
        Fraction of the signal that comes from inside the axons.

    Notes
    -----
    Inside a cylinder at the angle θ to B0 the frequency is offset by 3/4 χ_A ln(1/g) sin²θ, outside
    by nothing on average. The frequency of both together is that times the axonal fraction; myelin
    water, which has decayed at most echo times, and exchange within it are left out, and so is the
    Lorentz cylinder: the field that water has because parallel sheaths of the mean isotropic
    susceptibility χ are around it, χ (sin²θ / 2 - 1/3) (He & Yablonskiy 2009).

    References
    ----------
    Wharton & Bowtell, Proc Natl Acad Sci 109:18559-18564 (2012).
    He & Yablonskiy, Proc Natl Acad Sci 106:13558-13563 (2009).
    """

    myelin_anisotropy: float = -0.1
    g_ratio: float = 0.8
    axonal_fraction: float = 0.5

    @property
    def amplitude(self) -> float:
        """Offset (ppm) of fibres perpendicular to B0; none of fibres parallel to it."""
        axonal = 0.75 * self.myelin_anisotropy * np.log(1 / self.g_ratio)
        return float(self.axonal_fraction * axonal)


def tensor_field(magnetization: np.ndarray, voxel_size: Vector, b0_dir: Vector) -> np.ndarray:
    """Return the field of tissue with anisotropic susceptibility.

    Parameters
    ----------
    magnetization : ndarray, shape (3, x, y, z)
        Product of the susceptibility tensor (ppm) and the direction of B0, in voxel axes. The grid
        is cyclic.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Unit vector of B0 in voxel axes.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        ppm, without its mean.

    References
    ----------
    Liu, Magn Reson Med 63:1471-1477 (2010): in Fourier space, with M = χ b, the component
    along B0 of the Lorentz-corrected field is b·M / 3 - (b·k) (k·M) / k².
    """
    shape = magnetization.shape[1:]
    k = np.ix_(
        fft.fftfreq(shape[0], voxel_size[0]).astype(np.float32),
        fft.fftfreq(shape[1], voxel_size[1]).astype(np.float32),
        fft.rfftfreq(shape[2], voxel_size[2]).astype(np.float32),
    )
    b = np.asarray(b0_dir, np.float32)
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    k2[0, 0, 0] = 1
    along = (b[0] * k[0] + b[1] * k[1] + b[2] * k[2]) / k2
    spectrum = np.zeros(k2.shape, np.complex64)
    for component, axis, frequency in zip(magnetization, b, k, strict=True):
        spectrum += (axis / 3 - along * frequency) * fft.rfftn(component)
    spectrum[0, 0, 0] = 0
    return fft.irfftn(spectrum, shape)


def add_white_matter(
    specimen: Specimen,
    model: Callable[[Sequence[int], np.ndarray], Tissue],
    subject: Subject,
    fibres: Fibres,
    *,
    pose: np.ndarray,
    anisotropy: Anisotropy | None = None,
    microstructure: Microstructure | None = None,
) -> Specimen:
    """Add the frequencies of white matter that depend on its direction to a head's total field.

    Parameters
    ----------
    specimen : Specimen
        The head in the magnet.
    model : callable
        The head at that position, see `multiqsm.simulation.specimen.magnetize`.
    subject : Subject
        The person.
    fibres : Fibres
        The person's fibres.
    pose : ndarray, shape (4, 4)
        Rigid transform from the head's coordinates to the scanner's axes.
    anisotropy, microstructure : optional
        The effects; None leaves one out.

    Returns
    -------
    Specimen
        With both fields in its total field and, averaged over each voxel of the image, as its
        ``effect_fields``. Susceptibility and local field stay those of the isotropic head.
    """
    if anisotropy is None and microstructure is None:
        return specimen
    grid = _SourceGrid(specimen, subject, pose)
    along_b0 = grid.orientation(fibres)
    effect_fields: dict[str, np.ndarray] = dict(specimen.effect_fields)
    total = specimen.total_field.copy()
    if anisotropy is not None:
        white = grid.white_fraction(model)
        deviation = along_b0 - np.array([0, 0, 1 / 3], np.float32).reshape(3, 1, 1, 1)
        magnetization = np.float32(anisotropy.difference) * white * deviation
        field = grid.to_fine(grid.field(magnetization))
        effect_fields["anisotropy"] = block_mean(field, specimen.oversampling)
        total += field
    if microstructure is not None:
        frequency = grid.to_fine(1 - along_b0[2])  # sin² of the angle between fibres and B0
        frequency *= np.float32(microstructure.amplitude)
        frequency *= np.isin(specimen.tissue.labels, _white_labels())
        effect_fields["microstructure"] = block_mean(frequency, specimen.oversampling)
        total += frequency
    return replace(specimen, total_field=total, effect_fields=effect_fields)


def white_matter_records(
    effect_fields: Mapping[str, np.ndarray],
    mask: np.ndarray,
    anisotropy: Anisotropy | None,
    microstructure: Microstructure | None,
) -> dict[str, dict[str, float]]:
    """Return what the truth's sidecar states of both effects, by their names.

    Parameters
    ----------
    effect_fields : mapping of str to ndarray, shape (x, y, z)
        Their fields, ppm.
    mask : ndarray of bool, shape (x, y, z)
        The brain.
    anisotropy, microstructure : optional
        The effects; None where one is left out.
    """
    sizes = {}
    if anisotropy is not None:
        sizes["anisotropy"] = {"SusceptibilityDifference": anisotropy.difference}
    if microstructure is not None:
        sizes["microstructure"] = {"LargestOffset": round(microstructure.amplitude, 6)}
    records = {}
    for name, size in sizes.items():
        spread = float(np.std(effect_fields[name][mask], dtype=float))
        records[name] = {**size, "FieldStandardDeviation": round(spread, 7)}
    return records


def _white_labels():
    labels = [anatomy()["labels"]["white_matter"]]
    for part in anatomy()["parts"].values():
        if part["whole"] == "white_matter":
            labels.append(part["label"])
    return labels


class _SourceGrid:
    """A grid around the whole brain and the specimen, with about the voxels of the image.

    Its voxels are blocks of the image's voxels, or these themselves, so that its axes are theirs.
    """

    def __init__(self, specimen: Specimen, subject: Subject, pose: np.ndarray) -> None:
        self.specimen = specimen
        self.subject = subject
        self.scanner_to_head = np.linalg.inv(pose)
        size = voxel_size_of(specimen.affine)
        self.factor = np.maximum(np.ceil(FINEST_SOURCE / size), 1).astype(int)
        block_affine = subgrid_affine(specimen.affine, 1 / self.factor)
        corner = np.floor_divide(specimen.corner, specimen.oversampling)
        extent = np.floor_divide(specimen.tissue.chi.shape, specimen.oversampling)
        low, high = self._brain(block_affine)
        self.low = np.minimum(low, corner // self.factor)
        self.high = np.maximum(high, -(-(corner + extent) // self.factor))
        self.shape = tuple((self.high - self.low).tolist())
        self.affine = subgrid_affine(block_affine, (1, 1, 1), self.low)
        self.voxel_size = size * self.factor
        self.rotation = (self.affine[:3, :3] / self.voxel_size).astype(np.float32)

    def _brain(self, affine):
        """Return the first and the past-the-last voxel of a box around the brain."""
        templates = load_templates()
        inside = np.argwhere(templates.distance[::4, ::4, ::4] < 0) * 4
        corners = np.stack([inside.min(axis=0) - 4, inside.max(axis=0) + 4])
        places = np.array(np.meshgrid(*corners.T, indexing="ij")).reshape(3, -1)
        places = places + templates.affine[:3, 3:]
        from_mni = np.linalg.inv(self.subject.affine @ self.scanner_to_head @ affine)
        index = from_mni[:3, :3] @ places + from_mni[:3, 3:]
        return np.floor(index.min(axis=1)).astype(int), np.ceil(index.max(axis=1)).astype(int) + 1

    def points(self, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return MNI coordinates of the voxels of a grid in the scanner."""
        subject = self.subject
        return warped_coordinates(
            tuple(map(slice, (0, 0, 0), shape)),
            self.scanner_to_head @ affine,
            subject.affine,
            subject.wave_vectors,
            subject.amplitudes,
            subject.phases,
        )

    def orientation(self, fibres: Fibres) -> np.ndarray:
        """Return the product of the fibres' orientation tensor and B0, in the scanner's axes."""
        blocks = np.maximum(np.rint(FIBRE_VOXEL / self.voxel_size), 1).astype(int)
        shape = tuple((-(-np.asarray(self.shape) // blocks)).tolist())
        points = self.points(subgrid_affine(self.affine, 1 / blocks), shape)
        # Directions turn with the head; the warp's own rotation, of about a degree, is left out.
        to_mni = self.subject.affine[:3, :3] @ self.scanner_to_head[:3, :3]
        linear = np.linalg.inv(to_mni)
        coarse = np.zeros(points.shape, np.float32)
        coarse[2] = 1 / 3  # outside the brain no direction is preferred
        is_near = load_templates().brain_distance(points) < 2 * FIBRE_VOXEL
        coarse[:, is_near] = orientation_along(
            points[:, is_near], (0, 0, 1), fibres=fibres, linear=linear
        )
        return np.stack([interpolate_blocks(c, blocks, (0, 0, 0), self.shape) for c in coarse])

    def white_fraction(self, model: Callable[[Sequence[int], np.ndarray], Tissue]) -> np.ndarray:
        """Return the fraction of each voxel that is white matter."""
        points = self.points(self.affine, self.shape)
        templates = load_templates()
        is_brain = templates.brain_distance(points) < 0
        white = np.zeros(self.shape, np.float32)
        white[is_brain] = templates.mixture(points[:, is_brain])[1]
        # The head has more than the templates: nuclei, ventricles, veins and lesions.
        labels = anatomy()["labels"]
        cortex = [*_white_labels(), labels["grey_matter"], labels["csf"]]
        return white * np.isin(model(self.shape, self.affine).labels, cortex)

    def field(self, magnetization: np.ndarray) -> np.ndarray:
        """Return the field of a magnetisation in the scanner's axes."""
        in_voxel_axes = np.tensordot(self.rotation.T, magnetization, 1)
        margin = np.ceil(MARGIN / self.voxel_size).astype(int)
        padded = [fft.next_fast_len(n, real=True) for n in (np.add(self.shape, margin)).tolist()]
        widths = [(0, 0), *((0, p - n) for p, n in zip(padded, self.shape, strict=True))]
        source = np.pad(in_voxel_axes, widths)
        field = tensor_field(source, self.voxel_size, self.rotation[2])
        return field[tuple(map(slice, self.shape))]

    def to_fine(self, values: np.ndarray) -> np.ndarray:
        """Interpolate values linearly on the specimen's fine grid."""
        fine_per_voxel = np.asarray(self.specimen.oversampling) * self.factor
        corner = np.subtract(self.specimen.corner, self.low * fine_per_voxel)
        return interpolate_blocks(values, fine_per_voxel, corner, self.specimen.tissue.chi.shape)


def interpolate_blocks(
    values: np.ndarray, blocks: Sequence[int], corner: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """Interpolate values linearly on a finer grid.

    Parameters
    ----------
    values : ndarray, shape (x, y, z)
        On a grid whose voxels are blocks of fine voxels.
    blocks : sequence of int
        Fine voxels per voxel along each axis.
    corner : sequence of int
        First voxel of the result, counted in fine voxels from the edge of the first block.
    shape : sequence of int
        Shape of the result. Beyond the outermost centres, values are those of the nearest voxel.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> interpolate_blocks(np.float32([[[0, 2, 4]]]), (1, 1, 2), (0, 0, 1), (1, 1, 4)).tolist()
    [[[0.5, 1.5, 2.5, 3.5]]]
    """
    for axis in range(3):
        n = values.shape[axis]
        place = (corner[axis] + np.arange(shape[axis]) + 0.5) / blocks[axis] - 0.5
        place = np.clip(place, 0, n - 1)
        first = np.minimum(place.astype(int), max(n - 2, 0))
        second = np.minimum(first + 1, n - 1)
        fraction = along_axis((place - first).astype(np.float32), axis)
        low = values.take(first, axis)
        high = values.take(second, axis)
        high -= low
        high *= fraction
        low += high
        values = low
    return values
