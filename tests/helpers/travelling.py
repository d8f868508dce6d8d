"""A person who is scanned several times: the head of `analytic_head` at any pose, as a scan or as
derivatives.
"""

import nibabel as nib
import numpy as np
from helpers.analytic import sphere_field
from helpers.analytic_head import motion
from helpers.analytic_head import scan as head_scan
from helpers.datasets import SCANNER, values_of, write_dataset, write_json
from scipy.spatial.transform import Rotation

from multiqsm.dataset.assembly import Scan
from multiqsm.dataset.outputs import derivative_path
from multiqsm.dataset.sidecars import write_sidecar

SHAPE = (40, 48, 32)
VOXEL = (3.5, 3.5, 4.0)  # mm
# centres and semi-axes, mm
VENTRICLES = ([(-13.0, 4.0, 6.0), (13.0, 4.0, 6.0)], (9.0, 24.0, 11.0))
# centres, mm, and susceptibilities, ppm
NUCLEI = {
    "left nucleus": ((-34.0, -4.0, 4.0), 0.10),
    "right nucleus": ((34.0, -4.0, 4.0), 0.05),
}
RADIUS = 10.0  # of a nucleus, mm
DRAWN_RADIUS = 6.5  # of the region drawn on it, mm
CSF_CHI = -0.03  # ppm
R2STAR = {"tissue": 20.0, "csf": 3.0}  # 1/s
NUCLEI_R2STAR = {"left nucleus": 40.0, "right nucleus": 30.0}  # 1/s, in derivatives
POSES = [
    np.eye(4),
    motion((4, -6, 5), (6, -9, 12)),
    motion((-6, 3, 2), (-5, 4, -10)),
    motion((2, 4, -7), (3, 8, 5)),
]
AFFINE_ROTATIONS = [(0, 0, 0), (3, -5, 4), (-6, 2, 1), (0, 4, 0)]  # degrees
TUBES = {
    "tube 1": ((-18.0, 0.0, 0.0), 0.2),
    "tube 2": ((18.0, 0.0, 0.0), 0.4),
    "tube 3": ((0.0, 18.0, 0.0), 0.6),
}
TUBE_RADIUS = 8.0  # mm


def affine_of(place):
    """Return the affine of the scan at a place in the lists: the field of view is rotated, and
    follows the head.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(AFFINE_ROTATIONS[place], degrees=True).as_matrix() * VOXEL
    matrix[:3, 3] = POSES[place][:3, 3] - matrix[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return matrix


def head_points(place, shift=0.0):
    """Return the positions of a scan's voxels in the head, (3, n), mm."""
    index = np.indices(SHAPE).reshape(3, -1) + np.reshape(shift, (-1, 1))
    to_head = np.linalg.inv(POSES[place]) @ affine_of(place)
    return to_head[:3, :3] @ index + to_head[:3, 3:]


def voxel_means(function, place):
    """Return a function of position in the head, averaged over each voxel of a scan."""
    samples = []
    for corner in np.ndindex(2, 2, 2):
        samples.append(function(head_points(place, np.array(corner) / 2 - 0.25)))
    return np.mean(samples, axis=0).reshape(SHAPE).astype(np.float32)


def csf_fraction(points):
    """Return 1 in the ventricles, and 0 elsewhere."""
    centres, axes = VENTRICLES
    distances = [np.linalg.norm((points.T - centre) / axes, axis=1) for centre in centres]
    return (np.min(distances, axis=0) < 1).astype(float)


def susceptibility(points):
    """Return the susceptibility at points in the head, ppm."""
    chi = CSF_CHI * csf_fraction(points)
    for centre, value in NUCLEI.values():
        chi = chi + value * (np.linalg.norm(points.T - centre, axis=1) < RADIUS)
    return chi


def effective_relaxation(points):
    """Return R2* at points in the head, 1/s."""
    decay = R2STAR["tissue"] + (R2STAR["csf"] - R2STAR["tissue"]) * csf_fraction(points)
    for name, (centre, _) in NUCLEI.items():
        is_inside = np.linalg.norm(points.T - centre, axis=1) < RADIUS
        decay = np.where(is_inside, NUCLEI_R2STAR[name], decay)
    return decay


def magnitude_of(place, seed=0):
    """Return the magnitude and the brain mask of a scan."""
    image, _, mask = head_scan(POSES[place], affine_of(place), noise=0.01, seed=seed, shape=SHAPE)
    return np.maximum(100 * image, 0), mask


def entities_of(session, run, subject="01"):
    return {"subject": subject, "session": session, "run": run}


def write_processed(root, session, run, place, *, magnitude=None, r2star=True):
    """Write the derivatives of a scan, with susceptibility relative to its mask's mean; return the
    scan.
    """
    entities = entities_of(session, run)
    head_magnitude, mask = magnitude_of(place, seed=place)
    chi = voxel_means(susceptibility, place)
    chi = np.where(mask, chi - chi[mask].mean(), 0)
    volumes = {
        ("magnitude", None): (
            head_magnitude if magnitude is None else magnitude,
            {"SkullStripped": False},
        ),
        ("mask", "brain"): (mask.astype(np.uint8), {"Type": "Brain"}),
        ("Chimap", "deterministic"): (
            chi,
            {"Units": "ppm", "Site": session, "ReferenceRegion": "mean of the whole mask"},
        ),
    }
    if r2star:
        decay = voxel_means(effective_relaxation, place)
        volumes["R2starmap", None] = (np.where(mask, decay, 0), {"Units": "1/s"})
    for (suffix, desc), (data, metadata) in volumes.items():
        datatype = "fmap" if suffix == "magnitude" else "anat"
        path = derivative_path(root, entities, suffix=suffix, desc=desc, datatype=datatype)
        path.parent.mkdir(parents=True, exist_ok=True)
        dtype = np.uint8 if suffix == "mask" else np.float32
        nib.save(nib.Nifti1Image(data.astype(dtype), affine_of(place)), path)
        write_sidecar(path, metadata)
    magnitude_file = derivative_path(root, entities, suffix="magnitude", datatype="fmap")
    return Scan(entities, "MEGRE", magnitude=(magnitude_file,), site=session)


def draw_regions(dataset, session, run, place, *, values=(1, 2)):
    """Draw the nuclei on a scan's own grid; return the label image's path."""
    points = head_points(place)
    labels = np.zeros(np.prod(SHAPE), np.uint8)
    for value, (centre, _) in zip(values, NUCLEI.values(), strict=True):
        labels[np.linalg.norm(points.T - centre, axis=1) < DRAWN_RADIUS] = value
    lookup = "".join(f"{index}\t{name}\n" for index, name in enumerate(NUCLEI, start=1))
    return _write_labels(
        dataset, entities_of(session, run), labels.reshape(SHAPE), affine_of(place), lookup
    )


def _write_labels(dataset, entities, labels, affine, lookup, header="index\tname\n"):
    path = derivative_path(dataset, entities, suffix="dseg", desc="rois")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text(header + lookup)
    return path


def write_raw(
    root, session, run, place, *, phase_is_noise=False, magnitude_is_noise=False, masked=True
):
    """Write a head scan as a scanner does, and optionally a brain mask drawn by hand."""
    magnitude, mask = magnitude_of(place, seed=place)
    random = np.random.default_rng(place)
    if magnitude_is_noise:
        magnitude = np.where(mask, random.uniform(50, 100, SHAPE), 0)
    field = np.zeros(SHAPE)
    rotation = affine_of(place)[:3, :3] / VOXEL
    for position, chi in NUCLEI.values():
        # The field of view has the head's middle, so that it differs from the head by a rotation.
        centre = rotation.T @ POSES[place][:3, :3] @ position
        field += sphere_field(SHAPE, VOXEL, rotation[2], radius=RADIUS, chi=chi, center=centre)[0]
    decay = np.where(voxel_means(csf_fraction, place) > 0.5, R2STAR["csf"], R2STAR["tissue"])
    voxels = _voxels_of(magnitude, field, decay, random, phase_is_noise=phase_is_noise)
    write_dataset(
        root, sessions=(session,), runs=(run,), shape=SHAPE, affine=affine_of(place), voxels=voxels
    )
    if masked:
        _write_mask(root, entities_of(session, run), mask, affine_of(place))


def write_phantom(root, session, run):
    """Write a scan of a phantom, three balls in a larger one, and labels with susceptibilities."""
    shape = (30, 30, 30)
    voxel = (3.0, 3.0, 3.0)
    affine = np.diag([*voxel, 1.0])
    points = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * voxel
    mask = (np.linalg.norm(points, axis=1) < 36).reshape(shape)
    field = np.zeros(shape)
    labels = np.zeros(shape, np.uint8)
    lookup = ""
    for index, (name, (centre, chi)) in enumerate(TUBES.items(), start=1):
        tube = {"radius": TUBE_RADIUS, "chi": chi, "center": centre}
        field += sphere_field(shape, voxel, (0, 0, 1), **tube)[0]
        distance = np.linalg.norm(points - centre, axis=1).reshape(shape)
        labels[distance < TUBE_RADIUS - 3] = index
        lookup += f"{index}\t{name}\t{chi}\n"
    entities = entities_of(session, run, subject="ph")
    voxels = _voxels_of(100.0 * mask, field, np.full(shape, 5.0), np.random.default_rng(0))
    options = {"shape": shape, "affine": affine, "voxels": voxels}
    write_dataset(root, subjects=("ph",), sessions=(session,), runs=(run,), **options)
    _write_mask(root, entities, mask, affine)
    header = "index\tname\tsusceptibility_ppm\n"
    _write_labels(root / "derivatives" / "manual", entities, labels, affine, lookup, header)


def _voxels_of(magnitude, field, decay, random, *, phase_is_noise=False):
    """Return the function that gives `write_dataset` the image of a part and an echo."""

    def voxels(part, echo_time):
        if part == "phase" and phase_is_noise:
            return values_of(part, magnitude.shape, random)
        phase = 0.5 + 2 * np.pi * SCANNER["ImagingFrequency"] * field * echo_time
        signal = magnitude * np.exp(-decay * echo_time + 1j * phase)
        signal = (
            signal + random.normal(0, 0.5, field.shape) + 1j * random.normal(0, 0.5, field.shape)
        )
        return (np.abs(signal) if part == "mag" else np.angle(signal)).astype(np.float32)

    return voxels


def _write_mask(root, entities, mask, affine):
    dataset = root / "derivatives" / "manual"
    path = derivative_path(dataset, entities, suffix="mask", desc="brain")
    path.parent.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": "Masks",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "manual"}],
    }
    write_json(dataset / "dataset_description.json", description)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
