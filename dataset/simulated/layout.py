"""Where a simulated dataset has its files, and which of a scan's are there."""

import re
from pathlib import Path

from bids.layout.writing import build_path

from ...bids_templates import load_template
from ...simulation.encoding import ge_encoding, siemens_encoding
from ...simulation.scanners import SCANNERS
from ..anatomy import ASEG
from ..outputs import derivative_path
from ..sidecars import sidecar_path
from ..sources import FREESURFER

TRUTH = Path("derivatives", "truth")
MANUAL = Path("derivatives", "manual")
ENCODINGS = {"siemens": (siemens_encoding, ("mag", "phase")), "ge": (ge_encoding, ("real", "imag"))}
LESIONS_SEEN_IN, SEGMENTED = "FLAIR", "T1w"
# a file on its way, as it is named until it is whole
PARTIAL = re.compile(r"\.(.+\.)?[0-9a-f]{32}(\..+)?")
TRUE_IMAGES = {
    "chi": {"suffix": "Chimap", "desc": "truth"},
    "labels": {"suffix": "dseg", "desc": "truth"},
    "mask": {"suffix": "mask", "desc": "truth"},
    "total_field": {"suffix": "fieldmap", "desc": "total", "datatype": "fmap"},
    "local_field": {"suffix": "fieldmap", "desc": "local", "datatype": "fmap"},
    # BIDS wants a magnitude image with a field map.
    "magnitude": {"suffix": "magnitude", "datatype": "fmap"},
}


def is_complete(output_dir, plan):
    """Tell whether every file of a scan and of its truth is there, and none empty; each is written
    in one step.
    """
    return all(path.is_file() and path.stat().st_size > 0 for path in _files(output_dir, plan))


def remove_partials(output_dir, plan):
    """Remove what writes that were cut short have left in the folders of a scan, which nothing may
    write to.
    """
    for folder in {path.parent for path in _files(output_dir, plan)}:
        # A file where the folder should be is for the writer of the scan to complain about.
        for path in folder.iterdir() if folder.is_dir() else ():
            if PARTIAL.fullmatch(path.name):
                path.unlink()


def _files(output_dir, plan):
    """Every file of a scan and of its truth."""
    images = [*raw_paths(output_dir, plan).values(), *true_paths(output_dir, plan).values()]
    images += [structural_path(output_dir, plan, sequence) for sequence in plan.structural]
    tables = [lookup_path(output_dir, plan)]
    suffixes = [sequence.suffix for sequence in plan.structural]
    if LESIONS_SEEN_IN in suffixes:
        images.append(lesions_path(output_dir, plan))
        tables.append(seeds_path(output_dir, plan))
    if SEGMENTED in suffixes:
        tables.append(aseg_path(output_dir, plan))
    if is_drawn_on(plan):
        images.append(drawn_path(output_dir, plan))
        tables.append(drawn_path(output_dir, plan, extension=".tsv"))
    return [*images, *(sidecar_path(path) for path in images), *tables]


def is_drawn_on(plan):
    """Tell whether regions are drawn on a scan: on each of a phantom, and on the first of a person.

    The first is that of the whole design, run 1 at the first site: a part of a design has no
    regions of its own.
    """
    entities = plan.entities
    first = (
        entities.get("session", SCANNERS[0].site) == SCANNERS[0].site
        and entities.get("run", "1") == "1"
    )
    return plan.participant.model == "phantom" or first


def drawn_path(output_dir, plan, *, extension=None):
    """Regions drawn on a scan."""
    root = Path(output_dir) / MANUAL
    return derivative_path(root, plan.entities, suffix="dseg", desc="rois", extension=extension)


def structural_path(output_dir, plan, sequence):
    """A structural image of a scan's subject."""
    pattern = load_template("raw")["structural"]
    return Path(output_dir) / build_path({**plan.entities, "suffix": sequence.suffix}, pattern)


def lesions_path(output_dir, plan):
    """The true mask of a subject's lesions."""
    return derivative_path(Path(output_dir) / TRUTH, plan.entities, suffix="mask", desc="lesions")


def seeds_path(output_dir, plan):
    """Points that a rater marked lesions with."""
    lesions = derivative_path(Path(output_dir) / MANUAL, plan.entities, suffix="mask", desc="seeds")
    return lesions.with_name(lesions.name.replace("_mask.nii.gz", f"_{LESIONS_SEEN_IN}.tsv"))


def aseg_path(output_dir, plan):
    """FreeSurfer's labels of a subject."""
    return Path(output_dir) / FREESURFER / f"sub-{plan.entities['subject']}" / ASEG


def raw_paths(output_dir, plan):
    """Images of a scan by echo (counted from 0) and part."""
    _, parts = ENCODINGS[plan.scanner.vendor]
    pattern = load_template("raw")["megre"]
    return {
        (echo, part): Path(output_dir)
        / build_path({**plan.entities, "echo": echo + 1, "part": part}, pattern)
        for echo in range(len(plan.protocol.echo_times))
        for part in parts
    }


def true_paths(output_dir, plan):
    """Images of a scan's truth by what they show."""
    root = Path(output_dir) / TRUTH
    return {
        what: derivative_path(root, plan.entities, **named) for what, named in TRUE_IMAGES.items()
    }


def lookup_path(output_dir, plan):
    """Table of the names of a scan's true labels."""
    named = TRUE_IMAGES["labels"]
    return derivative_path(Path(output_dir) / TRUTH, plan.entities, **named, extension=".tsv")


GENERATOR = "multiqsm-simulate"
