"""Report of a subject: its content is read from the derivative dataset."""

from collections.abc import Mapping
from functools import partial
from itertools import chain, starmap
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes  # not from core, on which reports do not depend
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..dataset.checklist import CHECKLIST, reporting_checklist
from ..dataset.checklist_text import merge_equal_values
from ..dataset.entities import scan_label, scan_title
from ..dataset.files import read_json, write_text
from ..dataset.forms import scanner_form
from ..dataset.methods import method_steps, methods_text
from ..dataset.names import (
    BRAIN_MASK,
    FLAIR_REGIONS,
    LESION_TABLE,
    LESIONS,
    MAGNITUDE,
    MAPS,
    QUALITY_TABLE,
    R2STAR_TABLE,
    REFERENCE,
    REGIONS,
    REGISTRATION,
    REGISTRATION_TABLE,
    ROI_TABLE,
    ROIS,
    SITES,
    TUBES,
    picture_path,
    subject_space_map,
    susceptibility_map,
    variability_map,
)
from ..dataset.outputs import derivative_path
from ..dataset.plausibility import find_doubts
from ..dataset.repeats import LABELS
from ..dataset.sidecars import sidecar_path
from ..dataset.tables import read_tsv
from ..pictures.drawing import readable
from ..reports.blocks import Picture
from ..reports.subject import subject_report

REGISTRATION_CAPTION = (
    "Checkerboard of each scan (tinted) and the average of all scans (grey). Edges should be "
    "continuous across the squares."
)
REGISTRATION_ALT = "checkerboards of the registered scans and their average"
LESION_CAPTION = "Planes of the FLAIR image through the lesions, with and without their outlines"
REGION_CAPTION = (
    "Regions (only the thalamus, if it is one of them), voxels excluded as veins, and the "
    "reference region, on the map of the first scan"
)
TUBES_CAPTION = (
    "Susceptibility in the plane through two tubes, relative to the water; below, in a narrow "
    "window in which streaks are visible"
)
FLAIR_CAPTION = (
    "Regions (only the thalamus, if it is one of them), voxels excluded as veins, and the "
    "reference region, in axial planes of FLAIR: on FLAIR, on FLAIR with the map of the first "
    "scan in colour, and on the map"
)
SITES_CAPTION = "Susceptibility in the first scan of each site, in subject space"
REGION_PICTURES = (
    (ROIS, "Outline of the regions on the mean magnitude"),
    (REFERENCE, "Outline of the reference region"),
    (REGIONS, REGION_CAPTION),
    (FLAIR_REGIONS, FLAIR_CAPTION),
    (SITES, SITES_CAPTION),
)


class _SubjectReportInputSpec(BaseInterfaceInputSpec):
    subject = traits.Str(mandatory=True, desc="label of the subject")
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each processed scan")
    methods = traits.List(traits.Str, mandatory=True, desc="names of the inversions")
    failures = traits.List(
        traits.Tuple(traits.Str, traits.Str),
        desc="steps that failed and scans that were left out, with the cause",
    )
    warnings = traits.List(traits.Str, usedefault=True, desc="warnings of the preflight checks")
    sites = traits.List(
        traits.Str, usedefault=True, desc="all sites of the run, which decide on their colours"
    )
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SubjectReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class SubjectReport(SimpleInterface):
    """Write a subject's report from the derivatives that exist."""

    input_spec = _SubjectReportInputSpec
    output_spec = _SubjectReportOutputSpec
    _always_run = True  # the files that it shows may have changed

    def _run_interface(self, runtime):
        inputs = self.inputs
        root = Path(inputs.output_dir)
        scans = [_ScanFiles(root, entities, inputs.methods) for entities in inputs.entities]
        warnings = [*inputs.warnings, *_scan_warnings(scans)]
        results = {}
        if scans:  # without any, results in the dataset are those of an earlier run
            warnings += _lesion_warnings(root, inputs.subject)
            results = _results(root, inputs.subject, scans, inputs.methods)
        page = subject_report(
            inputs.subject,
            pd.DataFrame([scan.row for scan in scans]),
            failures=inputs.failures,
            warnings=warnings,
            sites=inputs.sites or None,
            **results,
        )
        report = write_text(root / f"sub-{inputs.subject}.html", page)
        self._results["out_file"] = str(report.absolute())
        return runtime


def _results(root, subject, scans, methods):
    """Return the results of a subject's processed scans, as arguments of `subject_report`."""
    table = _subject_path(root, subject, **REGISTRATION_TABLE)
    entities = {"subject": subject}
    labels = [scan.label for scan in scans]
    return {
        "maps": _concatenate(map(_map_rows, scans)),
        "citation": methods_text(root, labels),
        "checklist": merge_equal_values(reporting_checklist(root, labels)),
        "links": {"checklist": CHECKLIST.as_posix()} if (root / CHECKLIST).exists() else {},
        "pictures": {scan.title: scan.pictures() for scan in scans},
        "registration": _read_table(table),
        "registration_picture": read_picture(
            root, entities, REGISTRATION, REGISTRATION_CAPTION, REGISTRATION_ALT
        ),
        "quality": _read_table(_subject_path(root, subject, **QUALITY_TABLE)),
        "lesions": _read_table(_subject_path(root, subject, **LESION_TABLE)),
        "lesion_source": _lesion_source(root, subject),
        "lesion_picture": read_picture(
            root, entities, LESIONS, LESION_CAPTION, "lesions on the FLAIR image"
        ),
        "rois": _concatenate([_read_table(scan.table) for scan in scans]),
        "r2star": _concatenate([_read_table(scan.r2star_table) for scan in scans]),
        "region_pictures": _pictures(root, entities, REGION_PICTURES),
        "variability_pictures": _pictures(root, entities, _variability_captions(methods)),
        "versions": scans[0].sidecar.get("ProcessingSoftware", {}),
    }


def _scan_warnings(scans):
    """Return the warnings of all scans without repetitions, in order."""
    return list(dict.fromkeys(chain.from_iterable(scan.warnings for scan in scans)))


class _ScanFiles:
    """Derivatives of a scan that the report shows."""

    def __init__(self, root, entities, methods):
        self.root = root
        self.entities = entities
        self.methods = methods
        self.label = scan_label(entities)
        self.title = scan_title(entities)
        self.sidecars = {
            method: read_json(sidecar_path(self.chi_file(method))) for method in methods
        }
        self.sidecar = self.sidecars[methods[0]]
        self.table = derivative_path(root, entities, **ROI_TABLE)
        self.r2star_table = derivative_path(root, entities, **R2STAR_TABLE)

    def chi_file(self, method):
        return derivative_path(self.root, self.entities, **susceptibility_map(method))

    @property
    def labels(self):
        """Columns that identify the scan."""
        labels = {key: self.entities.get(key) for key in ("session", "run", *LABELS)}
        return labels | {"site": self.sidecar.get("Site")}

    @property
    def row(self):
        sidecar = self.sidecar
        image = nib.load(self.chi_file(self.methods[0]))
        mask = nib.load(self.mask)
        voxel_size = voxel_sizes(scanner_form(image).affine)
        volume = np.count_nonzero(np.asanyarray(mask.dataobj)) * np.prod(voxel_size) / 1000
        model = sidecar.get("ManufacturersModelName") or sidecar.get("Manufacturer")
        return self.labels | {
            "scanner": model,
            "field_strength": sidecar.get("MagneticFieldStrength"),
            "echo_times": [1000 * time for time in sidecar.get("EchoTimes", [])],
            "voxel_size": list(voxel_size),
            "phase_sign": sidecar.get("PhaseSign"),
            "phase_sign_source": sidecar.get("PhaseSignSource"),
            "phase_encoding": sidecar.get("PhaseEncoding"),
            "mask_source": sidecar.get("BrainMask"),
            "mask_volume": volume,
            "roi_source": self._roi_source(),
        }

    def _roi_source(self):
        sidecar = read_json(sidecar_path(self.table))
        source = sidecar.get("RegionsFrom")
        image = sidecar.get("FreeSurferLabelsRegisteredBy")
        return f"{source}, registered by {image}" if image else source

    @property
    def mask(self):
        return derivative_path(self.root, self.entities, **BRAIN_MASK)

    @property
    def warnings(self):
        """Warnings: a reference other than the chosen one, and implausible values."""
        warnings = []
        for method in self.methods:
            sidecar = self.subject_space_sidecar(method)
            if "brain_as_fallback" in (method_steps(sidecar) or ()):
                warnings.append(f"values are relative to the {sidecar['ReferenceSource']}")
        for doubt in find_doubts(self.sidecars):
            warnings.append(f"{self.title}: {doubt.text}")
        return warnings

    def subject_space_sidecar(self, method):
        """Read the sidecar of the map in the subject space."""
        path = derivative_path(self.root, self.entities, **subject_space_map(method))
        return read_json(sidecar_path(path))

    def pictures(self):
        """Return the pictures of the magnitude with the mask, the maps side by side, and tubes."""
        captions = (
            (MAGNITUDE, "Magnitude and brain mask", f"magnitude of {self.title}"),
            (MAPS, "Susceptibility", f"susceptibility maps of {self.title}"),
            (TUBES, TUBES_CAPTION, f"plane through two tubes of {self.title}"),
        )
        return _pictures(self.root, self.entities, captions)


def _map_rows(scan):
    """Return a row for each inversion, with the reference of its map in the subject space."""
    rows = []
    for method, sidecar in scan.sidecars.items():
        row = scan.labels | {
            "method": method,
            "lambda_value": sidecar.get("Lambda"),
            "lambda_units": sidecar.get("LambdaUnits"),
            "lambda_rule": sidecar.get("LambdaRule"),
            "iterations": sidecar.get("InversionIterations"),
        }
        subject_space = scan.subject_space_sidecar(method)
        if subject_space:
            region = subject_space.get("ReferenceRegion")
            source = subject_space.get("ReferenceSource")
            row |= {
                "reference": f"{readable(region)} ({source})",
                "reference_voxels": subject_space.get("ReferenceVoxels"),
                "offset": subject_space.get("ReferenceOffset"),
                "reference_sd": subject_space.get("ReferenceStandardDeviation"),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _lesion_source(root, subject):
    """Return how the lesions were segmented, by their sidecar; empty if there are none."""
    sidecar = _lesion_sidecar(root, subject)
    parts = [sidecar.get("LesionSource")]
    for kind in ("Added", "Removed"):
        n_voxels = sidecar.get(f"VoxelsBy{kind}Mask")
        if n_voxels is not None:
            parts.append(f"voxels {kind.lower()} by hand: {n_voxels}")
    return "; ".join(filter(None, parts))


def _lesion_warnings(root, subject):
    """Yield a warning for each seed that did not grow."""
    for point in _lesion_sidecar(root, subject).get("SeedsNotGrown", []):
        position = ", ".join(f"{coordinate:.1f}" for coordinate in point)
        yield (
            f"the lesion seed at {position} mm did not grow, because its intensity does not differ "
            "clearly from that of its surroundings; move it, or draw the lesion by hand"
        )


def _lesion_sidecar(root, subject):
    return read_json(_subject_path(root, subject, **LESION_TABLE).with_suffix(".json"))


def _variability_captions(methods):
    """Return the names of the maps of standard deviations over scans, each with its caption."""
    captions = []
    for kind in ("within", "across"):
        for method in methods:
            caption = f"Standard deviation of susceptibility {kind} sites, {readable(method)}"
            captions.append((variability_map(method, kind), caption))
    return captions


def _pictures(root, entities, captions):
    """Return the pictures that exist; each has its names, a caption and possibly a description."""
    pictures = starmap(partial(read_picture, root, entities), captions)
    return [picture for picture in pictures if picture is not None]


def read_picture(
    root: Path, entities: Mapping[str, str], names: Mapping[str, str], caption: str, alt: str = ""
) -> Picture | None:
    """Read a picture that was drawn before; None if it does not exist.

    Parameters
    ----------
    root : pathlib.Path
        Root of the derivative dataset.
    entities : dict of str
        Entities of the scan or subject, by their long names.
    names : dict of str
        Name of the picture, such as `multiqsm.dataset.names.MAPS`.
    caption, alt : str
        See `multiqsm.reports.blocks.Picture`.

    Returns
    -------
    Picture or None
    """
    path = picture_path(root, entities, **names)
    return Picture(path.read_bytes(), caption, alt) if path.exists() else None


def _subject_path(root, subject, **names):
    return derivative_path(root, {"subject": subject}, **names)


def _read_table(path):
    return read_tsv(path) if path.exists() else None


def _concatenate(tables):
    """Return the rows of all tables that exist; None if none does."""
    existing = [table for table in tables if table is not None]
    return pd.concat(existing, ignore_index=True) if existing else None
