"""Headings of the columns and explanations of the tables of a study's report."""

from ..pictures.drawing import PPB
from .blocks import Column

METHOD = Column("method")
ROI = Column("roi", "region")
_TEST = (
    Column("n_subjects", "subjects", "d"),
    Column("mean_difference", "mean difference (ppb)", "+.2f", PPB),
    Column("ci_low", "95 % CI from", "+.2f", PPB),
    Column("ci_high", "to", "+.2f", PPB),
    Column("statistic", "t", "+.2f"),
    Column("df", "df", "d"),
    Column("p", "P", "p"),
    Column("family"),
    Column("n_tests", "tests", "d"),
    Column("p_bonferroni", "P, Bonferroni", "p"),
    Column("significant"),
)
_INTERVAL = (Column("ci_low", "95 % CI from", ".2f"), Column("ci_high", "to", ".2f"))
_ICC = (
    Column("raters"),
    Column("site"),
    Column("form"),
    Column("icc", "ICC", ".3f"),
    Column("ci_low", "95 % CI from", ".3f"),
    Column("ci_high", "to", ".3f"),
    Column("n_subjects", "subjects", "d"),
    Column("n_raters", "raters", "d"),
)
COLUMNS = {
    "imprecision_summary": (
        METHOD,
        ROI,
        Column("n_subjects", "subjects", "d"),
        Column("mean", "χ (ppb)", ".1f", PPB),
        Column("mean_sd", "SD over subjects (ppb)", ".1f", PPB),
        Column("within", "within-site (ppb)", ".1f", PPB),
        Column("published_within", "published (ppb)", ".1f", PPB),
        Column("cross", "cross-site (ppb)", ".1f", PPB),
        Column("published_cross", "published (ppb)", ".1f", PPB),
        Column("within_percent", "within-site (%)", ".1f"),
        Column("published_within_percent", "published (%)", ".1f"),
        Column("cross_percent", "cross-site (%)", ".1f"),
        Column("published_cross_percent", "published (%)", ".1f"),
    ),
    "within_versus_cross": (METHOD, ROI, *_TEST),
    "equivalence": (
        METHOD,
        ROI,
        Column("n_subjects", "subjects", "d"),
        Column("within", "within-site, unbiased (ppb)", ".2f", PPB),
        Column("cross", "cross-site, unbiased (ppb)", ".2f", PPB),
        Column("mean_difference", "difference (ppb)", ".2f", PPB),
        Column("ci_low", "90 % CI from", ".2f", PPB),
        Column("ci_high", "to", ".2f", PPB),
        Column("margin", "margin (ppb)", ".2f", PPB),
        Column("p_bonferroni", "P, Bonferroni", "p"),
        Column("significant", "equivalent"),
        Column("power", "power", ".2f"),
        Column("detectable", "detectable difference (ppb)", ".2f", PPB),
    ),
    "between_rois": (
        METHOD,
        Column("measure"),
        Column("roi_1", "first region"),
        Column("roi_2", "second region"),
        *_TEST,
    ),
    "between_methods": (
        Column("method_1", "first method"),
        Column("method_2", "second method"),
        Column("measure"),
        ROI,
        *_TEST,
    ),
    "references": (
        METHOD,
        Column("reference", "reference region"),
        Column("n_subjects", "subjects", "d"),
        Column("mean", "χ (ppb)", "+.1f", PPB),
        Column("within", "within-site (ppb)", ".2f", PPB),
        Column("cross", "cross-site (ppb)", ".2f", PPB),
        Column("n_regions", "deep grey regions", "d"),
        Column("regions_within", "their within-site (ppb)", ".2f", PPB),
        Column("regions_cross", "their cross-site (ppb)", ".2f", PPB),
    ),
    "icc": (
        METHOD,
        ROI,
        *_ICC,
        Column("n_left_out", "excluded subjects", "d"),
        Column("n_raters_left_out", "excluded raters", "d"),
    ),
    "components": (
        METHOD,
        ROI,
        Column("component"),
        Column("sd", "SD (ppb)", ".2f"),
        Column("sd_low", "95 % CI from", ".2f"),
        Column("sd_high", "to", ".2f"),
        Column("percent_of_variance", "% of variance", ".1f"),
        Column("n_levels", "levels", "d"),
        Column("n_scans", "scans", "d"),
    ),
    "within_subject_sd": (
        METHOD,
        ROI,
        Column("definition", "variation"),
        Column("sdw", "SDw (ppb)", ".2f"),
        *_INTERVAL,
        Column("df", "df", "d"),
        Column("n_subjects", "subjects", "d"),
        Column("n_scans", "scans", "d"),
    ),
    "roi_r2star": (
        ROI,
        Column("mean", "mean R2* (1/s)", ".1f"),
        Column("std", "SD of all scans (1/s)", ".2f"),
        Column("min", "smallest (1/s)", ".1f"),
        Column("max", "largest (1/s)", ".1f"),
        Column("count", "scans", "d"),
    ),
    "imprecision_summary_r2star": (
        ROI,
        Column("n_subjects", "subjects", "d"),
        Column("mean", "R2* (1/s)", ".1f"),
        Column("mean_sd", "SD over subjects (1/s)", ".2f"),
        Column("within", "within-site (1/s)", ".2f"),
        Column("cross", "cross-site (1/s)", ".2f"),
        Column("within_percent", "within-site (%)", ".1f"),
        Column("cross_percent", "cross-site (%)", ".1f"),
    ),
    "imprecision_r2star": (
        Column("subject"),
        ROI,
        Column("mean", "R2* (1/s)", ".1f"),
        Column("within", "within-site (1/s)", ".2f"),
        Column("cross", "cross-site (1/s)", ".2f"),
        Column("within_percent", "within-site (%)", ".1f"),
        Column("cross_percent", "cross-site (%)", ".1f"),
    ),
    "within_subject_sd_r2star": (
        ROI,
        Column("definition", "variation"),
        Column("sdw", "SDw (1/s)", ".2f"),
        *_INTERVAL,
        Column("df", "df", "d"),
        Column("n_subjects", "subjects", "d"),
        Column("n_scans", "scans", "d"),
    ),
    "icc_r2star": (
        ROI,
        *_ICC,
    ),
    "nuclei": (
        Column("quantity"),
        METHOD,
        Column("definition", "variation"),
        Column("sdw", "SDw", ".2f"),
        Column("published_sdw", "published SDw", ".2f"),
        Column("unit"),
        Column("df", "df", "d"),
        Column("icc", "ICC(2,1)", ".2f"),
        Column("published_icc", "published ICC", ".2f"),
        Column("n_nuclei", "nuclei", "d"),
        Column("nuclei", "names"),
    ),
    "sdc": (
        METHOD,
        ROI,
        Column("definition", "variation"),
        Column("sdc", "SDC (ppb)", ".2f"),
        *_INTERVAL,
        Column("df", "df", "d"),
    ),
    "bland_altman": (
        Column("comparison"),
        METHOD,
        ROI,
        Column("first"),
        Column("second"),
        Column("bias", "bias (ppb)", "+.2f"),
        Column("bias_low", "95 % CI from", "+.2f"),
        Column("bias_high", "to", "+.2f"),
        Column("lower", "lower limit (ppb)", "+.2f"),
        Column("upper", "upper limit (ppb)", "+.2f"),
        Column("n_subjects", "subjects", "d"),
        Column("n_differences", "differences", "d"),
        Column("n_left_out", "excluded", "d"),
    ),
    "excluded": (
        Column("subject"),
        Column("session"),
        Column("acquisition"),
        Column("reconstruction"),
        Column("run"),
        Column("site"),
        Column("protocol"),
        Column("reason"),
    ),
    "calibration": (
        METHOD,
        Column("site"),
        Column("slope", "slope", ".4f"),
        Column("slope_ci_low", "95 % CI from", ".4f"),
        Column("slope_ci_high", "to", ".4f"),
        Column("published_slope", "published"),
        Column("intercept", "intercept (ppm)", "+.4f"),
        Column("intercept_ci_low", "95 % CI from", "+.4f"),
        Column("intercept_ci_high", "to", "+.4f"),
        Column("published_intercept", "published (ppm)"),
        Column("r_squared", "R²", ".5f"),
        Column("published_r_squared", "published"),
        Column("residual_sd", "residual SD (ppm)", ".4f"),
        Column("n_tubes", "tubes", "d"),
        Column("n_points", "points", "d"),
        Column("n_scans", "scans", "d"),
        Column("n_missing", "missing values", "d"),
        Column("note"),
    ),
    "times": (
        METHOD,
        Column("n_scans", "scans", "d"),
        Column("wall", "time (s)", ".3f"),
        Column("wall_sd", "SD (s)", ".3f"),
        Column("published_wall", "published (s)", ".4g"),
        Column("cpu", "CPU time (s)", ".3f"),
        Column("cpu_sd", "SD (s)", ".3f"),
        Column("fft_pairs", "FFT pairs", ".1f"),
        Column("fft_pairs_sd", "SD", ".1f"),
        Column("wall_ratio", "time, ratio to deterministic", ".1f"),
        Column("published_wall_ratio", "published ratio", ".4g"),
        Column("cpu_ratio", "CPU time, ratio to deterministic", ".1f"),
        Column("fft_pairs_ratio", "FFT pairs, ratio to deterministic", ".1f"),
    ),
    "age": (
        METHOD,
        ROI,
        Column("analysis"),
        Column("slope", "slope (ppb/year)", "+.3f", PPB),
        Column("ci_low", "95 % CI from", "+.3f", PPB),
        Column("ci_high", "to", "+.3f", PPB),
        Column("r", "Pearson r", "+.2f"),
        Column("published_r", "published"),
        Column("df", "df", "d"),
        Column("p", "P", "p"),
        Column("published_p", "published"),
        Column("family"),
        Column("n_tests", "tests", "d"),
        Column("p_bonferroni", "P, Bonferroni", "p"),
        Column("n_scans", "scans", "d"),
        Column("n_subjects", "subjects", "d"),
        Column("n_missing", "missing", "d"),
        Column("note"),
    ),
}
NOTES = {
    "times": (
        "Time of the inversion alone, with the choice of λ, but without reading and writing files, "
        "finding edges and computing standard errors. CPU time is that of all threads. An FFT pair "
        "is a forward and an inverse Fourier transform of the volume on which the inversion works "
        "(the box around the mask, with a margin), timed just before and after the inversion. "
        "Compare CPU times if the machine was busy with other work, and FFT pairs if machines or "
        "matrices differ. Ratios are of mean times, over the scans that have both inversions. "
        "Unlike all other results, times differ from run to run."
    ),
    "published_times": (
        "Published times are those of Lin et al., AJNR 2015, on another computer; the ratio was "
        "given as nearly 700."
    ),
    "rois": (
        "Each point is the mean susceptibility of a region in one scan. The scans of each site are "
        "shown in order."
    ),
    "imprecision": (
        "Within-site imprecision is the standard deviation over repeated scans at one site, "
        "averaged over sites. Cross-site imprecision is the standard deviation over sites of scans "
        "with the same index, averaged over these indices. Percentages are relative to the mean of "
        "the region."
    ),
    "published": (
        "Published values are those of Lin et al., AJNR 2015, for nine subjects on three scanners."
    ),
    "within_versus_cross": (
        "Paired t-test over subjects of cross-site minus within-site imprecision. A significant "
        "difference would mean that changing the scanner adds variation to that of repeated scans."
    ),
    "equivalence": (
        "A difference that is not significant is no evidence that there is none. Two one-sided "
        "t-tests reject that the imprecision across sites differs from that within a site by the "
        "margin or more; the margin is the published imprecision of the region within a site, or "
        "that of --equivalence-margin. Both imprecisions are corrected for the bias of standard "
        "deviations of few values, without which the one across three sites is 6 % smaller than "
        "the one over five scans. Power: the probability of finding equivalence if there is no "
        "difference, before correction for the number of tests. Detectable difference: that which "
        "the test of a difference finds with a probability of 80 %."
    ),
    "between_rois": (
        "Paired t-tests over subjects of the difference in imprecision between two regions (first "
        "minus second)."
    ),
    "between_methods": (
        "Paired t-tests over subjects of the difference between two inversions (first minus "
        "second)."
    ),
    "references": (
        "A map has no absolute zero: values are relative to the mean of a reference region, whose "
        "own variation from scan to scan is added to that of all regions. The first columns are "
        "the susceptibility and the imprecision of each candidate relative to the mean of the "
        "whole brain, which is zero itself and has none. The last ones are the imprecision of the "
        "deep grey regions of the 2015 study if their values refer to this candidate, averaged "
        "over regions: the smaller, the better the reference. All are means over subjects."
    ),
    "icc": (
        "The intraclass correlation coefficient (ICC) is the fraction of the total variance that "
        "is due to true differences between subjects. It is excellent above 0.9 and poor below "
        "0.5. ICC(2,1) counts offsets between sites as error, ICC(3,1) does not. The ICC depends "
        "on the variation between subjects: it is lower in a homogeneous group."
    ),
    "components": (
        "Variance components attribute the variation of all scans to subjects, sites, the "
        "interaction of subject and site, and repeated scans. Each is given as a standard "
        "deviation in ppb."
    ),
    "within_subject_sd": (
        "The within-subject standard deviation (SDw) is the standard deviation of repeated "
        "measurements of one subject about their mean."
    ),
    "sdc": (
        "The smallest detectable change (SDC) is the change between two scans of one subject that "
        "measurement error alone exceeds with a probability of 5 %: 1.96 √2 SDw. Within a site it "
        "is also called the repeatability coefficient, over all scans the reproducibility "
        "coefficient (QIBA). The mean change of n subjects is measured √n times as precisely."
    ),
    "sample_size": (
        "The number of subjects needed to detect an effect of this size with a power of 80 % at a "
        "two-sided P of .05, with one scan at each time point."
    ),
    "bland_altman": (
        "Bland-Altman plots show the differences between two sites (or methods) in the same "
        "subjects. The bias (solid line) is the mean difference; 95 % of the differences are "
        "expected between the limits of agreement (dashed lines)."
    ),
    "calibration": (
        "The calibration is a linear regression of measured on expected susceptibility of the "
        "phantom's tubes. A slope of 1 and an intercept of 0 would be ideal. In-vivo values are "
        "calibrated by division by the slope."
    ),
    "published_calibration": (
        "Published: the line of Lin et al., AJNR 2015. The study gives one, which is shown next to "
        "the line through the points of all sites of each inversion. It is compared with, and "
        "nothing is corrected by it."
    ),
    "harmonization": (
        "Harmonisation brings the scans of all sites to a common protocol. Points are scans and "
        "bars are means of sites, both as differences from the subject's mean over sites. Offsets "
        "that move towards zero were caused by differences between protocols."
    ),
    "age": (
        "The naive regression treats every scan as a different subject, as the published analysis "
        "did, which makes its P value too small. The valid analyses use one mean per subject, or "
        "a random intercept for each subject. Error bars show the subject's cross-site "
        "variability, faint points the scans. P values in the figure are corrected (Bonferroni) "
        "for the number of regions of a family (see the table of regressions)."
    ),
    "published_age": (
        "Published: Lin et al., AJNR 2015, for the iterative inversion and 135 scans of nine "
        "people as if independent; the P values are not corrected."
    ),
    "r2star": (
        "R2* is measured in the same voxels as susceptibility, and nothing is subtracted from it. "
        "Scans of fewer than three echoes have no R2*."
    ),
    "nuclei": (
        "The variances of the deep grey nuclei are pooled, and their intraclass correlations "
        "averaged. Within a site, scans are compared with the subject's other scans at that site; "
        "all scans, with those at any site. Other regions, such as the thalamus and the splenium, "
        "are left out. There is no confidence interval, because the nuclei of a scan vary together."
    ),
    "published_nuclei": (
        "Published values are those of 24 travelling heads at three sites with two scans each, for "
        "seven deep grey nuclei (NMR in Biomedicine 2022, doi 10.1002/nbm.4788). They are shown "
        "for comparison only: sequences, processing and nuclei differ."
    ),
    "impossible_tests": (
        "of these tests could not be made: they need at least two subjects with both values, and "
        "differences that are not all equal."
    ),
    "bonferroni": (
        "Bonferroni: P values are multiplied by the number of tests of their family, which limits "
        "the family-wise error rate to 5 %. If all five nuclei of the 2015 study are measured "
        "(caudate nucleus, putamen, globus pallidus, red nucleus, substantia nigra), these are the "
        "family deep grey, as in the study; further regions, and comparisons with them, are the "
        "family other. Otherwise, the corrected P of a nucleus would depend on which further "
        "regions are labelled. If one of the five is missing, all regions are one family."
    ),
}
# Names of reference regions, where they differ from their labels in words.
REFERENCE_NAMES = {"brain": "whole brain", "csf": "CSF"}

KNOWN_TABLES = (
    "excluded",
    "rois",
    "imprecision",
    "imprecision_summary",
    "published",
    "within_versus_cross",
    "equivalence",
    "between_rois",
    "between_methods",
    "references",
    "icc",
    "components",
    "within_subject_sd",
    "sdc",
    "sample_size",
    "bland_altman",
    "bland_altman_points",
    "tubes",
    "calibration",
    "published_calibration",
    "harmonized",
    "harmonization",
    "age",
    "published_age",
    "roi_r2star",
    "tubes_r2star",
    "imprecision_r2star",
    "imprecision_summary_r2star",
    "within_subject_sd_r2star",
    "icc_r2star",
    "nuclei",
    "published_nuclei",
    "times",
    "published_times",
)
