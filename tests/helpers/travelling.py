"""A person who is scanned again and again: the head of `analytic_head` at any pose, as a scan or as
its derivatives.
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

SHAPE, VOXEL = (40, 48, 32), (3.5, 3.5, 4.0)
# centres and semi-axes, mm
VENTRICLES = (
    [(side * 13.0, 4.0, 6.0) for side in (-1, 1)],
    (9.0, 24.0, 11.0),
)
# mm, ppm
NUCLEI = {
    "left nucleus": ((-34.0, -4.0, 4.0), 0.10),
    "right nucleus": ((34.0, -4.0, 4.0), 0.05),
}
RADIUS, DRAWN_RADIUS = 10.0, 6.5  # mm
CSF_CHI = -0.03  # ppm
R2STAR = {"tissue": 20.0, "csf": 3.0}  # 1/s
POSES = [
    np.eye(4),
    motion((4, -6, 5), (6, -9, 12)),
    motion((-6, 3, 2), (-5, 4, -10)),
    motion((2, 4, -7), (3, 8, 5)),
]
AFFINE_TURNS = [(0, 0, 0), (3, -5, 4), (-6, 2, 1), (0, 4, 0)]  # degrees
TUBES = {
    "tube 1": ((-18.0, 0.0, 0.0), 0.2),
    "tube 2": ((18.0, 0.0, 0.0), 0.4),
    "tube 3": ((0.0, 18.0, 0.0), 0.6),
}
TUBE_RADIUS = 8.0  # mm


def affine_of(place):
    """Voxels to mm of the scan at a place in the lists: the field of view is turned, and follows
    the head.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(AFFINE_TURNS[place], degrees=True).as_matrix() * VOXEL
    matrix[:3, 3] = POSES[place][:3, 3] - matrix[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return matrix


def head_points(place, shift=0.0):
    """Where the voxels of a scan lie in the head, (3, n), mm."""
    index = np.indices(SHAPE).reshape(3, -1) + np.reshape(shift, (-1, 1))
    to_head = np.linalg.inv(POSES[place]) @ affine_of(place)
    return to_head[:3, :3] @ index + to_head[:3, 3:]


def voxel_means(function, place):
    """A function of position in the head, averaged over each voxel of a scan."""
    corners = [head_points(place, np.array(corner) / 2 - 0.25) for corner in np.ndindex(2, 2, 2)]
    return (
        np.mean([function(points) for points in corners], axis=0).reshape(SHAPE).astype(np.float32)
    )


def csf_share(points):
    centres, axes = VENTRICLES
    distances = [np.linalg.norm((points.T - centre) / axes, axis=1) for centre in centres]
    return (np.min(distances, axis=0) < 1).astype(float)


def susceptibility(points):
    chi = CSF_CHI * csf_share(points)
    for centre, value in NUCLEI.values():
        chi = chi + value * (np.linalg.norm(points.T - centre, axis=1) < RADIUS)
    return chi


def magnitude_of(place, seed=0):
    """Magnitude and brain mask of a scan."""
    image, _, mask = head_scan(POSES[place], affine_of(place), noise=0.01, seed=seed, shape=SHAPE)
    return np.maximum(100 * image, 0), mask


def entities_of(session, run, subject="01"):
    return {"subject": subject, "session": session, "run": run}


def write_processed(root, session, run, place, *, magnitude=None, r2star=True):
    """Write the derivatives of a scan, susceptibility being relative to its mask; return what found
    it.
    """
    entities = entities_of(session, run)
    own, mask = magnitude_of(place, seed=place)
    chi = voxel_means(susceptibility, place)
    chi = np.where(mask, chi - chi[mask].mean(), 0)
    fluid = voxel_means(csf_share, place)
    volumes = {
        ("magnitude", None): (own if magnitude is None else magnitude, {"SkullStripped": False}),
        ("mask", "brain"): (mask.astype(np.uint8), {"Type": "Brain"}),
        ("Chimap", "deterministic"): (
            chi,
            {"Units": "ppm", "Site": session, "ReferenceRegion": "mean of the whole mask"},
        ),
    }
    if r2star:
        decay = R2STAR["tissue"] + (R2STAR["csf"] - R2STAR["tissue"]) * fluid
        volumes["R2starmap", None] = (np.where(mask, decay, 0), {"Units": "1/s"})
    for (suffix, desc), (data, metadata) in volumes.items():
        datatype = "fmap" if suffix == "magnitude" else "anat"
        path = derivative_path(root, entities, suffix=suffix, desc=desc, datatype=datatype)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(
                data.astype(np.uint8 if suffix == "mask" else np.float32), affine_of(place)
            ),
            path,
        )
        write_sidecar(path, metadata)
    magnitude_file = derivative_path(root, entities, suffix="magnitude", datatype="fmap")
    return Scan(entities, "MEGRE", magnitude=(magnitude_file,), site=session)


def draw_regions(dataset, session, run, place, *, values=(1, 2)):
    """Draw the nuclei on a scan's own grid; return the label image's path."""
    points, labels = head_points(place), np.zeros(np.prod(SHAPE), np.uint8)
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
    """Write a head scan as a scanner does, and a brain mask drawn by hand if one likes."""
    magnitude, mask = magnitude_of(place, seed=place)
    random = np.random.default_rng(place)
    if magnitude_is_noise:
        magnitude = np.where(mask, random.uniform(50, 100, SHAPE), 0)
    field, turn = np.zeros(SHAPE), affine_of(place)[:3, :3] / VOXEL
    for centre, chi in NUCLEI.values():
        # The head's middle is that of the field of view, so only rotations are left.
        own = turn.T @ POSES[place][:3, :3] @ centre
        field += sphere_field(SHAPE, VOXEL, turn[2], radius=RADIUS, chi=chi, center=own)[0]
    decay = np.where(voxel_means(csf_share, place) > 0.5, R2STAR["csf"], R2STAR["tissue"])
    voxels = _voxels_of(magnitude, field, decay, random, phase_is_noise=phase_is_noise)
    write_dataset(
        root, sessions=(session,), runs=(run,), shape=SHAPE, affine=affine_of(place), voxels=voxels
    )
    if masked:
        _write_mask(root, entities_of(session, run), mask, affine_of(place))


def write_phantom(root, session, run):
    """Write a scan of a phantom: three balls in a larger one, and labels with what is expected of
    them.
    """
    shape, voxel = (30, 30, 30), (3.0, 3.0, 3.0)
    affine = np.diag([*voxel, 1.0])
    middles = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * voxel
    mask = (np.linalg.norm(middles, axis=1) < 36).reshape(shape)
    field, labels = np.zeros(shape), np.zeros(shape, np.uint8)
    for index, (centre, chi) in enumerate(TUBES.values(), start=1):
        field += sphere_field(shape, voxel, (0, 0, 1), radius=TUBE_RADIUS, chi=chi, center=centre)[
            0
        ]
        labels[(np.linalg.norm(middles - centre, axis=1) < TUBE_RADIUS - 3).reshape(shape)] = index
    entities = entities_of(session, run, subject="ph")
    voxels = _voxels_of(100.0 * mask, field, np.full(shape, 5.0), np.random.default_rng(0))
    options = {"shape": shape, "affine": affine, "voxels": voxels}
    write_dataset(root, subjects=("ph",), sessions=(session,), runs=(run,), **options)
    _write_mask(root, entities, mask, affine)
    lookup = "".join(
        f"{index}\t{name}\t{chi}\n" for index, (name, (_, chi)) in enumerate(TUBES.items(), start=1)
    )
    header = "index\tname\tsusceptibility_ppm\n"
    _write_labels(root / "derivatives" / "manual", entities, labels, affine, lookup, header)


def _voxels_of(magnitude, field, decay, random, *, phase_is_noise=False):
    """What `write_dataset` asks for the images of a part and an echo."""

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
    made = {
        "Name": "Masks",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "manual"}],
    }
    write_json(dataset / "dataset_description.json", made)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
