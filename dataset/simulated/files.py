"""Images and tables of a simulated dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from ...simulation import head, phantom
from ...simulation.effects import pathology
from ...simulation.plan import ScanPlan
from ..files import atomic_write
from ..tables import write_tsv


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a TSV table atomically.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : list of dict
        Rows, all with the same columns; None becomes ``n/a``.
    """
    texts = [
        {name: "n/a" if value is None else str(value) for name, value in row.items()}
        for row in rows
    ]
    write_tsv(path, pd.DataFrame(texts))


def write_image(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write an image in scanner coordinates atomically; the same voxels give the same bytes."""
    image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    with atomic_write(path) as partial:
        nib.save(image, partial)


def lookup_table(plan: ScanPlan) -> list[dict[str, object]]:
    """Return the rows of the table of labels, with the true susceptibility of each label of a head,
    and of each tube of a phantom.
    """
    rows: list[dict[str, object]] = []
    if plan.participant.model == "head":
        for index, name in head.label_names().items():
            chi = _head_susceptibility(name, plan.subject)
            rows.append({"index": index, "name": name, "susceptibility_ppm": chi})
        if plan.effects.pathology is not None:
            rows += _findings(plan.subject)
        return rows
    chi_of_tube = dict(enumerate(phantom.TUBE_SUSCEPTIBILITY, start=1))
    for index, name in phantom.label_names(plan.build).items():
        rows.append({"index": index, "name": name, "susceptibility_ppm": chi_of_tube.get(index)})
    return rows


def _findings(subject):
    """Return the rows of findings; the susceptibility is the mean over those with the label."""
    rows = []
    for index, name in pathology.label_names().items():
        chi = []
        for finding in (*subject.rims, *subject.features):
            if finding.label == index:
                chi.append(finding.tissue["chi"])
        mean = float(np.mean(chi)) if chi else None
        rows.append({"index": index, "name": name, "susceptibility_ppm": mean})
    return rows


def _head_susceptibility(name, subject):
    """Return the susceptibility (ppm relative to water) of a label of a person's head."""
    nucleus = name.removeprefix("left_").removeprefix("right_")
    if nucleus in subject.chi:
        return subject.chi[nucleus]
    parts = head.anatomy()["parts"]
    tissue = parts[name]["whole"] if name in parts else name
    tissue = "csf" if tissue == "lateral_ventricle" else tissue
    return head.anatomy()["tissues"][tissue]["chi"]
