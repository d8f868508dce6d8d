"""Write a simulated cohort of patients as tables: clinical data in BIDS, FreeSurfer's statistics,
and the truth.
"""

from collections.abc import Sequence
from pathlib import Path

from ...bids_templates import load_template
from ...simulation.cohort import Patient, population
from ...simulation.plan import Design
from ..files import PathLike, write_json, write_text
from ..sources import FREESURFER
from .description import extend_table, write_descriptions
from .layout import TRUTH

# FreeSurfer's measures of the two hemispheres, which the design leaves open. They differ, so that a
# mean over both sides is right only if it is weighted.
LEFT_FRACTION_OF_THALAMUS = 0.51
SURFACE_AREA = {"lh": 84_000.0, "rh": 86_000.0}  # mm²
THINNER_RIGHT = 0.02  # mm
ASEG = """\
# Title Segmentation Statistics
# generating_program multiqsm-simulate
# subjectname sub-{label}
# Measure TotalGray, TotalGrayVol, Total gray matter volume, {grey_matter:.6f}, mm^3
# NRows 2
# NTableCols 5
# ColHeaders  Index SegId NVoxels Volume_mm3 StructName
  1  10  {left:8.0f}  {left:10.1f}  Left-Thalamus
  2  49  {right:8.0f}  {right:10.1f}  Right-Thalamus
"""
APARC = """\
# Table of FreeSurfer cortical parcellation anatomical statistics
# generating_program multiqsm-simulate
# subjectname sub-{label}
# hemi {hemisphere}
# Measure Cortex, WhiteSurfArea, White Surface Total Area, {area:.1f}, mm^2
# Measure Cortex, MeanThickness, Mean Thickness, {thickness:.5f}, mm
"""


def write_cohort(output_dir: PathLike, patients: Sequence[Patient], design: Design) -> None:
    """Write the tables of a cohort.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset, made if missing.
    patients : sequence of multiqsm.simulation.cohort.Patient
        The cohort.
    design : multiqsm.simulation.plan.Design
        The scans of the cohort, whether they are simulated or not.

    Raises
    ------
    ValueError
        If the folder holds another dataset or anything else.
    """
    output_dir = Path(output_dir)
    write_descriptions(output_dir, design, "tables")
    extend_table(output_dir / "participants.tsv", list(map(_clinical_row, patients)))
    truth = output_dir / TRUTH
    columns = load_template("simulated")["tables"]["phenotype"]
    extend_table(truth / "phenotype" / "thalamus.tsv", list(map(_true_row, patients)))
    write_json(truth / "phenotype" / "thalamus.json", columns)
    write_json(truth / "coefficients.json", population())
    for patient in patients:
        # BIDS requires a folder for every participant, even without images.
        (output_dir / f"sub-{patient.label}").mkdir(exist_ok=True)
        _write_statistics(output_dir / FREESURFER / f"sub-{patient.label}" / "stats", patient)


def _clinical_row(patient):
    return {
        "participant_id": f"sub-{patient.label}",
        "species": "homo sapiens",
        "age": patient.age,
        "sex": patient.sex,
        "disease_duration": patient.disease_duration,
        "therapy": patient.therapy,
        "enhancing_lesions": patient.enhancing_lesions,
        "edss": patient.edss,
        "image_quality": patient.image_quality,
        "t2_lesion_volume": f"{patient.measures['t2_lesion_volume']:.3f}",
    }


def _true_row(patient):
    susceptibility = f"{patient.measures['relative_susceptibility']:.3f}"
    return {"participant_id": f"sub-{patient.label}", "relative_susceptibility": susceptibility}


def _write_statistics(folder, patient):
    """Write FreeSurfer's tables of a patient; volumes in mm³."""
    thalamus = 1000 * patient.measures["thalamic_volume"]
    grey_matter = 1000 * patient.measures["grey_matter_volume"]
    left_thalamus = LEFT_FRACTION_OF_THALAMUS * thalamus
    aseg = ASEG.format(
        label=patient.label,
        grey_matter=grey_matter,
        left=left_thalamus,
        right=thalamus - left_thalamus,
    )
    write_text(folder / "aseg.stats", aseg)
    # The mean over both sides, weighted by their areas, is the patient's.
    total = sum(SURFACE_AREA.values())
    for side, opposite, sign in (("lh", "rh", 1), ("rh", "lh", -1)):
        thickness = (
            patient.measures["cortical_thickness"]
            + sign * THINNER_RIGHT * SURFACE_AREA[opposite] / total
        )
        aparc = APARC.format(
            label=patient.label, hemisphere=side, area=SURFACE_AREA[side], thickness=thickness
        )
        write_text(folder / f"{side}.aparc.stats", aparc)
