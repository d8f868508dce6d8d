"""Data of patients are collected from all sources, and patients without a source are listed."""

import numpy as np
import pandas as pd
import pytest
from helpers.freesurfer import write_statistics

from multiqsm.cohort.patients import collect_patients
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.tables import write_tsv

SOURCE = "susceptibility maps"
CHI = "relative_susceptibility"


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    (root / "participants.tsv").write_text(
        "participant_id\tspecies\tage\tsex\tlesions\n"
        "sub-01\thomo sapiens\t40\tF\t3\nsub-02\thomo "
        "sapiens\tn/a\tM\t1.5\nsub-ph\tphantom\tn/a\tn/a\tn/a\n"
    )
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def write_rois(
    out,
    subject,
    values,
    *,
    method="medi",
    reference="csf",
    session=None,
    volumes=None,
    acquisition=None,
):
    """Write the ROI table of a scan; values in ppm by region."""
    entities = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    entities += f"_acq-{acquisition}" if acquisition else ""
    table = pd.DataFrame({"roi": list(values), "mean": list(values.values())})
    table["volume"] = 5.0 if volumes is None else volumes
    table = table.assign(
        subject=subject, session=session or np.nan, run=np.nan, site="A", scan=1, method=method
    )
    table = table.assign(unit="ppm", reference=reference)
    folder = out / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
    write_tsv(folder / f"{entities}_desc-rois_chi.tsv", table)


def causes(patients, label):
    listed = patients.listed
    return dict(listed.loc[listed["participant"] == label, ["what", "reason"]].to_numpy())


def reasons(patients):
    """Participant, source and reason of each row of the list."""
    columns = patients.listed[["participant", "what", "reason"]]
    return list(columns.itertuples(index=False, name=None))


def test_numbers_are_converted_and_phantoms_are_left_out(raw, out):
    patients = collect_patients(raw, out)
    assert list(patients.table.index) == ["01", "02"]
    assert list(patients.table.columns) == ["age", "sex", "lesions"]
    np.testing.assert_array_equal(patients.table["age"], [40, np.nan])
    assert patients.table["sex"].tolist() == ["F", "M"]
    assert patients.listed.to_numpy().tolist() == [
        ["ph", "species", "a phantom, not a patient", True]
    ]
    assert patients.problems == ()
    assert "no such folder" in patients.notes[0]


def test_invalid_values_in_a_column_of_numbers_are_listed(raw, out):
    rows = [
        ("00", "40", "I"),
        ("01", "41", "V"),
        ("02", "89+", "V"),
        ("03", "inf", "I"),
        ("04", "42", "V"),
    ]
    lines = ["participant_id\tage\tstage", *map("\t".join, rows)]
    (raw / "participants.tsv").write_text("\n".join(lines))
    patients = collect_patients(raw, out)
    np.testing.assert_array_equal(patients.table["age"], [40, 41, np.nan, np.nan, 42])
    reason = causes(patients, "02")["participants.tsv, age"]
    assert reason == "'89+' is not a finite number, so it counts as missing"
    assert "'inf' is not a finite number" in causes(patients, "03")["participants.tsv, age"]
    assert patients.table["stage"].tolist() == list("IVVIV")


def test_values_in_which_rows_of_a_patient_agree_are_used(raw, out):
    rows = ["sub-01\t40\t2", "sub-01\t40\t2", "sub-02\t30\t3", "sub-02\t31\t3", "sub-03\t5\t1"]
    (raw / "participants.tsv").write_text("\n".join(["participant_id\tage\tedss", *rows]))
    patients = collect_patients(raw, out)
    np.testing.assert_array_equal(patients.table["age"], [40, np.nan, 5])
    assert patients.table["edss"].to_list() == [2, 3, 1]
    reason = "has 2 rows; values in which they agree are used"
    assert causes(patients, "01")["participants.tsv"] == reason
    reason = "its rows contradict each other: age was not used"
    assert ("02", "participants.tsv", reason) in reasons(patients)


def test_rows_with_invalid_labels_are_left_out(raw, out):
    (raw / "participants.tsv").write_text("participant_id\tage\nsub-../x\t40\nn/a\t3\nsub-01\t4\n")
    patients = collect_patients(raw, out)
    assert list(patients.table.index) == ["01"]
    assert "not a valid label" in causes(patients, "sub-../x")["participants.tsv"]
    assert patients.listed["left_out"].tolist() == [True, True]


def test_last_source_of_a_column_is_used(raw, out, tmp_path):
    (raw / "phenotype").mkdir()
    (raw / "phenotype" / "clinic.tsv").write_text(
        "participant_id\tlesions\tedss\nsub-01\t7\t2.5\nsub-09\t1\t1\n"
    )
    (raw / "phenotype" / "empty.tsv").write_text("participant_id\n")
    further = tmp_path / "more.tsv"
    further.write_text("participant_id\tchi\nsub-02\t-30\n", encoding="utf-8-sig")
    patients = collect_patients(raw, out, phenotype=[further])
    assert patients.table.loc["01", ["lesions", "edss"]].tolist() == [7, 2.5]
    assert np.isnan(patients.table.loc["02", "lesions"])  # one source for all patients
    assert patients.table.loc["02", "chi"] == -30
    used = patients.sources.set_index(["column", "source"])["used"]
    assert not used["lesions", "participants.tsv"]
    assert used["lesions", "phenotype/clinic.tsv"]
    assert used["chi", str(further)]
    assert "lesions is from phenotype/clinic.tsv, not from participants.tsv" in patients.notes
    assert "not in participants.tsv" in causes(patients, "09")["phenotype/clinic.tsv"]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"id\tage\n01\t3\n", "no column participant_id"),
        (b"\xff\xfe\x00", "in UTF-16"),
        (b"", "no column participant_id"),
        (
            b"participant_id\tedss\nsub-01\t3\t4\nsub-02\t3\t4\n",
            "more cells than there are headings",
        ),
    ],
)
def test_invalid_table_is_a_problem_and_others_are_used(raw, out, content, cause):
    (raw / "phenotype").mkdir()
    (raw / "phenotype" / "bad.tsv").write_bytes(content)
    patients = collect_patients(raw, out)
    ((name, problem),) = patients.problems
    assert name == "phenotype/bad.tsv"
    assert cause in problem
    assert len(patients.table) == 2


def test_a_row_with_too_many_cells_is_named_and_the_table_used(raw, out):
    (raw / "phenotype").mkdir()
    (raw / "phenotype" / "table.tsv").write_text("participant_id\tedss\nsub-01\t3\nsub-02\t3\t4\n")
    patients = collect_patients(raw, out)
    assert not patients.problems
    assert patients.table["edss"].tolist() == [3, 3]
    note = "phenotype/table.tsv: line 3 has more cells than there are headings"
    assert note in patients.notes


def test_freesurfer(raw, out, tmp_path):
    folder = raw / "derivatives" / "freesurfer"
    write_statistics(folder / "sub-01" / "stats")
    write_statistics(folder / "sub-07" / "stats")
    write_statistics(folder / "sub-02.long.sub-02" / "stats")
    patients = collect_patients(raw, out)
    assert patients.table.loc["01", "thalamic_volume"] == pytest.approx(14)
    assert patients.table.loc["07", "cortical_thickness"] == pytest.approx(2.38)
    assert causes(patients, "02")["FreeSurfer"] == "no data of this patient"
    assert "not in participants.tsv" in causes(patients, "07")["FreeSurfer"]
    assert patients.problems[0][0] == "FreeSurfer, sub-02.long.sub-02"
    elsewhere = collect_patients(raw, out, freesurfer_dir=tmp_path / "nowhere")
    assert elsewhere.problems[0][0] == "FreeSurfer"


def test_unreadable_freesurfer_file_affects_its_patient_only(raw, out):
    folder = raw / "derivatives" / "freesurfer"
    write_statistics(folder / "sub-01" / "stats")
    (write_statistics(folder / "sub-02" / "stats") / "lh.aparc.stats").unlink()
    patients = collect_patients(raw, out)
    assert patients.table["thalamic_volume"].isna().tolist() == [False, True]
    assert "lh.aparc.stats" in causes(patients, "02")["FreeSurfer"]
    assert patients.problems[0][0] == "FreeSurfer, sub-02"


def test_sessions_are_averaged_and_listed(raw, out):
    folder = raw / "derivatives" / "freesurfer"
    write_statistics(folder / "sub-01_ses-1" / "stats")
    aseg = write_statistics(folder / "sub-01_ses-2" / "stats") / "aseg.stats"
    aseg.write_text(aseg.read_text().replace("7100.0", "7300.0"))
    for session, value in (("1", -0.02), ("2", -0.04)):
        write_rois(out, "01", {"thalamus": value}, session=session)
    patients = collect_patients(raw, out)
    assert patients.table.loc["01", "thalamic_volume_left"] == pytest.approx(7.2)
    assert patients.table.loc["01", CHI] == pytest.approx(-30)
    assert causes(patients, "01") == dict.fromkeys(
        ["FreeSurfer", SOURCE], "measured 2 times; the mean is used"
    )


def test_acquisitions_of_a_patient_are_not_averaged(raw, out):
    """Most patients of the site have the fine one; a patient without it keeps the coarse one, and
    is listed.
    """
    for subject, acquisition, value in (
        ("01", "fine", -0.02),
        ("01", "coarse", -0.09),
        ("02", "fine", -0.04),
        ("03", "coarse", -0.06),
        ("04", "fine", -0.04),
        ("05", "fine", -0.05),
    ):
        write_rois(out, subject, {"thalamus": value}, acquisition=acquisition)
    patients = collect_patients(raw, out)
    assert patients.table[CHI].dropna().to_dict() == pytest.approx(
        {"01": -20, "02": -40, "03": -60, "04": -40, "05": -50}
    )
    reason = "also scanned with acq-coarse, which is not used"
    assert ("01", SOURCE, reason) in reasons(patients)
    reason = "scanned with acq-coarse, while most at site A have acq-fine"
    assert ("03", SOURCE, reason) in reasons(patients)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"thalamus": -0.03, "putamen": 0.04}, -30),
        ({"left_thalamus": -0.02, "right_thalamus": -0.04}, -32.5),  # 3 mL and 5 mL
        ({"Left-Thalamus-Proper": -0.02, "Right-Thalamus-Proper": -0.04}, -32.5),
        ({"Thalamus": -0.03, "left_thalamus": -0.9}, -30),
    ],
)
def test_susceptibility_in_ppb(raw, out, values, expected):
    write_rois(out, "01", values, volumes=[3.0, 5.0])
    patients = collect_patients(raw, out)
    assert patients.table.loc["01", CHI] == pytest.approx(expected)
    assert causes(patients, "02")[SOURCE] == "no data of this patient"
    assert "susceptibility of thalamus relative to csf, medi" in patients.notes


def test_scans_without_a_value_of_the_region_are_listed(raw, out):
    write_rois(out, "01", {"thalamus": -0.03})
    write_rois(out, "02", {"thalamus": -0.03}, reference="brain")
    write_rois(out, "03", {"thalamus": -0.03})
    write_rois(out, "04", {"putamen": 0.03})
    write_rois(out, "05", {"left_thalamus": 0.03})
    write_rois(out, "06", {"thalamus": 0.03}, method="iterative")
    write_rois(out, "07", {"thalamus": np.nan})
    patients = collect_patients(raw, out)
    assert patients.table[CHI].dropna().index.tolist() == ["01", "03"]
    expected = {
        "02": "relative to brain, not to csf",
        "04": "no region thalamus, only putamen",
        "05": "thalamus on the left side only",
        "06": "no map of medi, only of iterative",
        "07": "thalamus has no value",
    }
    assert {label: causes(patients, label)[SOURCE] for label in expected} == expected
    patients = collect_patients(raw, out, reference="brain")
    assert patients.table[CHI].dropna().index.tolist() == ["02"]


def test_measured_susceptibility_takes_precedence_over_that_of_a_table(raw, out):
    (raw / "phenotype").mkdir()
    (raw / "phenotype" / "old.tsv").write_text(f"participant_id\t{CHI}\nsub-01\t-1\nsub-02\t-2\n")
    assert collect_patients(raw, out).table[CHI].tolist() == [-1, -2]
    write_rois(out, "01", {"thalamus": -0.03})
    patients = collect_patients(raw, out)
    np.testing.assert_allclose(patients.table[CHI], [-30, np.nan])
    assert f"{CHI} is from {SOURCE}, not from phenotype/old.tsv" in patients.notes


def test_region_that_no_patient_has_is_a_problem(raw, out):
    (raw / "phenotype").mkdir()
    (raw / "phenotype" / "old.tsv").write_text(f"participant_id\t{CHI}\nsub-01\t-1\n")
    write_rois(out, "01", {"putamen": -0.03})
    patients = collect_patients(raw, out)
    assert patients.table[CHI].dropna().tolist() == [-1]
    assert "no table has thalamus in maps of medi" in patients.problems[0][1]


def test_lesions_and_quality_are_measured(raw, out):
    folder = out / "sub-01" / "anat"
    lesions = pd.DataFrame({"lesion": ["1", "2", "total"], "volume": [1.5, 0.5, 2.0]})
    write_tsv(folder / "sub-01_desc-lesions_stats.tsv", lesions)
    write_tsv(
        out / "sub-02" / "anat" / "sub-02_desc-lesions_stats.tsv", lesions[2:].assign(volume=0.0)
    )
    quality = pd.DataFrame(
        {"subject": ["01"], "run": [1], "snr": [55.0], "note": ["x"], "age": [1.0]}
    )
    write_tsv(folder / "sub-01_desc-quality_stats.tsv", quality)
    patients = collect_patients(raw, out)
    assert patients.table["t2_lesion_volume"].tolist() == [2, 0]
    assert patients.table["t2_lesions"].tolist() == [2, 0]
    np.testing.assert_array_equal(patients.table["snr"], [55, np.nan])
    assert patients.table.loc["01", "age"] == 40  # from participants.tsv
    assert not {"run", "note", "subject"} & set(patients.table.columns)


def test_tables_of_measures_that_cannot_be_read(raw, out):
    for name in ("lesions_stats", "quality_stats", "rois_chi"):
        path = out / "sub-01" / "anat" / f"sub-01_desc-{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xfe\x00")
    patients = collect_patients(raw, out)
    sources, problems = zip(*sorted(patients.problems), strict=True)
    assert sources == ("lesion tables", "quality tables", SOURCE)
    assert all("run the participant level again" in problem for problem in problems)


def test_phantom_has_no_susceptibility_of_a_patient(raw, out):
    write_rois(out, "ph", {"tube 1": 0.2})
    path = next(out.glob("sub-ph/anat/*.tsv"))
    write_tsv(path, pd.read_csv(path, sep="\t", dtype=str).assign(expected=0.2))
    assert CHI not in collect_patients(raw, out).table


def test_no_patient(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no patient in participants\.tsv"):
        collect_patients(tmp_path, tmp_path)
