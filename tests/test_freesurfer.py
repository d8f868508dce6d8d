"""FreeSurfer's tables of versions 5 to 8: what each calls the same measure, and what is refused, with file and line."""

import math

import pytest

from multiqsm.cohort.freesurfer import find_statistics, read_statistics
from multiqsm.dataset.problems import DatasetError

ASEG = """\
# Title Segmentation Statistics
#
# cvs_version {version}
# subjectname sub-01
# Measure BrainSeg, BrainSegVol, Brain Segmentation Volume, 1200000.000000, mm^3
# Measure TotalGray, TotalGrayVol, Total gray matter volume, 607000.500000, mm^3
{head}# NRows 45
# ColHeaders  Index SegId NVoxels Volume_mm3 StructName normMean normStdDev normMin normMax normRange
  1   4      7000     7000.1  Left-Lateral-Ventricle            35.0    12.0    10.0    90.0    80.0
  9  10      7100     7100.0  {left}      90.0     8.0    40.0   120.0    80.0
 27  49      6900     6900.0  {right}     90.0     8.0    40.0   120.0    80.0
"""
APARC = """\
# Table of FreeSurfer cortical parcellation anatomical statistics
# hemi {side}
# Measure Cortex, NumVert, Number of Vertices, {vertices}, unitless
{area}# Measure Cortex, MeanThickness, Mean Thickness, {thickness}, mm
# ColHeaders StructName NumVert SurfArea GrayVol ThickAvg ThickStd MeanCurv GausCurv FoldInd CurvInd
bankssts                                 1546   1043   3051  2.734 0.556     0.097     0.019       11     1.2
"""
AREA = "# Measure Cortex, {name}, White Surface Total Area, {value}, mm^2\n"
ICV = "# Measure IntraCranialVol, ICV, Intracranial Volume, 1500000.0, mm^3\n"
ETIV = "# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, 1510000.0, mm^3\n"
OLD, NEW = "{}-Thalamus-Proper", "{}-Thalamus"


def write_statistics(folder, *, name=NEW, head=ETIV, area="WhiteSurfArea", version="7.4"):
    folder.mkdir(parents=True, exist_ok=True)
    left, right = name.format("Left"), name.format("Right")
    (folder / "aseg.stats").write_text(ASEG.format(version=version, head=head, left=left, right=right))
    for side, thickness, value, vertices in (("lh", 2.5, 80_000, 110_000), ("rh", 2.3, 120_000, 110_000)):
        line = AREA.format(name=area, value=value) if area else ""
        aparc = APARC.format(side=side, thickness=thickness, area=line, vertices=vertices)
        (folder / f"{side}.aparc.stats").write_text(aparc)
    return folder


@pytest.mark.parametrize(
    ("version", "name", "head", "area", "inside"),
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
def test_measures_of_every_version(tmp_path, version, name, head, area, inside):
    found = read_statistics(write_statistics(tmp_path, name=name, head=head, area=area, version=version))
    assert found == pytest.approx(
        {
            "thalamic_volume_left": 7.1,
            "thalamic_volume_right": 6.9,
            "thalamic_volume": 14.0,
            "grey_matter_volume": 607.0005,
            "intracranial_volume": inside,
            "cortical_thickness": (2.5 * 80 + 2.3 * 120) / 200,  # by area
        },
        nan_ok=True,
    )


def test_thickness_by_vertices_where_there_is_no_area(tmp_path):
    assert read_statistics(write_statistics(tmp_path, area=None))["cortical_thickness"] == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("file", "old", "new", "cause"),
    [
        ("aseg.stats", "7100.0  Left", "7l00  Left", "aseg.stats, line 11: '7l00' is no measure"),
        ("aseg.stats", "607000.500000", "nan", "aseg.stats, line 6: 'nan' is no measure"),
        ("aseg.stats", "607000.500000", "-3", "aseg.stats, line 6: '-3' is no measure"),
        ("aseg.stats", "  90.0     8.0    40.0", "", "aseg.stats, line 11: 7 cells below 10 headings"),
        ("aseg.stats", ", Total gray matter volume", "", "aseg.stats, line 6: a measure has 5 fields, this one 4"),
        ("aseg.stats", "TotalGrayVol", "x", "aseg.stats: no measure TotalGrayVol; run recon-all again"),
        ("aseg.stats", "Right-Thalamus", "x", "aseg.stats: no row Right-Thalamus or Right-Thalamus-Proper"),
        ("aseg.stats", None, None, "aseg.stats.*run recon-all again"),
        ("lh.aparc.stats", None, None, "lh.aparc.stats.*run recon-all again"),
        ("rh.aparc.stats", "MeanThickness", "x", "rh.aparc.stats: no measure MeanThickness"),
        ("rh.aparc.stats", "2.3", "2,3", "rh.aparc.stats, line 5: a measure has 5 fields, this one 6"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, file, old, new, cause):
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


def test_hemispheres_with_nothing_to_weight_them_by(tmp_path):
    for path in write_statistics(tmp_path, area=None).glob("*.aparc.stats"):
        path.write_text(path.read_text().replace("NumVert,", "x,"))
    with pytest.raises(DatasetError, match="no measure WhiteSurfArea or SurfArea or NumVert of both"):
        read_statistics(tmp_path)


def test_folders(tmp_path):
    for name in ("sub-02", "sub-01_ses-a", "fsaverage", "sub-03.long.sub-03_base", "sub-04", "sub-05_T1w", "sub-06"):
        write_statistics(tmp_path / name / "stats")
    (tmp_path / "sub-04" / "base-tps").write_text("sub-04_ses-1\n")
    (tmp_path / "sub-07").mkdir()
    (tmp_path / "sub-08").write_text("a file")
    found, refused = find_statistics(tmp_path)
    assert [(run.subject, run.session) for run in found] == [("01", "a"), ("02", None), ("06", None)]
    causes = dict(refused)
    assert "longitudinal stream" in causes["sub-03.long.sub-03_base"]
    assert "longitudinal stream" in causes["sub-04"]
    assert "neither sub-X nor sub-X_ses-Y" in causes["sub-05_T1w"]
    assert "no folder stats" in causes["sub-07"]
    assert len(causes) == 4
    assert find_statistics(tmp_path / "nowhere") == ([], [])
