"""FreeSurfer's statistics, versions 5 to 8; errors are reported with file and line."""

import math

import pytest
from helpers.freesurfer import ETIV, NEW, OLD, write_statistics

from multiqsm.cohort.freesurfer import find_statistics, read_statistics
from multiqsm.dataset.problems import DatasetError

ICV = "# Measure IntraCranialVol, ICV, Intracranial Volume, 1500000.0, mm^3\n"


@pytest.mark.parametrize(
    ("version", "name", "head", "area", "intracranial"),
    [
        ("5.1", OLD, ICV, "WhiteSurfArea", 1500),
        ("5.3", OLD, ETIV, "SurfArea", 1510),
        ("6.0", OLD, ETIV, "WhiteSurfArea", 1510),
        ("7.1", OLD + "*", ETIV, "WhiteSurfArea", 1510),
        ("7.4", NEW, ETIV, "WhiteSurfArea", 1510),
        ("8.0", NEW, ETIV, "WhiteSurfArea", 1510),
        ("without head", NEW, "", "WhiteSurfArea", math.nan),
    ],
)
def test_measures_of_every_version(tmp_path, version, name, head, area, intracranial):
    folder = write_statistics(tmp_path, name=name, head=head, area=area, version=version)
    expected = {
        "thalamic_volume_left": 7.1,
        "thalamic_volume_right": 6.9,
        "thalamic_volume": 14.0,
        "grey_matter_volume": 607.0005,
        "intracranial_volume": intracranial,
        "cortical_thickness": (2.5 * 80 + 2.3 * 120) / 200,  # weighted by area
    }
    assert read_statistics(folder) == pytest.approx(expected, nan_ok=True)


def test_thickness_is_weighted_by_vertices_without_areas(tmp_path):
    statistics = read_statistics(write_statistics(tmp_path, area=None))
    assert statistics["cortical_thickness"] == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("file", "old", "new", "cause"),
    [
        (
            "aseg.stats",
            "7100.0  Left",
            "7l00  Left",
            "aseg.stats, line 11: '7l00' is not a valid measure",
        ),
        ("aseg.stats", "607000.500000", "nan", "aseg.stats, line 6: 'nan' is not a valid measure"),
        ("aseg.stats", "607000.500000", "-3", "aseg.stats, line 6: '-3' is not a valid measure"),
        (
            "aseg.stats",
            "  90.0     8.0    40.0",
            "",
            "aseg.stats, line 11: 7 cells below 10 headings",
        ),
        (
            "aseg.stats",
            ", Total gray matter volume",
            "",
            "aseg.stats, line 6: a measure has 5 fields, but this one has 4",
        ),
        (
            "aseg.stats",
            "TotalGrayVol",
            "x",
            "aseg.stats: no measure TotalGrayVol; run recon-all again",
        ),
        (
            "aseg.stats",
            "Right-Thalamus",
            "x",
            "aseg.stats: no row Right-Thalamus or Right-Thalamus-Proper",
        ),
        ("aseg.stats", None, None, "aseg.stats.*run recon-all again"),
        ("lh.aparc.stats", None, None, "lh.aparc.stats.*run recon-all again"),
        ("rh.aparc.stats", "MeanThickness", "x", "rh.aparc.stats: no measure MeanThickness"),
        (
            "rh.aparc.stats",
            "2.3",
            "2,3",
            "rh.aparc.stats, line 5: a measure has 5 fields, but this one has 6",
        ),
    ],
)
def test_unreadable_statistics_are_reported(tmp_path, file, old, new, cause):
    path = write_statistics(tmp_path) / file
    text = path.read_text()
    path.unlink()
    if old is not None:
        path.write_text(text.replace(old, new))
    with pytest.raises(DatasetError, match=cause):
        read_statistics(tmp_path)


def test_binary_file_is_refused(tmp_path):
    (write_statistics(tmp_path) / "aseg.stats").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match=r"aseg.stats: .*codec can't decode"):
        read_statistics(tmp_path)


def test_hemispheres_without_weights(tmp_path):
    for path in write_statistics(tmp_path, area=None).glob("*.aparc.stats"):
        path.write_text(path.read_text().replace("NumVert,", "x,"))
    with pytest.raises(
        DatasetError, match="no measure WhiteSurfArea or SurfArea or NumVert of both"
    ):
        read_statistics(tmp_path)


def test_folders(tmp_path):
    for name in (
        "sub-02",
        "sub-01_ses-a",
        "fsaverage",
        "sub-03.long.sub-03_base",
        "sub-04",
        "sub-05_T1w",
        "sub-06",
    ):
        write_statistics(tmp_path / name / "stats")
    (tmp_path / "sub-04" / "base-tps").write_text("sub-04_ses-1\n")
    (tmp_path / "sub-07").mkdir()
    (tmp_path / "sub-08").write_text("a file")
    runs, refused = find_statistics(tmp_path)
    assert [run.subject for run in runs] == ["01", "02", "06"]
    assert [run.session for run in runs] == ["a", None, None]
    causes = dict(refused)
    assert "longitudinal stream" in causes["sub-03.long.sub-03_base"]
    assert "longitudinal stream" in causes["sub-04"]
    assert "neither sub-X nor sub-X_ses-Y" in causes["sub-05_T1w"]
    assert "no folder stats" in causes["sub-07"]
    assert len(causes) == 4
    assert find_statistics(tmp_path / "nowhere") == ([], [])
