"""One scan: from the scanner's files to susceptibility maps in BIDS."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from ..core.phase.fieldfit import ECHOES_FOR_R2STAR
from ..dataset.entities import StackedEcho
from ..dataset.files import PathLike
from ..dataset.methods import METHOD_STEPS
from ..dataset.outputs import bids_uri
from ..dataset.protocol import HarmonizedScan
from ..dataset.scans import POLARITY_SOURCE, Scan
from ..dataset.volumes import load_volume
from ..interfaces.harmonization import CropKSpace
from ..interfaces.mask import BrainMask, PhantomMask, UserMask
from ..interfaces.methods import BACKGROUNDS, INVERSIONS
from ..interfaces.phase import CorrectReadout, DecodeEchoes
from ..interfaces.quality import CheckSign
from ..interfaces.timing import SaveTimes
from .background import init_background_wf
from .connections import by_name
from .derivatives import init_scan_derivatives_wf
from .field import init_field_wf
from .inversion import init_inversion_wf
from .memory import volume_gigabytes

if TYPE_CHECKING:
    from .settings import Settings

# What nodes that change the echoes take and return.
_ECHOES = ["magnitude_file", "phase_file", "provenance"]

RECORDED_PACKAGES = ("multiqsm", "nipype", "nibabel", "numpy", "scipy", "scikit-image", "pybids")


def init_scan_wf(
    scan: Scan, *, bids_dir: PathLike, output_dir: PathLike, settings: Settings, threads: int
) -> Workflow:
    """Build the workflow of one scan.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan, checked. Before all else a `multiqsm.dataset.protocol.HarmonizedScan` is cropped
        in k-space to the matrix of the common protocol.
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset.
    settings : Settings
        Choices of the run.
    threads : int
        Threads of the Fourier transforms.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Named after the scan.

    Raises
    ------
    ValueError
        If the centre frequency or an echo time is missing, which checking the scan rules out.

    Examples
    --------
    The workflow of a dataset's first scan. `collect_subjects` finds the maps that such workflows
    have made, by subject, for `init_person_wf`.

    >>> scans, problems = collect_scans("raw")  # doctest: +SKIP
    >>> workflow = init_scan_wf(
    ...     scans[0], bids_dir="raw", output_dir="out", settings=Settings(), threads=1
    ... )  # doctest: +SKIP
    >>> workflow.run()  # doctest: +SKIP
    """
    frequency, _ = scan.centre_frequency
    echo_times = [time for time in scan.echo_times if time is not None]
    if frequency is None or len(echo_times) < len(scan.echo_times):
        raise ValueError(
            f"{scan.label}: the centre frequency or an echo time is missing; give ImagingFrequency "
            "and EchoTime in its sidecars"
        )
    gigabytes = partial(volume_gigabytes, prod(_matrix(scan)))
    workflow = Workflow(name=scan.node_name)
    echoes = _connect_echoes(workflow, scan, settings, threads)
    mask = _connect_mask(workflow, echoes, scan, bids_dir, gigabytes)
    field = init_field_wf(
        echo_times=echo_times,
        centre_frequency=frequency,
        unwrapping=settings.unwrapping,
        # The wall of a phantom's tube has no phase but noise, and yet belongs to the phantom.
        trim=scan.brain_mask is None and not scan.is_phantom,
        is_phantom=scan.is_phantom,
        gigabytes=gigabytes,
    )
    background = init_background_wf(
        method=settings.background,
        threads=threads,
        gigabytes=gigabytes,
        edge_fraction=settings.edge_fraction,
    )
    derivatives = init_scan_derivatives_wf(
        entities=scan.entities,
        output_dir=output_dir,
        centre_frequency=frequency,
        metadata=_common_metadata(scan, bids_dir),
        inversions=settings.inversions,
        standard_errors=settings.standard_errors,
        reduced_mask=settings.background if BACKGROUNDS[settings.background].shrinks_mask else None,
        with_r2star=_has_r2star(scan),
        gigabytes=gigabytes,
        is_phantom=scan.is_phantom,
    )
    # fmt: off
    workflow.connect([
        (echoes, field, [
            ("magnitude_file", "inputnode.magnitude_file"), ("phase_file", "inputnode.phase_file"),
        ]),
        (mask, field, [
            ("mask_file", "inputnode.mask_file"), ("provenance", "inputnode.provenance"),
        ]),
        (field, background, [
            ("outputnode.field_file", "inputnode.field_file"),
            ("outputnode.standard_error_file", "inputnode.standard_error_file"),
            ("outputnode.mask_file", "inputnode.mask_file"),
            ("outputnode.provenance", "inputnode.provenance"),
        ]),
    ])
    if BACKGROUNDS[settings.background].needs_edges:
        workflow.connect(echoes, "magnitude_file", background, "inputnode.magnitude_file")
    # fmt: on
    _connect_derivatives(workflow, echoes, field, background, derivatives, scan, settings)
    provenance = _connect_sign(workflow, field, background, scan, threads, gigabytes)
    times = _times_node(workflow, scan, output_dir, settings.inversions, gigabytes)
    for number, method in enumerate(settings.inversions, start=1):
        inversion = init_inversion_wf(
            method=method,
            settings=settings,
            period=phase_period(echo_times, frequency),
            threads=threads,
            gigabytes=gigabytes,
        )
        workflow.connect(*provenance, inversion, "inputnode.provenance")
        _connect_inversion(
            workflow, echoes, field, background, inversion, derivatives, method, settings
        )
        workflow.connect(inversion, "outputnode.time", times, f"in{number}")
    return workflow


def _connect_echoes(workflow, scan, settings, threads):
    """Add the nodes that decode magnitude and phase of the echoes, crop them in k-space if the scan
    is harmonised, and remove the phase of a bipolar readout; return the last of them.
    """
    n_echoes = len(scan.echo_times)
    as_scanned = partial(volume_gigabytes, prod(load_volume(scan.files[0]).shape))
    decode = Node(_decode_interface(scan, settings), name="decode", mem_gb=as_scanned(5 * n_echoes))
    workflow.add_nodes([decode])
    echoes = decode
    if isinstance(scan, HarmonizedScan) and scan.is_cropped:
        crop = CropKSpace(matrix=list(scan.matrix), num_threads=threads)
        echoes = Node(crop, name="harmonize", mem_gb=as_scanned(6 * n_echoes + 6))
        workflow.connect([(decode, echoes, by_name(_ECHOES))])
    if scan.readout_polarity == "bipolar":
        correct = CorrectReadout(echo_times=list(scan.echo_times))
        gigabytes = partial(volume_gigabytes, prod(_matrix(scan)))
        readout = Node(correct, name="readout", mem_gb=gigabytes(4 * n_echoes + 20))
        workflow.connect([(echoes, readout, by_name(_ECHOES))])
        return readout
    return echoes


def _connect_mask(workflow, echoes, scan, bids_dir, gigabytes):
    """Add the node that makes the mask from the echoes, or reads the user's."""
    mask = Node(
        _mask_interface(scan, bids_dir),
        name="mask",
        mem_gb=gigabytes(3 * len(scan.echo_times) + 12),
    )
    workflow.connect([(echoes, mask, by_name(["magnitude_file", "provenance"]))])
    if scan.brain_mask is None:
        workflow.connect(echoes, "phase_file", mask, "phase_file")
    return mask


def _connect_derivatives(workflow, echoes, field, background, derivatives, scan, settings):
    """Save the mask, the magnitude, the fields and R2*."""
    # fmt: off
    workflow.connect([
        (echoes, derivatives, [
            ("magnitude_file", "inputnode.magnitude_file"),
            ("provenance", "inputnode.magnitude_provenance"),
        ]),
        (field, derivatives, [
            ("outputnode.mask_file", "inputnode.mask_file"),
            ("outputnode.mask_provenance", "inputnode.mask_provenance"),
            ("outputnode.field_file", "inputnode.field_file"),
            ("outputnode.provenance", "inputnode.field_provenance"),
            ("outputnode.total_error_file", "inputnode.total_error_file"),
            ("outputnode.provenance", "inputnode.total_error_provenance"),
            ("outputnode.noise_error_file", "inputnode.noise_error_file"),
            ("outputnode.provenance", "inputnode.noise_error_provenance"),
        ]),
        (background, derivatives, [
            ("outputnode.local_field_file", "inputnode.local_field_file"),
            ("outputnode.provenance", "inputnode.local_field_provenance"),
        ]),
    ])
    if _has_r2star(scan):
        workflow.connect([(field, derivatives, [
            ("outputnode.r2star_file", "inputnode.r2star_file"),
            ("outputnode.r2star_provenance", "inputnode.r2star_provenance"),
        ])])
    if BACKGROUNDS[settings.background].shrinks_mask:
        workflow.connect([(background, derivatives, [
            ("outputnode.mask_file", "inputnode.reduced_mask_file"),
            ("outputnode.provenance", "inputnode.reduced_mask_provenance"),
        ])])
    # fmt: on


def _connect_sign(workflow, field, background, scan, threads, gigabytes):
    """Check the sign of a head's phase; return the node and its output that has the sidecar fields
    so far.
    """
    if scan.is_phantom:  # the sign shows in deep nuclei and veins, which a phantom does not have
        return background, "outputnode.provenance"
    sign = Node(CheckSign(num_threads=threads), name="sign", mem_gb=gigabytes(15))
    # fmt: off
    workflow.connect([
        (field, sign, [
            ("outputnode.field_file", "field_file"),
            ("outputnode.standard_error_file", "standard_error_file"),
            ("outputnode.mask_file", "mask_file"),
        ]),
        (background, sign, [("outputnode.provenance", "provenance")]),
    ])
    # fmt: on
    return sign, "provenance"


def _connect_inversion(
    workflow, echoes, field, background, inversion, derivatives, method, settings
):
    """Connect an inversion to its inputs, and save its map."""
    # fmt: off
    workflow.connect([
        (field, inversion, [("outputnode.standard_error_file", "inputnode.standard_error_file")]),
        (background, inversion, [
            ("outputnode.local_field_file", "inputnode.local_field_file"),
            ("outputnode.mask_file", "inputnode.mask_file"),
        ]),
        (inversion, derivatives, [
            ("outputnode.chi_file", f"inputnode.{method}_chi_file"),
            ("outputnode.provenance", f"inputnode.{method}_chi_provenance"),
        ]),
    ])
    if method in settings.standard_errors:
        workflow.connect([(field, inversion, [
            ("outputnode.total_error_file", "inputnode.total_error_file"),
        ])])
        workflow.connect([(inversion, derivatives, [
            ("outputnode.chi_se_file", f"inputnode.{method}_chi_se_file"),
            ("outputnode.chi_se_provenance", f"inputnode.{method}_chi_se_provenance"),
        ])])
    if INVERSIONS[method].needs_edges:
        workflow.connect(echoes, "magnitude_file", inversion, "inputnode.magnitude_file")
    # fmt: on


def _times_node(workflow, scan, output_dir, inversions, gigabytes):
    """Add the nodes that save the computation times of all inversions; return the one that collects
    these.
    """
    times = Node(Merge(len(inversions)), name="times", mem_gb=gigabytes(0))
    save = SaveTimes(output_dir=str(output_dir), scan=scan.label, methods=list(inversions))
    save = Node(save, name="save_times", mem_gb=gigabytes(0))
    workflow.connect(times, "out", save, "times")
    return times


def _matrix(scan):
    """Return the number of voxels along each axis of the images that are processed."""
    if isinstance(scan, HarmonizedScan) and scan.is_cropped:
        return scan.matrix
    return load_volume(scan.files[0]).shape


def _has_r2star(scan):
    return len(scan.echo_times) >= ECHOES_FOR_R2STAR


def _first_record(scan):
    """Return the sidecar fields of the scan before any processing."""
    frequency, frequency_source = scan.centre_frequency
    record = {
        **scan.metadata,
        "CentreFrequency": frequency,
        "CentreFrequencySource": frequency_source,
        "Site": scan.site,
        "SiteSource": scan.site_source,
    }
    if scan.decisions:
        record["InputDecisions"] = list(scan.decisions)
    if scan.readout_polarity is not None:
        record["ReadoutPolarity"] = scan.readout_polarity
        record["ReadoutPolaritySource"] = POLARITY_SOURCE
    steps = []
    if scan.is_phantom:
        steps.append("phantom")
    if isinstance(scan, HarmonizedScan):
        record |= scan.record
        steps.append("harmonization")
    if steps:
        record[METHOD_STEPS] = steps
    return record


def phase_period(echo_times: Iterable[float], centre_frequency: float) -> float:
    """Return the field at which phase wraps once between the two closest echoes.

    Parameters
    ----------
    echo_times : iterable of float
        Echo times, s. The phase of a single echo wraps from excitation on.
    centre_frequency : float
        Centre frequency of the scanner, MHz.

    Returns
    -------
    float
        In ppm.

    Examples
    --------
    >>> round(phase_period([0.004, 0.012, 0.016], 125.0), 6)
    2.0
    >>> round(phase_period([0.020], 125.0), 6)
    0.4
    """
    times = sorted(echo_times)
    spacing = min(np.diff(times).tolist(), default=times[0])
    return 1 / (centre_frequency * spacing)


def _decode_interface(scan, settings):
    interface = DecodeEchoes(phase_sign=settings.phase_sign, provenance=_first_record(scan))
    volumes = {}
    for part, paths in scan.parts.items():
        setattr(interface.inputs, part, list(map(str, paths)))
        if any(isinstance(path, StackedEcho) for path in paths):
            volumes[part] = [getattr(path, "index", -1) for path in paths]
    interface.inputs.volumes = volumes
    interface.inputs.alternating_axes = list(scan.alternating_axes)
    if scan.units is not None:
        interface.inputs.units = scan.units
    if scan.manufacturer is not None:
        interface.inputs.manufacturer = scan.manufacturer
    return interface


def _mask_interface(scan, bids_dir):
    if scan.brain_mask is None:
        return PhantomMask() if scan.is_phantom else BrainMask()
    return UserMask(user_mask_file=str(scan.brain_mask), source=_source(scan.brain_mask, bids_dir))


def _source(path, bids_dir):
    """Return the BIDS URI of a file in the raw dataset, or the plain URI of one elsewhere."""
    try:
        return bids_uri(path, bids_dir)
    except ValueError:
        return Path(path).absolute().as_uri()


def _common_metadata(scan, bids_dir):
    """Return the sidecar fields that all derivatives of the scan have."""
    # a file may have several echoes
    sources = list(dict.fromkeys(_source(path, bids_dir) for path in scan.files))
    if scan.brain_mask is not None:
        sources.append(_source(scan.brain_mask, bids_dir))
    versions = {package: version(package) for package in RECORDED_PACKAGES}
    return {"SkullStripped": True, "Sources": sources, "ProcessingSoftware": versions}
