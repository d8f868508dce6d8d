"""Processed scans of a subject: their numbers, missing files, and regions that cannot be used."""

import json
from itertools import product

import nibabel as nib
import numpy as np
import pytest

from multiqsm.dataset.assembly import Scan
from multiqsm.dataset.outputs import derivative_path
from multiqsm.dataset.repeats import Protocol, number_scans
from multiqsm.dataset.subjects import collect_subjects

METHODS = ("iterative", "deterministic")


def numbers(*scans):
    """Numbers of scans given as session/run or session; the site is the session's first letter."""
    rows = []
    for scan in scans:
        session, *run = scan.split("/")
        entities = {"subject": "01", "session": session}
        if run:
            entities["run"] = run[0]
        rows.append((entities, session[0], Protocol()))
    return number_scans(rows)


def labels(scans):
    return [scan.label for scan in scans]


def scans_of(problems):
    return [problem.scan for problem in problems]


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        (["A/1", "A/2", "B/1"], [1, 2, 1]),
        (["A/1", "A/3", "A/5"], [1, 3, 5]),  # missing scans do not change numbers
        (["A/10", "A/2"], [10, 2]),
        (["A/01", "A/02"], [1, 2]),
        (["A1/1", "A2/1", "A3/1"], [1, 2, 3]),  # sessions of one site are counted
        (["A10", "A2", "A1"], [3, 2, 1]),  # in numerical order
        (["A1/1", "A1/2", "A2/1"], [1, 2, 3]),
        (["A1/1", "A1"], [2, 1]),  # a scan without a run
        (["A", "B", "C"], [1, 1, 1]),
    ],
)
def test_repeats_are_numbered(scans, expected):
    assert numbers(*scans) == expected
    assert numbers(*scans[::-1]) == expected[::-1]


def test_repeats_are_numbered_within_a_subject():
    scans = []
    for subject in ("01", "02", "+1"):
        scans.append(({"subject": subject, "session": "A"}, "A", Protocol()))
    assert number_scans(scans) == [1, 1, 1]
    assert number_scans([]) == []


def processed(root, raw, entities, *, without=None, site="A", **options):
    """Write empty derivatives of a scan, except `without`, and the raw image on which its regions
    are drawn.
    """
    files = [("mask", "anat", "brain"), ("magnitude", "fmap", None), ("R2starmap", "anat", None)]
    for suffix, datatype, desc in [*files, *(("Chimap", "anat", method) for method in METHODS)]:
        path = derivative_path(root, entities, suffix=suffix, datatype=datatype, desc=desc)
        path.parent.mkdir(parents=True, exist_ok=True)
        if without is None or without not in (suffix, desc):
            path.touch()
    image = raw / f"{'_'.join(entities.values())}.nii.gz"
    image.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), image)
    return Scan(entities, "MEGRE", magnitude=(image,), site=site, **options)


def draw(
    dataset, entities, *, space=None, value=1, shape=(3, 4, 5), lookup="index\tname\n1\tputamen\n"
):
    path = derivative_path(dataset, entities, suffix="dseg", desc="rois", space=space)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full(shape, value, np.uint8), np.eye(4)), path)
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text(lookup)
    return path


@pytest.fixture
def folders(tmp_path):
    return {"root": tmp_path / "out", "raw": tmp_path / "raw"}, tmp_path / "rater"


def collect(scans, folders, **options):
    roots, rater = folders
    return collect_subjects(
        scans, roots["root"], **{"methods": METHODS, "datasets": [rater], **options}
    )


def test_subjects_are_sorted_and_their_scans_too(folders):
    roots, _ = folders
    rows = [("02", "A", "1"), ("01", "B", "1"), ("01", "A", "2"), ("01", "A", "1")]
    scans = []
    for subject, site, run in rows:
        entities = {"subject": subject, "session": site, "run": run}
        scans.append(processed(**roots, entities=entities, site=site))
    subjects, left_out = collect(scans, folders)
    assert left_out == []
    assert labels(subjects) == ["01", "02"]
    assert [(scan.site, scan.number) for scan in subjects[0].scans] == [
        ("A", 1),
        ("A", 2),
        ("B", 1),
    ]
    scan = subjects[0].scans[1]
    assert scan.label == "sub-01_ses-A_run-2"
    assert scan.magnitude == roots["root"] / "sub-01/ses-A/fmap/sub-01_ses-A_run-2_magnitude.nii.gz"
    assert (
        scan.mask == roots["root"] / "sub-01/ses-A/anat/sub-01_ses-A_run-2_desc-brain_mask.nii.gz"
    )
    assert scan.r2star == roots["root"] / "sub-01/ses-A/anat/sub-01_ses-A_run-2_R2starmap.nii.gz"
    assert list(scan.chi) == list(METHODS)
    assert (scan.labels, subjects[0].labels, subjects[0].is_phantom) == (None, None, False)


def test_only_required_maps_must_exist(folders):
    scan = processed(**folders[0], entities={"subject": "01"}, without="iterative")
    (subject,), left_out = collect([scan], folders, methods=("deterministic",))
    assert left_out == []
    assert list(subject.scans[0].chi) == ["deterministic"]


@pytest.mark.parametrize("without", ["brain", "magnitude", "iterative", "deterministic"])
def test_scan_without_derivatives_is_left_out_and_named(folders, without):
    scans = [
        processed(**folders[0], entities={"subject": "01", "run": "1"}, without=without),
        processed(**folders[0], entities={"subject": "01", "run": "2"}),
        processed(**folders[0], entities={"subject": "02"}, without=without),
    ]
    (subject,), left_out = collect(scans, folders)
    assert [(scan.label, scan.number) for scan in subject.scans] == [("sub-01_run-2", 2)]
    assert scans_of(left_out) == ["sub-01_run-1", "sub-02"]
    assert {problem.severity for problem in left_out} == {"error"}
    assert left_out[0].text.startswith("not processed: sub-01_run-1")
    assert without in left_out[0].text
    assert left_out[0].text.endswith("is missing")


def test_standard_errors_of_an_earlier_run_are_ignored(folders):
    scan, root = processed(**folders[0], entities={"subject": "01"}), folders[0]["root"]
    for desc, suffix, kind in (("iterativese", "Chimap", "anat"), ("totalse", "fieldmap", "fmap")):
        derivative_path(root, scan.entities, suffix=suffix, desc=desc, datatype=kind).touch()
    (subject,), _ = collect([scan], folders)
    assert list(subject.scans[0].noise) == ["iterative"]
    (subject,), _ = collect([scan], folders, standard_errors=("deterministic",))
    assert subject.scans[0].noise == {}


def test_scan_of_two_echoes_has_no_r2star(folders):
    (subject,), left_out = collect(
        [processed(**folders[0], entities={"subject": "01"}, without="R2starmap")], folders
    )
    assert subject.scans[0].r2star is None
    assert left_out == []


def test_phantom(folders):
    scan = processed(**folders[0], entities={"subject": "ph+1"}, is_phantom=True)
    (subject,), _ = collect([scan], folders)
    assert subject.is_phantom
    assert subject.node_name == "sub_phplus1"


def test_regions_of_a_scan_and_of_the_subject(folders):
    roots, rater = folders
    scans = [processed(**roots, entities={"subject": "01", "run": run}) for run in "12"]
    mine, ours = (
        draw(rater, {"subject": "01", "run": "1"}),
        draw(rater, {"subject": "01"}, space="subject"),
    )
    (subject,), left_out = collect(scans, folders)
    assert left_out == []
    assert subject.scans[0].labels.path == mine
    assert subject.scans[1].labels is None
    assert subject.labels.path == ours


BAD_LABELS = {
    "another grid": ({"shape": (3, 4, 6)}, "3×4×6 voxels, but the scan has 3×4×5"),
    "no name column": ({"lookup": "index\tlabel\n1\tputamen\n"}, "no column name"),
    "no susceptibility": (
        {"lookup": "index\tname\tsusceptibility_ppm\n1\ttube\tmuch\n"},
        "susceptibility_ppm 'much'",
    ),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_scan_with_invalid_regions_is_still_used(folders, case):
    options, cause = BAD_LABELS[case]
    scan = processed(**folders[0], entities={"subject": "01"})
    draw(folders[1], {"subject": "01"}, **options)
    (subject,), (problem,) = collect([scan], folders)
    assert subject.scans[0].labels is None
    assert problem.scan == "regions of sub-01"
    assert cause in problem.text
    assert problem.severity == "error"


def test_invalid_regions_of_the_subject_do_not_affect_those_of_the_scan(folders):
    roots, rater = folders
    scan = processed(**roots, entities={"subject": "01", "run": "1"})
    draw(rater, {"subject": "01", "run": "1"})
    draw(rater, {"subject": "01"}, space="subject").write_bytes(b"no image")
    (subject,), (problem,) = collect([scan], folders)
    assert subject.labels is None
    assert subject.scans[0].labels is not None
    assert (problem.scan, problem.severity) == ("regions of sub-01", "error")


def test_labels_without_a_name_give_a_note(folders):
    scan = processed(**folders[0], entities={"subject": "01"})
    draw(folders[1], {"subject": "01"}, value=7)
    (subject,), (problem,) = collect([scan], folders)
    assert subject.scans[0].labels.names == {1: "putamen"}
    assert problem.severity == "note"
    assert "label 7 is not in" in problem.text


def test_two_datasets_with_regions_of_one_scan(folders, tmp_path):
    scan = processed(**folders[0], entities={"subject": "01"})
    for rater in ("one", "two"):
        draw(tmp_path / rater, {"subject": "01"})
        (tmp_path / rater / "dataset_description.json").write_text(json.dumps({"Name": rater}))
    (subject,), (problem,) = collect([scan], folders, datasets=[tmp_path / "one", tmp_path / "two"])
    assert subject.scans[0].labels is None
    assert "more than one label image" in problem.text


def raw_and_made(folders, *sessions, without=None, **options):
    """Write a scan of each session with derivatives, but no magnitude for session `without`."""
    scans = []
    for session in sessions:
        entities = {"subject": "01", "session": session}
        absent = "magnitude" if session == without else None
        scans.append(processed(**folders[0], entities=entities, without=absent, **options))
    return scans


def test_regions_of_an_excluded_scan_are_propagated(folders):
    """A filter excluded a scan that an earlier run had processed."""
    first, second = raw_and_made(folders, "1", "2")
    drawn = draw(folders[1], first.entities)
    (subject,), left_out = collect(
        [second], folders, excluded_scans=[first.entities, {"subject": "02", "session": "1"}]
    )
    assert left_out == []
    (elsewhere,) = subject.elsewhere
    assert (elsewhere.label, elsewhere.labels.path) == ("sub-01_ses-1", drawn)
    assert elsewhere.magnitude.name == "sub-01_ses-1_magnitude.nii.gz"
    assert elsewhere.columns["session"] == "1"
    assert labels(subject.scans) == ["sub-01_ses-2"]


def test_regions_that_cannot_be_propagated_are_an_error(folders):
    first, second = raw_and_made(folders, "1", "2", without="1")
    draw(folders[1], first.entities)
    (subject,), (problem,) = collect([second], folders, excluded_scans=[first.entities])
    assert subject.elsewhere == ()
    assert (problem.scan, problem.severity) == ("regions of sub-01_ses-1", "error")
    for text in ("sub-01_ses-1_magnitude.nii.gz", "cannot be used", "--session-label"):
        assert text in problem.text
    # The same holds for a scan without derivatives that no filter excludes.
    _, left_out = collect([first, second], folders)
    assert scans_of(left_out) == ["sub-01_ses-1", "regions of sub-01_ses-1"]


def test_one_usable_excluded_scan_with_regions_suffices(folders):
    first, second, third = raw_and_made(folders, "1", "2", "3", without="1")
    for scan in (first, third):
        draw(folders[1], scan.entities)
    (subject,), left_out = collect(
        [second], folders, excluded_scans=[first.entities, third.entities]
    )
    assert left_out == []
    assert labels(subject.elsewhere) == ["sub-01_ses-3"]


@pytest.mark.parametrize("own", ["scan", "subject", "phantom"])
def test_regions_of_excluded_scans_are_ignored_if_there_are_others(folders, own):
    first, second = raw_and_made(folders, "1", "2", without="1", is_phantom=own == "phantom")
    draw(folders[1], first.entities)
    if own != "phantom":
        draw(
            folders[1],
            *((second.entities,) if own == "scan" else ({"subject": "01"},)),
            space={"subject": own}.get(own),
        )
    (subject,), left_out = collect([second], folders, excluded_scans=[first.entities])
    assert (left_out, subject.elsewhere) == ([], ())


def test_points_on_excluded_scans_are_propagated_on_request(folders):
    first, second = raw_and_made(folders, "1", "2")
    path = folders[1] / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_desc-atrium_points.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("x\ty\tz\n1\t2\t3\n")
    (subject,), _ = collect([second], folders, excluded_scans=[first.entities])
    assert subject.elsewhere == ()
    (subject,), left_out = collect(
        [second], folders, excluded_scans=[first.entities], needs_atria=True
    )
    assert (left_out, subject.elsewhere[0].atria) == ([], ((1.0, 2.0, 3.0),))
    subject.elsewhere[0].magnitude.unlink()
    _, (problem,) = collect([second], folders, excluded_scans=[first.entities], needs_atria=True)
    assert problem.scan == "points in the atria of sub-01_ses-1"


def test_scans_have_a_protocol_and_a_number(folders):
    scans = []
    for acquisition, run in product("ab", "12"):
        entities = {"subject": "01", "acquisition": acquisition, "run": run}
        scans.append(processed(**folders[0], entities=entities, echo_times=(0.006, 0.014)))
    (subject,), _ = collect(scans, folders)
    protocols = [(str(scan.protocol), scan.number) for scan in subject.scans]
    assert sorted(protocols) == [
        ("acq-a, TE 6, 14 ms, 1×1×1 mm", 1),
        ("acq-a, TE 6, 14 ms, 1×1×1 mm", 2),
        ("acq-b, TE 6, 14 ms, 1×1×1 mm", 1),
        ("acq-b, TE 6, 14 ms, 1×1×1 mm", 2),
    ]
    columns = subject.scans[0].columns
    assert [columns[name] for name in ("subject", "session", "run", "acquisition")] == [
        "01",
        None,
        "1",
        "a",
    ]
    assert (columns["echo_times"], columns["voxel_size"], columns["site"], columns["scan"]) == (
        "6, 14",
        "1, 1, 1",
        "A",
        1,
    )
