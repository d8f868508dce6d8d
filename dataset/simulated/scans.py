"""Write simulated scans: the images that a scanner would have written, and their truth."""

from pathlib import Path

import numpy as np

from ... import __version__
from ...bids_templates import load_template
from ...core.phase.encoding import ppm_to_hz
from ...core.phase.fieldfit import combine_magnitude
from ...simulation.acquisition import Scan
from ...simulation.plan import ScanPlan
from ..files import PathLike
from ..sidecars import write_sidecar
from .files import lookup_table, write_image, write_table
from .layout import (
    EFFECT_IMAGES,
    ENCODINGS,
    GENERATOR,
    is_drawn_on,
    lookup_path,
    raw_paths,
    true_paths,
)
from .regions import write_drawn_regions

# There is no PixelBandwidth: a readout takes no time, so that no bandwidth would be true.
SEQUENCE = {
    "SequenceName": "megre3d",
    "SpoilingState": True,
    "MTState": False,
    "ParallelReductionFactorInPlane": 1,
    "ParallelReductionFactorOutOfPlane": 1,
}
COIL_COMBINATION = {
    True: "adaptive at each echo, with the phase of a virtual reference coil",
    False: "none: the signal is that of one coil of smooth sensitivity",
}


def write_scan(output_dir: PathLike, plan: ScanPlan, scan: Scan) -> list[Path]:
    """Write a scan as a converter of its scanner's files would, its truth, and the regions drawn on
    it, if any.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.plan.ScanPlan
        What was simulated.
    scan : multiqsm.simulation.acquisition.Scan
        The simulated signal and truth.

    Returns
    -------
    list of pathlib.Path
        The images of the truth, of the regions and of the scan.
    """
    paths = _write_truth(output_dir, plan, scan)
    if is_drawn_on(plan):
        paths.append(write_drawn_regions(output_dir, plan, scan.labels, scan.mask))
    return [*paths, *_write_raw(output_dir, plan, scan)]


def _write_raw(output_dir, plan, scan):
    encode, parts = ENCODINGS[plan.scanner.vendor]
    encoded = dict(zip(parts, encode(scan.signal), strict=True))
    paths = raw_paths(output_dir, plan)
    for (echo, part), path in paths.items():
        write_image(path, encoded[part][..., echo], scan.affine)
        write_sidecar(path, {**_raw_metadata(plan, echo), **_sampling(scan)})
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
    for name, values in {**scan.effect_fields, **scan.effect_maps}.items():
        is_field = EFFECT_IMAGES[name]["suffix"] == "fieldmap"
        images[name] = ppm_to_hz(values, np.float32(frequency)) if is_field else values
    paths = true_paths(output_dir, plan)
    metadata = _true_metadata(plan, scan)
    for name, path in paths.items():
        write_image(path, images[name], scan.affine)
        write_sidecar(path, {"SkullStripped": False, **metadata[name]})
    write_table(lookup_path(output_dir, plan), lookup_table(plan))
    return list(paths.values())


def _raw_metadata(plan, echo):
    """Return the sidecar of an echo's images, as a converter writes it."""
    protocol = plan.protocol
    return {
        **scanner_metadata(plan),
        "PulseSequenceType": "3D spoiled multi-echo gradient echo",
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        **SEQUENCE,
        "EchoNumber": echo + 1,
        "EchoTime": protocol.echo_times[echo],
        "RepetitionTimeExcitation": protocol.repetition_time,
        "FlipAngle": protocol.flip_angle,
        "Units": "arbitrary",
    }


def _sampling(scan):
    """Return the fields of a sidecar that describe coils and the part of k-space acquired."""
    truncation = scan.effects.get("truncation", {})
    partial_fourier = truncation.get("PartialFourier", 1)
    details = ["simulated, without duration of the readout"]
    if truncation.get("PhaseResolution", 1) < 1 or truncation.get("SliceResolution", 1) < 1:
        details.append("interpolated by zeros around k-space")
    if truncation.get("Elliptical", False):
        details.append("corners of k-space not acquired")
    metadata = {
        "CoilCombinationMethod": COIL_COMBINATION["coils" in scan.effects],
        "PulseSequenceDetails": ", ".join(details),
        "PartialFourier": partial_fourier,
    }
    if partial_fourier == 1:
        return {**metadata, "ScanOptions": "none"}
    return {**metadata, "PartialFourierDirection": "PHASE", "ScanOptions": "PFP"}


def scanner_metadata(plan: ScanPlan) -> dict[str, object]:
    """Return the fields of a sidecar that describe the scanner."""
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
    """Return the sidecars of a scan's truth by the names of its images."""
    is_phantom = plan.participant.model == "phantom"
    field = {"Units": "Hz", "CentreFrequency": plan.scanner.imaging_frequency}
    extent = "known in a box around the object and 0 in the rest of the image"
    tissue = {} if is_phantom else {"NucleiSusceptibility": plan.subject.chi}
    included = ["shim", "drift", *(f"desc-{name}" for name in scan.effect_fields)]
    total = f"True field, {', '.join(included[:-1])} and {included[-1]} included"
    return {
        **_effect_metadata(plan, scan, field, extent),
        "chi": {
            "Description": "True susceptibility relative to water, mean of each voxel",
            "Units": "ppm",
            "ObjectToScanner": plan.position.matrix,
            **tissue,
        },
        "labels": {"Description": "Tissue that takes the largest part of each voxel"},
        "mask": {
            "Description": "Water with its tubes"
            if is_phantom
            else "Brain with the CSF within and around it",
            "Type": "ROI" if is_phantom else "Brain",
        },
        "total_field": {
            **field,
            "Description": f"{total}, mean of each voxel; {extent}",
            "ShimTerms": ["1", "x", "y", "z", "xy", "yz", "xz", "z2-(x2+y2)/2", "x2-y2"],
            "ShimUnits": "ppm, with scanner coordinates in units of 100 mm",
            "Shim": scan.shim,
        },
        "local_field": {
            **field,
            "Description": "True field of the sources within the mask, mean of each voxel; "
            f"{extent}",
        },
        "magnitude": {
            "Description": "Root sum of squares of the echoes as scanned",
            "Units": "arbitrary",
            "NoiseStandardDeviation": scan.noise_sigma,
            "Effects": scan.effects,
        },
    }


def _effect_metadata(plan, scan, field, extent):
    """Return the sidecars of the maps of effects by the effects' names.

    Parameters
    ----------
    field : dict
        What all maps of fields state.
    extent : str
        Where fields are known.
    """
    descriptions = {}
    for name, effect in load_template("simulated_effects").items():
        descriptions[name] = effect.get("Map")
    metadata = {}
    for name in scan.effect_fields:
        description = f"{descriptions[name]}, mean of each voxel; {extent}"
        metadata[name] = {**field, "Description": description}
    for name in scan.effect_maps:
        own = {"Description": f"{descriptions[name]}; 0 in air"}
        if EFFECT_IMAGES[name]["suffix"] == "fieldmap":
            own |= field
        elif name == "noise":
            own["Units"] = "arbitrary"
        else:
            echo = {"flow": -1, "bipolar": 1}.get(name, 0)
            own |= {"Units": "rad", "EchoTime": plan.protocol.echo_times[echo]}
        metadata[name] = own
    return metadata
