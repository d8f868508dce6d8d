"""Simulated scans as a raw BIDS dataset, with two derivative datasets: what is true of them, and regions of interest.

The truth is named apart from results: its masks and label images are ``desc-truth``, so that no pipeline takes the
true brain mask for one that its user has drawn, and its dataset names another generator than the pipeline's.

The regions are for pipelines to take: as a rater would draw them, once for each person and on each scan of a phantom.
So are a patient's seeds in lesions, and the labels as FreeSurfer writes them.
"""

import csv
import io
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from bids.layout.writing import build_path
from scipy import ndimage

from .. import __version__
from ..bids_templates import load_template
from ..core.grid import voxel_size_of
from ..core.mask.shapes import erode
from ..core.phase.encoding import ppm_to_hz
from ..core.phase.fieldfit import combine_magnitude
from ..core.registration.resampling import resample_labels
from ..simulation import head, phantom
from ..simulation.encoding import ge_encoding, siemens_encoding
from ..simulation.study import SCANNERS
from .anatomy import ASEG, ASEG_NAMES
from .derivatives import (
    bids_uri,
    derivative_path,
    in_one_step,
    read_json,
    sidecar_path,
    write_json,
    write_sidecar,
    write_text,
)

GENERATOR = "multiqsm-simulate"
TRUTH = Path("derivatives", "truth")
MANUAL = Path("derivatives", "manual")
FREESURFER = Path("derivatives", "freesurfer")
ENCODINGS = {"siemens": (siemens_encoding, ("mag", "phase")), "ge": (ge_encoding, ("real", "imag"))}
LESIONS_SEEN_IN, SEGMENTED = "FLAIR", "T1w"
CONFORMED = 256  # voxels of 1 mm along each axis, as FreeSurfer has them: to the left, down, to the front
PARTIAL = re.compile(r"\.(.+\.)?[0-9a-f]{32}(\..+)?")  # a file on its way, as it is named until it is whole
TRUE_IMAGES = {
    "chi": {"suffix": "Chimap", "desc": "truth"},
    "labels": {"suffix": "dseg", "desc": "truth"},
    "mask": {"suffix": "mask", "desc": "truth"},
    "total_field": {"suffix": "fieldmap", "desc": "total", "datatype": "fmap"},
    "local_field": {"suffix": "fieldmap", "desc": "local", "datatype": "fmap"},
    # BIDS wants a magnitude image with a field map.
    "magnitude": {"suffix": "magnitude", "datatype": "fmap"},
}
# Regions in the order of their labels, left and right together, by the true labels that they are drawn on.
DRAWN_REGIONS = {
    "caudate_nucleus": ("left_caudate_nucleus", "right_caudate_nucleus"),
    "putamen": ("left_putamen", "right_putamen"),
    "globus_pallidus": ("left_globus_pallidus", "right_globus_pallidus"),
    "red_nucleus": ("left_red_nucleus", "right_red_nucleus"),
    "substantia_nigra": ("left_substantia_nigra", "right_substantia_nigra"),
    "thalamus": ("left_thalamus", "right_thalamus"),
    "csf": ("lateral_ventricle",),
}
TUBE_MARGIN = 3.0  # mm of a tube's radius that are left out


# ----------------------------------------------------------------------------------------------------------
# One scan
# ----------------------------------------------------------------------------------------------------------


def is_complete(output_dir, plan):
    """Tell whether every file of a scan and of its truth is there, and none empty; each is written in one step."""
    return all(path.is_file() and path.stat().st_size > 0 for path in _files(output_dir, plan))


def remove_partials(output_dir, plan):
    """Remove what writes that were cut short have left in the folders of a scan, which nothing may write to."""
    for folder in {path.parent for path in _files(output_dir, plan)}:
        # A file where the folder should be is for the writer of the scan to complain about.
        for path in folder.iterdir() if folder.is_dir() else ():
            if PARTIAL.fullmatch(path.name):
                path.unlink()


def _files(output_dir, plan):
    """Every file of a scan and of its truth."""
    images = [*_raw_paths(output_dir, plan).values(), *_true_paths(output_dir, plan).values()]
    images += [_structural_path(output_dir, plan, sequence) for sequence in plan.structural]
    tables = [_lookup_path(output_dir, plan)]
    suffixes = [sequence.suffix for sequence in plan.structural]
    if LESIONS_SEEN_IN in suffixes:
        images.append(_lesions_path(output_dir, plan))
        tables.append(_seeds_path(output_dir, plan))
    if SEGMENTED in suffixes:
        tables.append(_aseg_path(output_dir, plan))
    if is_drawn_on(plan):
        images.append(_drawn_path(output_dir, plan))
        tables.append(_drawn_path(output_dir, plan, extension=".tsv"))
    return [*images, *(sidecar_path(path) for path in images), *tables]


def write_scan(output_dir, plan, scan):
    """Write a scan as its scanner's files are converted, its truth, and the regions drawn on it if any are.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.study.ScanPlan
        What was simulated.
    scan : multiqsm.simulation.acquisition.Scan
        What came out.

    Returns
    -------
    list of pathlib.Path
        The images, of the truth, the regions and the scan.
    """
    paths = _write_truth(output_dir, plan, scan)
    if is_drawn_on(plan):
        paths.append(write_drawn_regions(output_dir, plan, scan.labels, scan.mask))
    return [*paths, *_write_raw(output_dir, plan, scan)]


def write_structural(output_dir, plan, sequence, image, labels, affine):
    """Write an anatomical image of a scan's participant, and what is seen in it.

    In the FLAIR image that is the true lesions, on its grid, and a seed in each as a rater would place it; in the
    T1-weighted one, thalamus, striatum, pallidum and lateral ventricles as FreeSurfer labels them.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.study.ScanPlan
        What was simulated.
    sequence : multiqsm.simulation.structural.Structural
        Which image.
    image, labels, affine : ndarray
        What came out.

    Returns
    -------
    pathlib.Path
        The image.
    """
    path = _structural_path(output_dir, plan, sequence)
    if sequence.suffix == LESIONS_SEEN_IN:
        lesions = _lesions_path(output_dir, plan)
        mask = labels == head.anatomy()["labels"]["lesion"]
        volume = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        _write_image(lesions, mask.astype(np.uint8), affine)
        source = bids_uri(path, output_dir)
        write_sidecar(lesions, {"Type": "Lesion", "Volume": volume, "VolumeUnits": "mL", "Sources": [source]})
        write_table(_seeds_path(output_dir, plan), _seeds(mask, affine))
    if sequence.suffix == SEGMENTED:
        _write_aseg(_aseg_path(output_dir, plan), labels, affine, plan.position.matrix)
    _write_image(path, np.rint(image * (4095 / image.max())).astype(np.int16), affine)
    write_sidecar(path, _structural_metadata(plan, sequence))
    return path


def is_drawn_on(plan):
    """Tell whether regions are drawn on a scan: on each of a phantom, and on the first of a person.

    The first is that of the whole design, run 1 at the first site: a part of a design has no regions of its own.
    """
    entities = plan.entities
    first = entities.get("session", SCANNERS[0].site) == SCANNERS[0].site and entities.get("run", "1") == "1"
    return plan.participant.model == "phantom" or first


def write_drawn_regions(output_dir, plan, labels, mask):
    """Write regions of interest as a rater would draw them, with their lookup table.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.study.ScanPlan
        The scan that they are drawn on.
    labels : ndarray of int, shape (x, y, z)
        The scan's true labels.
    mask : ndarray of bool, shape (x, y, z)
        The scan's true mask.

    Returns
    -------
    pathlib.Path
        The label image. Of a head: deep grey nuclei, left and right together, and the CSF of the lateral ventricles
        without its border in the plane. Of a phantom: the middle half of each tube without 3 mm at its wall.
    """
    path = _drawn_path(output_dir, plan)
    is_phantom = plan.participant.model == "phantom"
    if is_phantom:
        drawn = _draw_tubes(labels, mask, voxel_size_of(plan.affine))
        rows = [row for row in _lookup_table(plan) if row["susceptibility_ppm"] is not None]
    else:
        drawn = _draw_nuclei(labels)
        rows = [{"index": index, "name": name} for index, name in enumerate(DRAWN_REGIONS, start=1)]
    _write_image(path, drawn, plan.affine)
    sources = [bids_uri(path, output_dir) for path in _raw_paths(output_dir, plan).values()]
    what = "Middle half of each tube" if is_phantom else "Deep grey nuclei and CSF of the lateral ventricles"
    description = f"{what}, as a rater would draw them: made from the true labels"
    write_sidecar(path, {"Description": description, "Sources": sources})
    write_table(_drawn_path(output_dir, plan, extension=".tsv"), rows)
    return path


def _drawn_path(output_dir, plan, *, extension=None):
    root = Path(output_dir) / MANUAL
    return derivative_path(root, plan.entities, suffix="dseg", desc="rois", extension=extension)


def _draw_nuclei(labels):
    index_of = {name: index for index, name in head.label_names().items()}
    drawn = np.zeros(labels.shape, np.uint8)
    for number, (name, parts) in enumerate(DRAWN_REGIONS.items(), start=1):
        region = np.isin(labels, [index_of[part] for part in parts])
        if name == "csf":
            # Voxels on the border are mixed with tissue.
            region = ndimage.binary_erosion(region, ndimage.generate_binary_structure(2, 1)[..., None])
        drawn[region] = number
    return drawn


def _draw_tubes(labels, mask, voxel_size):
    tubes = np.isin(labels, range(1, len(phantom.TUBE_SUSCEPTIBILITY) + 1)) & mask
    inner = erode(tubes, voxel_size, TUBE_MARGIN)
    slices = np.flatnonzero(inner.any(axis=(0, 1)))
    # Near its ends, a tube's field is not that of a long cylinder.
    quarter = slices.size // 4
    drawn = np.zeros(labels.shape, np.uint8)
    middle = (..., slices[quarter : slices.size - quarter])
    drawn[middle] = np.where(inner[middle], labels[middle], 0)
    return drawn


def _structural_path(output_dir, plan, sequence):
    pattern = load_template("raw")["structural"]
    return Path(output_dir) / build_path({**plan.entities, "suffix": sequence.suffix}, pattern)


def _lesions_path(output_dir, plan):
    return derivative_path(Path(output_dir) / TRUTH, plan.entities, suffix="mask", desc="lesions")


def _seeds_path(output_dir, plan):
    lesions = derivative_path(Path(output_dir) / MANUAL, plan.entities, suffix="mask", desc="seeds")
    return lesions.with_name(lesions.name.replace("_mask.nii.gz", f"_{LESIONS_SEEN_IN}.tsv"))


def _seeds(lesions, affine):
    """The deepest voxel of each lesion in the scanner's mm."""
    pieces, n = ndimage.label(lesions)
    depth = ndimage.distance_transform_edt(lesions, sampling=voxel_size_of(affine))
    deepest = np.reshape(ndimage.maximum_position(depth, pieces, range(1, n + 1)), (-1, 3))
    points = deepest @ affine[:3, :3].T + affine[:3, 3]
    return [dict(zip("xyz", (f"{value:.2f}" for value in point), strict=True)) for point in points]


def _aseg_path(output_dir, plan):
    return Path(output_dir) / FREESURFER / f"sub-{plan.entities['subject']}" / ASEG


def _write_aseg(path, labels, affine, pose):
    """Write labels as FreeSurfer has them, on a grid of 1 mm in the scanner's axes around the image's middle."""
    middle = affine @ [*((np.array(labels.shape) - 1) / 2), 1]
    grid = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    grid[:3, 3] = middle[:3] - grid[:3, :3] @ np.full(3, CONFORMED // 2)
    aseg = resample_labels(_aseg_labels(labels, affine, pose), affine, grid, (CONFORMED,) * 3)
    with in_one_step(path) as partial:
        nib.save(nib.MGHImage(aseg.astype(np.int32), grid), partial)


def _aseg_labels(labels, affine, pose):
    """FreeSurfer's numbers in the place of the simulator's; ventricles have a side by where they lie in the head."""
    number_of, aseg = {name: number for number, name in ASEG_NAMES.items()}, np.zeros(labels.shape, np.uint8)
    for label, name in head.label_names().items():
        if name in number_of:
            aseg[labels == label] = number_of[name]
    ventricles = np.argwhere(labels == head.anatomy()["labels"]["lateral_ventricle"])
    to_head = np.linalg.inv(pose) @ affine
    is_left = ventricles @ to_head[0, :3] + to_head[0, 3] < 0
    sides = [number_of[f"{side}_lateral_ventricle"] for side in ("left", "right")]
    aseg[tuple(ventricles.T)] = np.where(is_left, *sides)
    return aseg


def _write_raw(output_dir, plan, scan):
    encode, parts = ENCODINGS[plan.scanner.vendor]
    encoded = dict(zip(parts, encode(scan.signal), strict=True))
    paths = _raw_paths(output_dir, plan)
    for (echo, part), path in paths.items():
        _write_image(path, encoded[part][..., echo], scan.affine)
        write_sidecar(path, _raw_metadata(plan, echo))
    return list(paths.values())


def _write_truth(output_dir, plan, scan):
    frequency = plan.scanner.imaging_frequency
    images = {
        "chi": scan.chi,
        "labels": scan.labels,
        "mask": scan.mask.astype(np.uint8),
        "total_field": ppm_to_hz(scan.total_field, np.float32(frequency)),
        "local_field": ppm_to_hz(scan.local_field, np.float32(frequency)),
        "magnitude": combine_magnitude(np.abs(scan.signal)),
    }
    paths, metadata = _true_paths(output_dir, plan), _true_metadata(plan, scan)
    for name, path in paths.items():
        _write_image(path, images[name], scan.affine)
        write_sidecar(path, {"SkullStripped": False, **metadata[name]})
    write_table(_lookup_path(output_dir, plan), _lookup_table(plan))
    return list(paths.values())


def _raw_paths(output_dir, plan):
    """Images of a scan by echo (counted from 0) and part."""
    _, parts = ENCODINGS[plan.scanner.vendor]
    pattern = load_template("raw")["megre"]
    return {
        (echo, part): Path(output_dir) / build_path({**plan.entities, "echo": echo + 1, "part": part}, pattern)
        for echo in range(len(plan.protocol.echo_times))
        for part in parts
    }


def _true_paths(output_dir, plan):
    """Images of a scan's truth by what they show."""
    root = Path(output_dir) / TRUTH
    return {what: derivative_path(root, plan.entities, **named) for what, named in TRUE_IMAGES.items()}


def _lookup_path(output_dir, plan):
    named = TRUE_IMAGES["labels"]
    return derivative_path(Path(output_dir) / TRUTH, plan.entities, **named, extension=".tsv")


def _raw_metadata(plan, echo):
    """Sidecar of an echo's images, as a converter writes it."""
    protocol = plan.protocol
    return {
        **_scanner_metadata(plan),
        "PulseSequenceType": "3D spoiled multi-echo gradient echo",
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "EchoNumber": echo + 1,
        "EchoTime": protocol.echo_times[echo],
        "RepetitionTimeExcitation": protocol.repetition_time,
        "FlipAngle": protocol.flip_angle,
        "Units": "arbitrary",
    }


def _structural_metadata(plan, sequence):
    """Sidecar of an anatomical image."""
    inversion = {} if sequence.inversion_time is None else {"InversionTime": sequence.inversion_time}
    return {
        **_scanner_metadata(plan),
        **inversion,
        "EchoTime": sequence.echo_time,
        "RepetitionTimeExcitation": sequence.repetition_time,
        "FlipAngle": sequence.flip_angle,
    }


def _scanner_metadata(plan):
    scanner = plan.scanner
    return {
        "Modality": "MR",
        "Manufacturer": scanner.manufacturer,
        "ManufacturersModelName": scanner.model,
        "InstitutionName": f"Simulated site {scanner.site}",
        "DeviceSerialNumber": f"simulated-{scanner.site}",
        "SoftwareVersions": f"{GENERATOR} {__version__}",
        "ReceiveCoilName": f"{scanner.channels}-channel head coil",
        "MagneticFieldStrength": scanner.field_strength,
        "ImagingFrequency": scanner.imaging_frequency,
        "BodyPart": "PHANTOM" if plan.participant.model == "phantom" else "HEAD",
        "MRAcquisitionType": "3D",
        "NonlinearGradientCorrection": False,
    }


def _true_metadata(plan, scan):
    """Sidecars of a scan's truth by what its images show."""
    is_phantom = plan.participant.model == "phantom"
    field = {"Units": "Hz", "CentreFrequency": plan.scanner.imaging_frequency}
    known = "known in a box around the object and 0 in the rest of the image"
    tissue = {} if is_phantom else {"NucleiSusceptibility": plan.subject.chi}
    return {
        "chi": {
            "Description": "True susceptibility relative to water, mean of each voxel",
            "Units": "ppm",
            "ObjectToScanner": plan.position.matrix,
            **tissue,
        },
        "labels": {"Description": "Tissue that takes the largest part of each voxel"},
        "mask": {
            "Description": "Water with its tubes" if is_phantom else "Brain with the CSF within and around it",
            "Type": "ROI" if is_phantom else "Brain",
        },
        "total_field": {
            **field,
            "Description": f"True field, shim and drift included, mean of each voxel; {known}",
            "ShimTerms": ["1", "x", "y", "z", "xy", "yz", "xz", "z2-(x2+y2)/2", "x2-y2"],
            "ShimUnits": "ppm, with scanner coordinates in units of 100 mm",
            "Shim": scan.shim,
        },
        "local_field": {
            **field,
            "Description": f"True field of the sources within the mask, mean of each voxel; {known}",
        },
        "magnitude": {
            "Description": "Root sum of squares of the echoes as scanned",
            "Units": "arbitrary",
            "NoiseStandardDeviation": scan.noise_sigma,
        },
    }


def _lookup_table(plan):
    """Rows of the table of labels; a phantom's tubes have a susceptibility to calibrate with."""
    if plan.participant.model == "head":
        return [{"index": index, "name": name} for index, name in head.label_names().items()]
    chi = dict(enumerate(phantom.TUBE_SUSCEPTIBILITY, start=1))
    names = phantom.label_names().items()
    return [{"index": index, "name": name, "susceptibility_ppm": chi.get(index)} for index, name in names]


def _write_image(path, data, affine):
    """Write an image in scanner coordinates, in one step; the same voxels give the same bytes."""
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    with in_one_step(path) as partial:
        nib.save(image, partial)


# ----------------------------------------------------------------------------------------------------------
# The dataset around it
# ----------------------------------------------------------------------------------------------------------


def write_dataset_files(output_dir, design):
    """Write what describes a study, its truth and its regions: descriptions, README, participants and sessions.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset, made if missing. It may hold a part of the same design: what is there stays.
    design : multiqsm.simulation.study.Design
        The study.

    Raises
    ------
    ValueError
        If the folder holds another dataset or anything else.
    """
    output_dir = Path(output_dir)
    write_descriptions(output_dir, design.name, design.summary, "scans")
    write_json(output_dir / "sessions.json", load_template("simulated")["sessions"])
    extend_table(output_dir / "participants.tsv", [_participant_row(who) for who in design.participants])
    for label, scanners in design.sessions.items():
        rows = [{"session_id": f"ses-{scanner.site}", "site": scanner.site} for scanner in scanners]
        extend_table(output_dir / f"sub-{label}" / f"sub-{label}_sessions.tsv", rows)


def write_descriptions(output_dir, name, summary, kind):
    """Write description and README of a simulated dataset, its truth and its regions, and what its columns mean.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the raw dataset, made if missing.
    name, summary : str
        Of the design; the summary has all that the dataset's files depend on.
    kind : {'scans', 'tables'}
        What the design makes: names its texts in the template ``simulated``.

    Raises
    ------
    ValueError
        If the folder holds another dataset than that of this summary, or anything else.
    """
    texts = load_template("simulated")[kind]
    description = {**load_template("simulated")["dataset_description"], "Name": f"{texts['name']}: {name}"}
    description["GeneratedBy"] = [{"Name": GENERATOR, "Version": __version__, "Description": summary}]
    _refuse_another_dataset(output_dir, description)
    write_json(output_dir / "dataset_description.json", {**description, "DatasetType": "raw"})
    for folder, what in ((TRUTH, "the truth"), (MANUAL, "regions of interest")):
        derivative = {**description, "DatasetType": "derivative", "Name": f"{description['Name']}, {what}"}
        write_json(output_dir / folder / "dataset_description.json", {**derivative, "DatasetLinks": {"raw": "../.."}})
    write_text(output_dir / "README.md", "\n".join(texts["readme"]).format(name=name, summary=summary))
    write_text(output_dir / TRUTH / "README.md", "\n".join(texts["truth_readme"]))
    write_text(output_dir / MANUAL / "README.md", "\n".join(load_template("simulated")["manual_readme"]))
    write_text(output_dir / MANUAL / ".bidsignore", "*_desc-seeds_*.tsv\n")
    write_json(output_dir / "participants.json", texts["participants"])


def _refuse_another_dataset(output_dir, description):
    path = output_dir / "dataset_description.json"
    # Hidden files, such as those of version control, are no other dataset.
    others = output_dir.is_dir() and any(not entry.name.startswith(".") for entry in output_dir.iterdir())
    if others and not path.exists():
        raise ValueError(
            f"{output_dir}: this folder holds no simulated dataset but something else; choose an empty one"
        )
    if path.exists() and read_json(path).get("GeneratedBy") != description["GeneratedBy"]:
        raise ValueError(
            f"{path}: this folder holds another dataset than {description['GeneratedBy'][0]['Description']}; "
            "choose another output folder, or the same design, seed, voxel size, protocols and flow to go on with it"
        )


def _participant_row(participant):
    row = {"participant_id": f"sub-{participant.label}", "species": participant.species}
    return {**row, "age": participant.age, "sex": participant.sex}


def extend_table(path, rows):
    """Write rows of a TSV table, and keep the other rows that are there already.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : list of dict
        Rows, all with the same columns, of which the first is the key.
    """
    key = next(iter(rows[0]))
    kept = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as lines:
            kept = {row[key]: row for row in csv.DictReader(lines, delimiter="\t")}
    kept |= {row[key]: row for row in rows}
    write_table(path, [kept[name] for name in sorted(kept)])


def write_table(path, rows):
    """Write a TSV table in one step.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : list of dict
        Rows, all with the same columns; None becomes ``n/a``.
    """
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fieldnames=list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "n/a" if value is None else value for name, value in row.items()} for row in rows)
    write_text(path, lines.getvalue())
