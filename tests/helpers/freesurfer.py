"""Small tables of statistics as FreeSurfer writes them."""

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


ETIV = (
    "# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, "
    "1510000.0, mm^3\n"
)


OLD, NEW = "{}-Thalamus-Proper", "{}-Thalamus"


def write_statistics(folder, *, name=NEW, head=ETIV, area="WhiteSurfArea", version="7.4"):
    folder.mkdir(parents=True, exist_ok=True)
    """Write `aseg.stats` and both `aparc.stats` into a folder; return the folder."""
    names = {"left": name.format("Left"), "right": name.format("Right")}
    (folder / "aseg.stats").write_text(ASEG.format(version=version, head=head, **names))
    for side, thickness, value, vertices in (
        ("lh", 2.5, 80_000, 110_000),
        ("rh", 2.3, 120_000, 110_000),
    ):
        line = AREA.format(name=area, value=value) if area else ""
        aparc = APARC.format(side=side, thickness=thickness, area=line, vertices=vertices)
        (folder / f"{side}.aparc.stats").write_text(aparc)
    return folder
