"""Reports: what lies in the derivative dataset, gathered for the reader."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import voxel_sizes  # ours would make reports depend on the numerics
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..dataset.entities import scan_label, scan_title
from ..dataset.files import read_json, write_text
from ..dataset.forms import scanner_form
from ..dataset.methods import METHOD_STEPS, methods_text
from ..dataset.names import (
    BRAIN_MASK,
    LESION_TABLE,
    LESIONS,
    MAGNITUDE,
    MAPS,
    QUALITY_TABLE,
    REFERENCE,
    REGIONS,
    REGISTRATION,
    REGISTRATION_TABLE,
    ROI_TABLE,
    ROIS,
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
REGION_PICTURES = (
    (ROIS, "Outline of the regions on the mean magnitude"),
    (REFERENCE, "Outline of the reference region"),
    (REGIONS, REGION_CAPTION),
)


class _SubjectReportInputSpec(BaseInterfaceInputSpec):
    subject = traits.Str(mandatory=True, desc="label of the subject")
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each processed scan")
    methods = traits.List(traits.Str, mandatory=True, desc="inversions")
    failures = traits.List(
        traits.Tuple(traits.Str, traits.Str), desc="what failed or was left out, and why"
    )
    warnings = traits.List(traits.Str, usedefault=True, desc="what was found in the raw scans")
    sites = traits.List(traits.Str, usedefault=True, desc="all sites of the run, for their colours")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SubjectReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class SubjectReport(SimpleInterface):
    """Write a subject's report from the derivatives that there are."""

    input_spec = _SubjectReportInputSpec
    output_spec = _SubjectReportOutputSpec
    _always_run = True  # it tells of files that may have changed

    def _run_interface(self, runtime):
        inputs = self.inputs
        root = Path(self.inputs.output_dir)
        scans = [_ScanFiles(root, entities, inputs.methods) for entities in inputs.entities]
        page = subject_report(
            inputs.subject,
            pd.DataFrame([scan.row for scan in scans]),
            failures=inputs.failures,
            warnings=[*inputs.warnings, *_warnings(root, inputs.subject, scans)],
            sites=inputs.sites or None,
            **(
                _results(root, inputs.subject, scans, inputs.methods) if scans else {}
            ),  # else they are an earlier run's
        )
        self._results["out_file"] = str(
            write_text(root / f"sub-{inputs.subject}.html", page).absolute()
        )
        return runtime


def _results(root, subject, scans, methods):
    """What there is to tell of a subject's processed scans, as `subject_report` takes it."""
    table = _subject_path(root, subject, **REGISTRATION_TABLE)
    entities = {"subject": subject}
    return {
        "maps": _join([_map_rows(scan) for scan in scans]),
        "citation": methods_text(root, [scan.label for scan in scans]),
        "pictures": {scan.title: scan.pictures() for scan in scans},
        "registration": _read_table(table),
        "registration_picture": _picture(
            root, entities, REGISTRATION, REGISTRATION_CAPTION, REGISTRATION_ALT
        ),
        "quality": _read_table(_subject_path(root, subject, **QUALITY_TABLE)),
        "lesions": _read_table(_subject_path(root, subject, **LESION_TABLE)),
        "lesion_source": _lesion_source(root, subject),
        "lesion_picture": _picture(
            root, entities, LESIONS, LESION_CAPTION, "lesions on the FLAIR image"
        ),
        "rois": _join([_read_table(scan.table) for scan in scans]),
        "region_pictures": _pictures(root, entities, REGION_PICTURES),
        "variability_pictures": _pictures(root, entities, _variability_captions(methods)),
        "versions": scans[0].sidecar.get("ProcessingSoftware", {}),
    }


def _warnings(root, subject, scans):
    """What the results give to look at."""
    found = dict.fromkeys(text for scan in scans for text in scan.warnings)
    return [*found, *(_lesion_warnings(root, subject) if scans else ())]


class _ScanFiles:
    """A scan's derivatives as the report tells of them."""

    def __init__(self, root, entities, methods):
        self.root = root
        self.entities = entities
        self.methods = methods
        self.label = scan_label(entities)
        self.title = scan_title(entities)
        self.sidecars = {method: read_json(sidecar_path(self.chi(method))) for method in methods}
        self.sidecar = self.sidecars[methods[0]]
        self.table = derivative_path(root, entities, **ROI_TABLE)

    def chi(self, method):
        return derivative_path(self.root, self.entities, **susceptibility_map(method))

    @property
    def labels(self):
        return {key: self.entities.get(key) for key in ("session", "run", *LABELS)} | {
            "site": self.sidecar.get("Site")
        }

    @property
    def row(self):
        sidecar = self.sidecar
        image = nib.load(self.chi(self.methods[0]))
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
        told = read_json(sidecar_path(self.table))
        by = told.get("FreeSurferLabelsRegisteredBy")
        return f"{told['RegionsFrom']}, registered by {by}" if by else told.get("RegionsFrom")

    @property
    def mask(self):
        return derivative_path(self.root, self.entities, **BRAIN_MASK)

    @property
    def warnings(self):
        """What the reader must know: another reference than asked for, figures that are not
        plausible.
        """
        return [
            *self._reference_warnings(),
            *(f"{self.title}: {doubt.text}" for doubt in find_doubts(self.sidecars)),
        ]

    def _reference_warnings(self):
        for method in self.methods:
            carried = self.carried(method)
            if "brain_instead" in carried.get(METHOD_STEPS, ()):
                yield f"values are relative to the {carried['ReferenceSource']}"

    def carried(self, method):
        """Sidecar of the map in the subject space."""
        path = derivative_path(self.root, self.entities, **subject_space_map(method))
        return read_json(sidecar_path(path))

    def pictures(self):
        """Magnitude with mask, and the maps side by side."""
        shown = (
            (MAGNITUDE, "Magnitude and brain mask", f"magnitude of {self.title}"),
            (MAPS, "Susceptibility", f"susceptibility maps of {self.title}"),
        )
        return _pictures(self.root, self.entities, shown)


def _map_rows(scan):
    """One row for each inversion of a scan, with the reference of its map in the subject space."""
    rows = []
    for method, sidecar in scan.sidecars.items():
        row = scan.labels | {
            "method": method,
            "lambda_value": sidecar.get("Lambda"),
            "lambda_units": sidecar.get("LambdaUnits"),
            "lambda_rule": sidecar.get("LambdaRule"),
            "iterations": sidecar.get("InversionIterations"),
        }
        carried = scan.carried(method)
        if carried:
            row |= {
                "reference": f"{carried.get('ReferenceRegion')} ({carried.get('ReferenceSource')})",
                "reference_voxels": carried.get("ReferenceVoxels"),
                "offset": carried.get("ReferenceOffset"),
                "reference_sd": carried.get("ReferenceStandardDeviation"),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _lesion_source(root, subject):
    """What the lesions' sidecar says of how they were found; empty if there are none."""
    told = _lesion_record(root, subject)
    edits = [(kind, told.get(f"VoxelsBy{kind}Mask")) for kind in ("Added", "Removed")]
    parts = [
        told.get("LesionSource"),
        *(f"voxels {kind.lower()} by hand: {n}" for kind, n in edits if n is not None),
    ]
    return "; ".join(filter(None, parts))


def _lesion_warnings(root, subject):
    for point in _lesion_record(root, subject).get("SeedsNotGrown", []):
        place = ", ".join(f"{value:.1f}" for value in point)
        yield (
            f"the seed of a lesion at {place} mm does not stand out of its surroundings and did "
            "not grow"
        )


def _lesion_record(root, subject):
    return read_json(_subject_path(root, subject, **LESION_TABLE).with_suffix(".json"))


def _variability_captions(methods):
    """What names the maps of the SD over scans, each with its caption."""
    return [
        (
            variability_map(method, kind),
            f"Standard deviation of susceptibility {kind} sites, {readable(method)}",
        )
        for kind in ("within", "across")
        for method in methods
    ]


def _pictures(root, entities, shown):
    """Those pictures that are there; each told of as `_picture` is."""
    found = (_picture(root, entities, *told) for told in shown)
    return [picture for picture in found if picture is not None]


def _picture(root, entities, named, caption, alt=""):
    """A picture as it was drawn before; None if there is none."""
    path = picture_path(root, entities, **named)
    return Picture(path.read_bytes(), caption, alt) if path.exists() else None


def _subject_path(root, subject, **named):
    return derivative_path(root, {"subject": subject}, **named)


def _read_table(path):
    return read_tsv(path) if path.exists() else None


def _join(tables):
    present = [table for table in tables if table is not None]
    return pd.concat(present, ignore_index=True) if present else None
