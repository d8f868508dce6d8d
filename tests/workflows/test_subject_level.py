"""The subject level from a person's derivatives: one space, one reference, the regions of one scan
on all of them.
"""

import base64
import json
import re
import shutil
from collections import namedtuple
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic_head import points_of
from helpers.analytic_head import scan as head_scan
from helpers.datasets import validator_errors
from helpers.travelling import (
    CSF_CHI,
    DRAWN_RADIUS,
    NUCLEI,
    POSES,
    SHAPE,
    TUBES,
    VENTRICLES,
    affine_of,
    csf_share,
    draw_regions,
    head_points,
    magnitude_of,
    susceptibility,
    voxel_means,
    write_phantom,
    write_processed,
    write_raw,
)
from PIL import Image

from multiqsm.cli.app import main
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.core.registration.transforms import displacement, read_itk_text
from multiqsm.dataset.labels import read_lookup
from multiqsm.dataset.names import (
    MAGNITUDE,
    MAPS,
    REFERENCE,
    REGIONS,
    REGISTRATION,
    ROIS,
    picture_path,
    variability_map,
)
from multiqsm.dataset.subjects import collect_subjects
from multiqsm.dataset.tables import read_tsv
from multiqsm.execution.plugins import Runner
from multiqsm.execution.progress import Progress
from multiqsm.execution.run import configure_nipype, run_workflow
from multiqsm.interfaces.reports import SubjectReport
from multiqsm.workflows.settings import Settings
from multiqsm.workflows.subjects import init_subjects_wf

pytestmark = pytest.mark.slow

METHODS = ("deterministic",)
PLACES = {"ses-A_run-1": 0, "ses-A_run-2": 1, "ses-B_run-1": 2}  # and B's second scan is noise
EXPECTED = {name: value - CSF_CHI for name, (_, value) in NUCLEI.items()}  # ppm, relative to CSF
SPACE = "bids::sub-01/anat/sub-01_space-subject_desc-average_T2starw.nii.gz"
# The balls that are measured lie inside balls of constant susceptibility; at the sharp edges of
# these a cubic spline rings by some 2 %.
RINGING = 0.003  # ppm
Study = namedtuple("Study", "out rater work scans")
Run = namedtuple("Run", "out codes told errors")


def run_level(study, excluded_scans=(), **choices):
    """Run the subject level; return what failed."""
    configure_nipype(study.work)
    subjects, left_out = collect_subjects(
        study.scans,
        study.out,
        methods=METHODS,
        datasets=[study.rater],
        excluded_scans=excluded_scans,
        needs_atria=True,
    )
    assert left_out == []
    settings = Settings(inversions=METHODS, **choices)
    workflow = init_subjects_wf(
        subjects, output_dir=study.out, work_dir=study.work, settings=settings
    )
    return run_workflow(workflow, Runner("Linear", {}), callback=Progress.of(workflow, "subjects"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three scans at two sites in four poses, regions drawn on the first of them, and one that is
    noise.
    """
    root = tmp_path_factory.mktemp("subject")
    out, rater = root / "out", root / "rater"
    scans = [
        write_processed(out, *name.replace("ses-", "").split("_run-"), place)
        for name, place in PLACES.items()
    ]
    noise = np.random.default_rng(0).uniform(50, 100, SHAPE)
    scans.append(write_processed(out, "B", "2", 3, magnitude=noise))
    draw_regions(rater, "A", "1", 0)
    made = Study(out, rater, root / "work", scans)
    assert run_level(made) == []
    return made


@pytest.fixture
def copied(study, tmp_path):
    """The same once more, with the intermediate files of the first run: what did not change is not
    done again.
    """
    for folder in ("out", "rater"):
        shutil.copytree(getattr(study, folder), tmp_path / folder)
    return study._replace(out=tmp_path / "out", rater=tmp_path / "rater")


def anat(study, name, ending):
    return study.out / "sub-01" / name.split("_")[0] / "anat" / f"sub-01_{name}_{ending}"


def sidecar(path):
    return json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text())


def means(study, name):
    return read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")["mean"]


def test_regions_of_the_first_scan_are_measured_on_all(study):
    for name in PLACES:
        table = read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")
        for roi, expected in EXPECTED.items():
            assert table.loc[roi, "mean"] == pytest.approx(expected, abs=RINGING), name
        assert (table["reference"] == "csf").all()
        assert (table["unit"] == "ppm").all()
        session, run = (part.split("-")[1] for part in name.split("_"))
        assert set(
            zip(table["session"], table["site"], table["run"], table["scan"], strict=True)
        ) == {(session, session, run, int(run))}
        assert (table["n_voxels"] > 10).all()
        assert table["se"].isna().all()  # these maps tell nothing of noise
    told = sidecar(anat(study, "ses-A_run-1", "desc-rois_chi.tsv"))
    assert told["mean"]["Units"] == "ppm"
    assert told["ReferenceSource"] == "found by R2* and position"
    assert "expected" not in told


def test_map_in_the_subject_space_says_what_zero_is(study):
    for name, place in PLACES.items():
        path = anat(study, name, "space-subject_desc-deterministic_Chimap.nii.gz")
        told, mask = sidecar(path), magnitude_of(place)[1]
        assert told["ReferenceRegion"] == "csf"
        assert told["ReferenceOffsetOver"] == "mean of the whole mask"
        # The native map is relative to its mask's mean, so the offset is CSF's susceptibility less
        # that of the mask.
        of_mask = voxel_means(susceptibility, place)[mask].mean()
        assert told["ReferenceOffset"] == pytest.approx(CSF_CHI - of_mask, abs=0.001)
        assert told["ReferenceStandardDeviation"] < 0.003
        assert told["ReferenceVoxels"] > 20
        assert told["SpatialReference"] == SPACE
        assert (
            f"bids::{path.relative_to(study.out).parent}/sub-01_{name}_desc-deterministic_Chimap.nii.gz"
            in (told["Sources"])
        )
    average = study.out / "sub-01" / "anat" / "sub-01_space-subject_desc-average_T2starw.nii.gz"
    assert nib.load(average).shape == nib.load(path).shape


def test_native_maps_stay_relative_to_the_whole_mask(study):
    for name, place in PLACES.items():
        path, mask = anat(study, name, "desc-deterministic_Chimap.nii.gz"), magnitude_of(place)[1]
        assert nib.load(path).get_fdata()[mask].mean() == pytest.approx(0, abs=1e-6)
        assert sidecar(path)["ReferenceRegion"] == "mean of the whole mask"


def test_transforms_are_itk_text_and_those_put_in(study):
    matrices = {}
    for name, place in PLACES.items():
        path = anat(study, name, "from-scan_to-subject_mode-image_xfm.txt")
        text = path.read_text()
        assert text.startswith("#Insight Transform File")
        matrices[place] = read_itk_text(text)
    brain = points_of(affine_of(0), magnitude_of(0)[1])
    for place in (1, 2):
        between = matrices[place] @ np.linalg.inv(matrices[0])
        assert displacement(between, POSES[place], brain) < 0.2


def test_scan_that_cannot_be_registered_leaves_the_others(study):
    table = read_tsv(study.out / "sub-01" / "anat" / "sub-01_desc-registration_xfm.tsv")
    assert list(zip(table["session"], table["run"], strict=True)) == [
        ("A", "1"),
        ("A", "2"),
        ("B", "1"),
        ("B", "2"),
    ]
    assert table["cause"].notna().tolist() == [False, False, False, True]
    assert table["translation"].notna().tolist() == [True, True, True, False]
    assert (table["displacement"][:3] < 0.2).all()
    assert set(
        json.loads((study.out / "sub-01/anat/sub-01_desc-registration_xfm.json").read_text())
    ) == set(table)
    for ending in ("desc-rois_chi.tsv", "space-subject_desc-deterministic_Chimap.nii.gz"):
        assert not anat(study, "ses-B_run-2", ending).exists()


def test_variability_maps(study):
    folder = study.out / "sub-01"
    mask = nib.load(folder / "anat" / "sub-01_space-subject_desc-brain_mask.nii.gz").get_fdata() > 0
    regions = nib.load(folder / "anat" / "sub-01_space-subject_desc-rois_dseg.nii.gz")
    for kind in ("within", "across"):
        name = f"sub-01_space-subject_desc-deterministic{kind}sd_Chimap"
        deviation = nib.load(folder / "anat" / f"{name}.nii.gz").get_fdata()
        # The scans are the same head without noise; at the nuclei's surface they differ by
        # interpolation.
        assert np.nanmedian(deviation[mask]) < 0.001
        assert np.nanmax(deviation[regions.get_fdata() > 0]) < 0.01
        told = sidecar(folder / "anat" / name)
        assert told["Units"] == "ppm"
        assert told["SpatialReference"] == SPACE
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000


def test_subject_space_is_kept_with_its_regions(study):
    folder = study.out / "sub-01" / "anat"
    stem = "sub-01_space-subject_desc"
    dseg = nib.load(folder / f"{stem}-rois_dseg.nii.gz")
    assert dseg.get_data_dtype().kind == "i"
    assert read_lookup(folder / f"{stem}-rois_dseg.tsv")[0] == dict(enumerate(NUCLEI, start=1))
    for name in ("average_T2starw", "brain_mask", "rois_dseg"):
        told = sidecar(folder / f"{stem}-{name}.nii.gz")
        assert told["SpatialReference"] == SPACE
        np.testing.assert_array_equal(
            nib.load(folder / f"{stem}-{name}.nii.gz").affine, dseg.affine
        )


def test_regions_measured_on_the_scans_agree(copied, study):
    assert run_level(copied, roi_space="scan") == []
    for name in PLACES:
        np.testing.assert_allclose(means(copied, name), means(study, name), atol=RINGING)
    assert not anat(copied, "ses-B_run-2", "desc-rois_chi.tsv").exists()


def test_label_as_reference(copied):
    assert run_level(copied, reference="right nucleus") == []
    for name in PLACES:
        table = read_roi_table(anat(copied, name, "desc-rois_chi.tsv")).set_index("roi")
        assert table.loc["right nucleus", "mean"] == pytest.approx(0, abs=1e-6)
        assert table.loc["left nucleus", "mean"] == pytest.approx(0.05, abs=RINGING)
        assert (table["reference"] == "right nucleus").all()
        told = sidecar(anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz"))
        assert (told["ReferenceRegion"], told["ReferenceSource"]) == ("right nucleus", "label")


def check_means(study, names, reference):
    """The nuclei have their susceptibility relative to CSF in every scan; both ring."""
    for name in PLACES:
        table = read_roi_table(anat(study, name, "desc-rois_chi.tsv")).set_index("roi")
        for roi, nucleus in names.items():
            assert table.loc[roi, "mean"] == pytest.approx(EXPECTED[nucleus], abs=2 * RINGING), (
                name,
                roi,
            )
        assert (table["reference"] == reference).all()
    return sidecar(anat(study, "ses-A_run-1", "desc-rois_chi.tsv"))


def test_spheres_in_ventricles_found_by_themselves_as_reference(copied):
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    told = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert (
        told["ReferenceSource"]
        == "spheres in the atrium of each lateral ventricle, found by R2* and position"
    )
    left, right = told["ReferenceCentres"]
    assert left[0] < -5
    assert right[0] > 5
    assert max(left[1], right[1]) < VENTRICLES[0][0][1]  # in the back
    folder = copied.out / "sub-01" / "figures"
    assert (folder / "sub-01_space-subject_desc-regions_Chimap.png").stat().st_size > 10_000


@pytest.mark.parametrize("space", ["subject", "scan"])
def test_spheres_at_given_points_as_reference(copied, space):
    """They are given in a scan that is not the first, in its own coordinates."""
    points = np.column_stack([VENTRICLES[0], [1, 1]]) @ POSES[2].T
    rows = "".join("\t".join(f"{value:.3f}" for value in point[:3]) + "\n" for point in points)
    path = copied.rater / "sub-01" / "ses-B" / "anat" / "sub-01_ses-B_run-1_desc-atrium_points.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("x\ty\tz\n" + rows)
    assert run_level(copied, reference="atrium", atrium_radius=5.0, roi_space=space) == []
    told = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert told["ReferenceSource"] == "spheres at given points"
    between = read_itk_text(
        anat(copied, "ses-B_run-1", "from-scan_to-subject_mode-image_xfm.txt").read_text()
    )
    expected = points @ np.linalg.inv(between).T
    np.testing.assert_allclose(told["ReferenceCentres"], expected[:, :3], atol=0.1)


def write_freesurfer(folder, place):
    """FreeSurfer's labels of the head as it lies at a place, the nuclei as thalami, and its
    T1-weighted image.
    """
    points, labels = head_points(place), np.zeros(np.prod(SHAPE), np.int32)
    labels[csf_share(points) > 0] = 4
    labels[(csf_share(points) > 0) & (points[0] > 0)] = 43
    for value, (centre, _) in zip((10, 49), NUCLEI.values(), strict=True):
        labels[np.linalg.norm(points.T - centre, axis=1) < DRAWN_RADIUS] = value
    labels[np.linalg.norm(points.T - (0, 40, 0), axis=1) < 8] = (
        2  # white matter, which is not measured
    )
    image, _, _ = head_scan(POSES[place], affine_of(place), contrast="t1w", noise=0.01, shape=SHAPE)
    folder.mkdir(parents=True)
    for name, data in (("aseg", labels.reshape(SHAPE)), ("orig", (200 * image).astype(np.float32))):
        nib.save(nib.MGHImage(data, affine_of(place)), folder / f"{name}.mgz")


def test_labels_of_freesurfer_for_want_of_drawn_ones(copied):
    shutil.rmtree(copied.rater)
    write_freesurfer(copied.rater / "sub-01" / "mri", 3)
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    sides = {"left_thalamus": "left nucleus", "right_thalamus": "right nucleus"}
    told = check_means(copied, sides, "atrium")
    assert (
        told["ReferenceSource"] == "spheres in the atrium of each lateral ventricle, by their label"
    )
    assert (told["RegionsFrom"], told["FreeSurferLabelsRegisteredBy"]) == ("FreeSurfer", "orig.mgz")
    table = read_roi_table(anat(copied, "ses-A_run-1", "desc-rois_chi.tsv")).set_index("roi")
    assert table.index.tolist() == [
        *("left_lateral_ventricle", "right_lateral_ventricle", *sides),
        *("lateral_ventricle", "thalamus"),
    ]
    both, one, other = (table.loc[name] for name in ("thalamus", *sides))
    assert both["n_voxels"] == one["n_voxels"] + other["n_voxels"]
    assert both["mean"] == pytest.approx(
        np.average([one["mean"], other["mean"]], weights=[one["n_voxels"], other["n_voxels"]])
    )
    names, _ = read_lookup(
        copied.out / "sub-01" / "anat" / "sub-01_space-subject_desc-rois_dseg.tsv"
    )
    assert names == {
        4: "left_lateral_ventricle",
        43: "right_lateral_ventricle",
        10: "left_thalamus",
        49: "right_thalamus",
    }


def test_drawn_regions_come_before_freesurfers_but_their_ventricles_serve(copied):
    write_freesurfer(copied.rater / "sub-01" / "mri", 0)
    assert run_level(copied, reference="atrium", atrium_radius=5.0) == []
    told = check_means(copied, {name: name for name in NUCLEI}, "atrium")
    assert (
        told["ReferenceSource"]
        == "spheres in the atrium of each lateral ventricle, by FreeSurfer's labels"
    )
    assert told["RegionsFrom"] == "sub-01_ses-A_run-1_desc-rois_dseg.nii.gz"
    assert "FreeSurferLabels" not in told


def test_quality_of_every_scan(study):
    table = read_tsv(study.out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert list(zip(table["session"], table["run"], strict=True)) == [
        ("A", "1"),
        ("A", "2"),
        ("B", "1"),
        ("B", "2"),
    ]
    assert (table["mask_volume"] > 100).all()
    assert table["cause"].notna().tolist() == [False, False, False, True]


def test_unknown_label_as_reference_is_a_failure_with_its_cause(copied):
    (failure,) = run_level(copied, reference="putamen")
    assert failure.scan == "sub_01"
    assert failure.step == "reference"
    assert (
        "no label 'putamen' for the reference; the labels are: left nucleus, right nucleus"
        in failure.cause
    )


@pytest.mark.parametrize("space", ["subject", "scan"])
def test_without_csf_the_brain_is_zero_and_the_table_says_so(copied, space):
    for path in copied.out.rglob("*R2starmap*"):
        path.unlink()
    assert run_level(copied, roi_space=space) == []
    for name, place in PLACES.items():
        table = read_roi_table(anat(copied, name, "desc-rois_chi.tsv")).set_index("roi")
        assert (table["reference"] == "brain").all()
        of_mask = voxel_means(susceptibility, place)[magnitude_of(place)[1]].mean()
        for roi, (_, value) in NUCLEI.items():
            assert table.loc[roi, "mean"] == pytest.approx(value - of_mask, abs=RINGING)
        assert table["reference_offset"].iloc[0] == pytest.approx(0, abs=1e-4)
        told = sidecar(anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz"))
        assert told["ReferenceRegion"] == "brain"
        assert told["ReferenceSource"].startswith(
            "brain mask, since no CSF was found: no scan has an R2* map"
        )


def test_report_shows_the_files_of_the_pictures(copied):
    """Each is in the page as it lies there; without the files there are none."""
    entities = [scan.entities for scan in copied.scans[:3]]
    known = {"methods": list(METHODS), "subject": "01", "failures": []}
    named = [REGISTRATION, REGIONS, ROIS, REFERENCE]
    named += [variability_map("deterministic", kind) for kind in ("within", "across")]
    paths = [picture_path(copied.out, {"subject": "01"}, **names) for names in named]
    assert all(path.stat().st_size > 1000 for path in paths)
    paths += [
        picture_path(copied.out, scan, **names) for scan in entities for names in (MAGNITUDE, MAPS)
    ]
    contents = []
    for place, path in enumerate(paths):  # so small that they are taken as they are
        stream = BytesIO()
        Image.new("RGB", (8, 8), (place, 0, 0)).save(stream, format="png")
        path.write_bytes(stream.getvalue())
        contents.append(base64.b64encode(stream.getvalue()).decode())
    page = Path(
        SubjectReport(**known, entities=entities, output_dir=str(copied.out)).run().outputs.out_file
    )
    text = page.read_text()
    assert all(text.count(content) == 1 for content in contents)
    assert "Edges should be continuous" in text
    assert text.count("Magnitude and brain mask") == text.count("susceptibility maps of ses-") == 3
    for path in paths:
        path.unlink()
    SubjectReport(**known, entities=entities, output_dir=str(copied.out)).run()
    assert "data:image/png" not in page.read_text()
    assert "Edges should be continuous" not in page.read_text()


def test_regions_drawn_anew_are_measured_anew(copied):
    """The names and places of all files are as before: only what the label image holds has
    changed.
    """
    draw_regions(copied.rater, "A", "1", 0, values=(2, 1))
    assert run_level(copied) == []
    for name in PLACES:
        assert means(copied, name)["right nucleus"] == pytest.approx(
            EXPECTED["left nucleus"], abs=RINGING
        )


def test_files_of_an_earlier_run_do_not_stay(copied):
    """What another run knew of a scan that cannot be registered any more is gone; and the brain may
    be asked for.
    """
    kinds = (
        "space-subject_desc-deterministic_Chimap.nii.gz",
        "from-scan_to-subject_mode-image_xfm.txt",
    )
    for ending in (
        *kinds,
        "space-subject_desc-deterministic_Chimap.json",
        "desc-rois_chi.tsv",
        "desc-rois_chi.json",
    ):
        anat(copied, "ses-B_run-2", ending).touch()
    assert run_level(copied, reference="brain") == []
    left = {path.name for path in anat(copied, "ses-B_run-2", "x").parent.glob("*run-2*")}
    assert not any("subject" in name or "_chi." in name for name in left)
    for name in PLACES:
        assert all(anat(copied, name, ending).exists() for ending in kinds)
        assert (
            read_roi_table(anat(copied, name, "desc-rois_chi.tsv"))["reference"] == "brain"
        ).all()


def test_regions_drawn_in_the_subject_space(copied, study):
    shutil.rmtree(copied.rater)
    drawn = copied.rater / "sub-01" / "anat"
    drawn.mkdir(parents=True)
    for path in (study.out / "sub-01" / "anat").glob("*desc-rois_dseg*"):
        shutil.copy(path, drawn)
    assert run_level(copied) == []
    for name in PLACES:
        np.testing.assert_allclose(means(copied, name), means(study, name), atol=1e-6)


def test_regions_of_a_scan_that_cannot_be_registered(copied):
    """They cannot be carried: the scans have no tables, an earlier run's are gone, and all else is
    there.
    """
    shutil.rmtree(copied.rater)
    draw_regions(copied.rater, "B", "2", 3)
    assert run_level(copied) == []
    for name in PLACES:
        assert not list(anat(copied, name, "x").parent.glob("*_chi.*"))
        assert anat(copied, name, "space-subject_desc-deterministic_Chimap.nii.gz").exists()
    regions = nib.load(
        copied.out / "sub-01" / "anat" / "sub-01_space-subject_desc-rois_dseg.nii.gz"
    )
    assert not np.any(regions.get_fdata())


def registration(study):
    return read_tsv(study.out / "sub-01" / "anat" / "sub-01_desc-registration_xfm.tsv")


MOTION = ["translation", "rotation", "displacement"]


def test_regions_of_a_scan_that_is_not_among_these(copied):
    """One scan alone, the regions drawn on another one: they follow, and the scan that they came
    from is left alone.
    """
    alone, before = (
        copied._replace(scans=copied.scans[2:3]),
        anat(copied, "ses-A_run-1", "desc-rois_chi.tsv").read_bytes(),
    )
    assert run_level(alone, excluded_scans=[scan.entities for scan in copied.scans[:2]]) == []
    found = means(copied, "ses-B_run-1")
    for roi, expected in EXPECTED.items():
        assert found[roi] == pytest.approx(expected, abs=RINGING)
    told = sidecar(anat(copied, "ses-B_run-1", "desc-rois_chi.tsv"))
    assert told["RegionsFrom"] == "sub-01_ses-A_run-1_desc-rois_dseg.nii.gz"
    assert (told["NumberOfRegions"], told["MethodSteps"]) == (2, ["csf_found", "regions_drawn"])
    assert anat(copied, "ses-A_run-1", "desc-rois_chi.tsv").read_bytes() == before
    found = registration(copied)
    assert list(zip(found["session"], found["run"], strict=True)) == [("B", "1"), ("A", "1")]
    assert found.loc[0, MOTION].isna().all()  # a single scan, which is registered to nothing
    assert found.loc[1, "translation"] > 5
    quality = read_tsv(copied.out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert quality["session"].tolist() == ["B"]
    assert quality[MOTION].isna().all(axis=None)
    told = sidecar(anat(copied, "ses-B_run-1", "space-subject_desc-deterministic_Chimap.nii.gz"))
    assert told["MethodSteps"] == ["single_scan", "csf_found"]
    # Maps of how scans vary, of which there is one, do not stay; nor does the picture of what was
    # registered.
    assert not list(copied.out.glob("sub-01/*/sub-01_*sd_Chimap*"))
    assert not picture_path(copied.out, {"subject": "01"}, **REGISTRATION).exists()


def test_points_of_a_scan_that_is_not_among_these(copied):
    points = np.column_stack([VENTRICLES[0], [1, 1]]) @ POSES[0].T
    rows = "".join("\t".join(f"{value:.3f}" for value in point[:3]) + "\n" for point in points)
    path = copied.rater / "sub-01" / "ses-A" / "anat" / "sub-01_ses-A_run-1_desc-atrium_points.tsv"
    path.write_text("x\ty\tz\n" + rows)
    alone = copied._replace(scans=copied.scans[2:3])
    assert (
        run_level(
            alone, excluded_scans=[copied.scans[0].entities], reference="atrium", atrium_radius=5.0
        )
        == []
    )
    told = sidecar(anat(copied, "ses-B_run-1", "desc-rois_chi.tsv"))
    assert told["ReferenceSource"] == "spheres at given points"
    expected = np.column_stack([VENTRICLES[0], [1, 1]]) @ POSES[2].T  # its own space is this scan's
    np.testing.assert_allclose(told["ReferenceCentres"], expected[:, :3], atol=0.3)


def test_regions_of_a_scan_elsewhere_that_does_not_fit(copied):
    """It is noise: the scans go on without regions, and the table has the cause."""
    shutil.rmtree(copied.rater)
    draw_regions(copied.rater, "B", "2", 3)
    some = copied._replace(scans=copied.scans[:3])
    assert run_level(some, excluded_scans=[copied.scans[3].entities]) == []
    assert not list(copied.out.rglob("*_chi.tsv"))
    found = registration(copied)
    assert found["cause"].notna().tolist() == [False, False, False, True]
    assert found.loc[3, "cause"].startswith("not registered to the average of the scans")


def test_scans_of_two_protocols_do_not_vary_together(copied):
    """Both scans of site A are of one acquisition each: there is nothing within a site, and one
    scan of each across.
    """
    echoes = {"1": (0.006, 0.014), "2": (0.006, 0.030)}
    scans = [replace(scan, echo_times=echoes[scan.entities["run"]]) for scan in copied.scans[:3]]
    assert run_level(copied._replace(scans=scans)) == []
    maps = {
        kind: anat_of_subject(copied, f"space-subject_desc-deterministic{kind}sd_Chimap")
        for kind in ("within", "across")
    }
    assert not maps["within"].with_suffix(".json").exists()
    sources = json.loads(maps["across"].with_suffix(".json").read_text())["Sources"]
    assert [source.split("/")[-1].split("_desc")[0] for source in sources] == [
        "sub-01_ses-A_run-1",
        "sub-01_ses-B_run-1",
    ]
    table = read_roi_table(anat(copied, "ses-A_run-2", "desc-rois_chi.tsv"))
    assert set(zip(table["echo_times"], table["voxel_size"], table["scan"], strict=True)) == {
        ("6, 30", "3.5, 3.5, 4", 1)
    }


def anat_of_subject(study, name):
    return study.out / "sub-01" / "anat" / f"sub-01_{name}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A person's two good scans, one without a brain, one that fits no other; and a phantom: by the
    command.
    """
    root = tmp_path_factory.mktemp("whole")
    raw, out = root / "raw", root / "out"
    write_raw(raw, "A", "1", 0)
    write_raw(raw, "A", "2", 3, magnitude_is_noise=True)
    write_raw(raw, "B", "1", 1)
    write_raw(raw, "B", "2", 2, phase_is_noise=True, masked=False)
    write_phantom(raw, "A", "1")
    draw_regions(raw / "derivatives" / "manual", "A", "1", 0)
    (raw / "participants.tsv").write_text(
        "participant_id\tspecies\tage\tsex\nsub-01\thomo "
        "sapiens\t30\tF\nsub-ph\tphantom\tn/a\tn/a\n"
    )
    common = [str(raw), str(out)]
    options = ["-w", str(root / "work"), "--plugin", "Linear"]
    with redirect_stdout(StringIO()) as told, redirect_stderr(StringIO()) as errors:
        codes = [
            main([*common, "participant", "--inversion", "deterministic", *options]),
            main([*common, "group", *options]),
        ]
    return Run(out, codes, told.getvalue(), errors.getvalue())


def test_faults_are_named_and_leave_the_rest(whole):
    assert whole.codes == [1, 0]
    assert "4 scans processed, 1 failed, 0 left out" in whole.told
    assert "1 faults after the maps were made" in whole.told
    # Site A has but one scan left to speak of the variation within a site: the map is there, and
    # knows nothing.
    within = (
        whole.out
        / "sub-01"
        / "anat"
        / "sub-01_space-subject_desc-deterministicwithinsd_Chimap.nii.gz"
    )
    assert np.isnan(nib.load(within).get_fdata()).all()
    assert (
        "failed: sub-01_ses-B_run-2 (sub-01_ses-B_run-2_echo-1_part-mag_MEGRE.nii.gz"
        in whole.errors
    )
    assert (
        "failed: sub-01_ses-A_run-2: not registered to the subject's other scans: " in whole.errors
    )
    for name in ("ses-A_run-1", "ses-B_run-1"):
        table = read_roi_table(anat(whole, name, "desc-rois_chi.tsv"))
        assert list(table["roi"]) == list(NUCLEI)
        assert (table["scan"] == 1).all()
        assert (table["reference"] == "csf").all()
    assert not anat(whole, "ses-A_run-2", "desc-rois_chi.tsv").exists()
    assert anat(whole, "ses-A_run-2", "desc-deterministic_Chimap.nii.gz").exists()


def test_both_scans_agree(whole):
    first, second = (means(whole, name) for name in ("ses-A_run-1", "ses-B_run-1"))
    # Noise, another pose and another grid cost 1 ppb; λ and voxels of 3.5 mm a third of the nuclei,
    # in both alike.
    np.testing.assert_allclose(first, second, atol=0.004)
    assert 0.06 < first["left nucleus"] < 0.11
    assert 0.03 < first["right nucleus"] < 0.055


def test_every_mean_has_its_standard_error(whole):
    for name in ("ses-A_run-1", "ses-B_run-1"):
        table = read_roi_table(anat(whole, name, "desc-rois_chi.tsv"))
        # As many voxels as a nucleus has, each with noise, and some of it common: far less than
        # one, not nothing.
        error = nib.load(anat(whole, name, "desc-deterministicse_Chimap.nii.gz")).get_fdata()
        usual = np.median(error[error > 0])
        assert (table["se"] < usual).all()
        assert (table["se"] > usual / np.sqrt(table["n_voxels"]) / 2).all()
        told = sidecar(anat(whole, name, "desc-deterministicse_Chimap.nii.gz"))
        assert (told["Units"], told["StandardErrorFrom"]) == ("ppm", "closed form")
        assert "se" in sidecar(anat(whole, name, "desc-rois_chi.tsv"))


def test_phantom_is_measured_as_it_was_scanned(whole):
    folder = whole.out / "sub-ph" / "ses-A" / "anat"
    table = read_roi_table(folder / "sub-ph_ses-A_run-1_desc-rois_chi.tsv")
    assert dict(zip(table["roi"], table["expected"], strict=True)) == {
        name: chi for name, (_, chi) in TUBES.items()
    }
    assert (table["reference"] == "phantom").all()
    slope, _ = np.polyfit(table["expected"], table["mean"], 1)
    assert 0.6 < slope < 1.05
    assert table["se"].between(1e-5, 0.01).all()
    assert "expected" in sidecar(folder / "sub-ph_ses-A_run-1_desc-rois_chi.tsv")
    assert not list(whole.out.glob("sub-ph/**/*subject*"))


def test_subject_reports(whole):
    person, phantom = ((whole.out / f"sub-{subject}.html").read_text() for subject in ("01", "ph"))
    for page in (person, phantom):
        assert not re.search("https?:", page)
        assert "data:image/" in page
    assert "sub-01_ses-B_run-2" in person
    # among the faults, and in the table of the registration
    assert person.count("not registered to") == 2
    assert "identified by R2* and position" in person
    assert "could not be registered were excluded" in person
    assert "in 2 regions per scan" in person
    for text in ("registered rigidly", "ventricles"):
        assert text in person
        assert text not in phantom
    assert "relative to the mean of the phantom" in phantom
    for text, of_person, of_phantom in (
        ("susceptibility maps of ses-", 3, 1),
        ("Edges should be continuous", 1, 0),
    ):
        assert (person.count(text), phantom.count(text)) == (of_person, of_phantom)
    assert "All scans were processed without warnings." in phantom


def test_group_of_it(whole):
    folder = whole.out / "group"
    assert set(read_tsv(folder / "tubes_chi.tsv")["roi"]) == set(TUBES)
    rois = read_tsv(folder / "roi_chi.tsv")
    assert set(zip(rois["subject"], rois["site"], rois["age"], strict=True)) == {
        ("01", "A", 30),
        ("01", "B", 30),
    }
    calibration = read_tsv(folder / "calibration.tsv").set_index("site")
    assert 0.6 < calibration.loc["A", "slope"] < 1.05
    page = (whole.out / "group.html").read_text()
    assert "components: not computed" in page
    assert "harmonized: not computed: site A has 0 subjects to estimate its shift and scale" in page


def test_validator_accepts_all_of_it(whole):
    assert validator_errors(whole.out) == set()
