"""Paths of the files of a simulated dataset, and whether those of a scan exist."""

import re
from collections.abc import Mapping
from pathlib import Path

from bids.layout.writing import build_path

from ...bids_templates import load_template
from ...simulation.encoding import ge_encoding, siemens_encoding
from ...simulation.plan import ScanPlan
from ...simulation.scanners import SCANNERS
from ...simulation.structural import Structural
from ..anatomy import ASEG
from ..files import PathLike
from ..outputs import derivative_path
from ..sidecars import sidecar_path
from ..sources import FREESURFER

TRUTH = Path("derivatives", "truth")
MANUAL = Path("derivatives", "manual")
ENCODINGS = {"siemens": (siemens_encoding, ("mag", "phase")), "ge": (ge_encoding, ("real", "imag"))}
LESION_SUFFIX = "FLAIR"  # the image that lesions are marked in
SEGMENTED_SUFFIX = "T1w"  # the image that FreeSurfer segments
PARTIAL = re.compile(r"\.(.+\.)?[0-9a-f]{32}(\..+)?")  # names of files that are being written
TRUE_IMAGES: Mapping[str, Mapping[str, str]] = {
    "chi": {"suffix": "Chimap", "desc": "truth"},
    "labels": {"suffix": "dseg", "desc": "truth"},
    "mask": {"suffix": "mask", "desc": "truth"},
    "total_field": {"suffix": "fieldmap", "desc": "total", "datatype": "fmap"},
    "local_field": {"suffix": "fieldmap", "desc": "local", "datatype": "fmap"},
    # BIDS wants a magnitude image with a field map.
    "magnitude": {"suffix": "magnitude", "datatype": "fmap"},
}
# What effects do at each place, by the effect's name.
EFFECT_IMAGES: Mapping[str, Mapping[str, str]] = {
    "breathing": {"suffix": "fieldmap", "desc": "breathing", "datatype": "fmap"},
    "flow": {"suffix": "T2starw", "desc": "flow", "part": "phase"},
    "eddy_currents": {"suffix": "T2starw", "desc": "eddyCurrents", "part": "phase"},
    "bipolar": {"suffix": "T2starw", "desc": "bipolar", "part": "phase"},
    "coils": {"suffix": "T2starw", "desc": "coils", "part": "phase"},
    "noise": {"suffix": "T2starw", "desc": "noise", "part": "mag"},
    "anisotropy": {"suffix": "fieldmap", "desc": "anisotropy", "datatype": "fmap"},
    "microstructure": {"suffix": "fieldmap", "desc": "microstructure", "datatype": "fmap"},
    "temperature": {"suffix": "fieldmap", "desc": "temperature", "datatype": "fmap"},
}


def is_complete(output_dir: PathLike, plan: ScanPlan) -> bool:
    """Check whether every file of a scan and of its truth exists and is not empty.

    Files are written atomically, so that no file is partial.
    """
    return all(path.is_file() and path.stat().st_size > 0 for path in _files(output_dir, plan))


def remove_partials(output_dir: PathLike, plan: ScanPlan) -> None:
    """Remove what interrupted writes left in the folders of a scan; no process may be writing
    there.
    """
    for folder in {path.parent for path in _files(output_dir, plan)}:
        if not folder.is_dir():
            continue  # a file in place of the folder is reported when the scan is written
        for path in folder.iterdir():
            if PARTIAL.fullmatch(path.name):
                path.unlink()


def _files(output_dir, plan):
    """Return the paths of all files of a scan and of its truth."""
    images = [*raw_paths(output_dir, plan).values(), *true_paths(output_dir, plan).values()]
    tables = [lookup_path(output_dir, plan)]
    for sequence in plan.structural:
        images.append(structural_path(output_dir, plan, sequence))
        if sequence.suffix == LESION_SUFFIX:
            images.append(lesions_path(output_dir, plan))
            tables.append(seeds_path(output_dir, plan))
        if sequence.suffix == SEGMENTED_SUFFIX:
            tables.append(aseg_path(output_dir, plan))
    if is_drawn_on(plan):
        images.append(drawn_path(output_dir, plan))
        tables.append(drawn_path(output_dir, plan, extension=".tsv"))
    return [*images, *map(sidecar_path, images), *tables]


def is_drawn_on(plan: ScanPlan) -> bool:
    """Check whether regions are drawn on a scan: on each of a phantom, and on the first of a
    person.

    The first scan is that of the whole design, run 1 at the first site, even if only a part of the
    design is simulated.
    """
    if plan.participant.model == "phantom":
        return True
    first_site = SCANNERS[0].site
    is_first_site = plan.entities.get("session", first_site) == first_site
    return is_first_site and plan.entities.get("run", "1") == "1"


def drawn_path(output_dir: PathLike, plan: ScanPlan, *, extension: str | None = None) -> Path:
    """Return the path of the regions drawn on a scan."""
    root = Path(output_dir) / MANUAL
    return derivative_path(root, plan.entities, suffix="dseg", desc="rois", extension=extension)


def structural_path(output_dir: PathLike, plan: ScanPlan, sequence: Structural) -> Path:
    """Return the path of a structural image of a scan's subject."""
    pattern = load_template("raw")["structural"]
    return Path(output_dir) / build_path({**plan.entities, "suffix": sequence.suffix}, pattern)


def lesions_path(output_dir: PathLike, plan: ScanPlan) -> Path:
    """Return the path of the true mask of a subject's lesions."""
    return derivative_path(Path(output_dir) / TRUTH, plan.entities, suffix="mask", desc="lesions")


def seeds_path(output_dir: PathLike, plan: ScanPlan) -> Path:
    """Return the path of the points with which a rater marked lesions."""
    lesions = derivative_path(Path(output_dir) / MANUAL, plan.entities, suffix="mask", desc="seeds")
    return lesions.with_name(lesions.name.replace("_mask.nii.gz", f"_{LESION_SUFFIX}.tsv"))


def aseg_path(output_dir: PathLike, plan: ScanPlan) -> Path:
    """Return the path of FreeSurfer's labels of a subject."""
    return Path(output_dir) / FREESURFER / f"sub-{plan.entities['subject']}" / ASEG


def raw_paths(output_dir: PathLike, plan: ScanPlan) -> dict[tuple[int, str], Path]:
    """Return the paths of a scan's images by echo (counted from 0) and part."""
    _, parts = ENCODINGS[plan.scanner.vendor]
    pattern = load_template("raw")["megre"]
    paths = {}
    for echo in range(len(plan.protocol.echo_times)):
        for part in parts:
            entities = {**plan.entities, "echo": echo + 1, "part": part}
            paths[echo, part] = Path(output_dir) / build_path(entities, pattern)
    return paths


def true_paths(output_dir: PathLike, plan: ScanPlan) -> dict[str, Path]:
    """Return the paths of the images of a scan's truth by the keys of `TRUE_IMAGES`, and by those
    of `EFFECT_IMAGES` whose effects the scan has.
    """
    root = Path(output_dir) / TRUTH
    paths = {}
    for name, entities in TRUE_IMAGES.items():
        paths[name] = derivative_path(root, plan.entities, **entities)
    model = plan.participant.model
    mapped = set(plan.effects.of(model).switched_on())
    if plan.flow_phase and model == "head":
        mapped.add("flow")
    for name in EFFECT_IMAGES:
        if name in mapped:
            entities = dict(EFFECT_IMAGES[name])
            scan = dict(plan.entities)
            if "part" in entities:
                scan["part"] = entities.pop("part")
            paths[name] = derivative_path(root, scan, **entities)
    return paths


def lookup_path(output_dir: PathLike, plan: ScanPlan) -> Path:
    """Return the path of the table of the names of a scan's true labels."""
    root = Path(output_dir) / TRUTH
    return derivative_path(root, plan.entities, **TRUE_IMAGES["labels"], extension=".tsv")


GENERATOR = "multiqsm-simulate"
