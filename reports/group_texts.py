"""What the columns and the tables of a study's report mean."""

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
    Column("n_tests", "tests", "d"),
    Column("p_bonferroni", "P, Bonferroni", "p"),
    Column("significant"),
)
_INTERVAL = (Column("ci_low", "95 % CI from", ".2f"), Column("ci_high", "to", ".2f"))
COLUMNS = {
    "imprecision_summary": (
        METHOD,
        ROI,
        Column("n_subjects", "subjects", "d"),
        Column("mean", "χ (ppb)", ".1f", PPB),
        Column("mean_sd", "SD over subjects (ppb)", ".1f", PPB),
        Column("within", "within-site (ppb)", ".1f", PPB),
        Column("published_within", "publ. (ppb)", ".1f", PPB),
        Column("cross", "cross-site (ppb)", ".1f", PPB),
        Column("published_cross", "publ. (ppb)", ".1f", PPB),
        Column("within_percent", "within-site (%)", ".1f"),
        Column("published_within_percent", "publ. (%)", ".1f"),
        Column("cross_percent", "cross-site (%)", ".1f"),
        Column("published_cross_percent", "publ. (%)", ".1f"),
    ),
    "within_versus_cross": (METHOD, ROI, *_TEST),
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
    "icc": (
        METHOD,
        ROI,
        Column("raters"),
        Column("site"),
        Column("form"),
        Column("icc", "ICC", ".3f"),
        Column("ci_low", "95 % CI from", ".3f"),
        Column("ci_high", "to", ".3f"),
        Column("n_subjects", "subjects", "d"),
        Column("n_raters", "raters", "d"),
        Column("n_left_out", "subjects left out", "d"),
        Column("n_raters_left_out", "raters left out", "d"),
    ),
    "components": (
        METHOD,
        ROI,
        Column("component"),
        Column("sd", "SD (ppb)", ".2f"),
        Column("sd_low", "95 % CI from", ".2f"),
        Column("sd_high", "to", ".2f"),
        Column("share", "share of variance (%)", ".1f"),
        Column("n_levels", "levels", "d"),
        Column("n_scans", "scans", "d"),
    ),
    "within_subject_sd": (
        METHOD,
        ROI,
        Column("definition", "scatter of"),
        Column("sdw", "SDw (ppb)", ".2f"),
        *_INTERVAL,
        Column("df", "df", "d"),
        Column("n_subjects", "subjects", "d"),
        Column("n_scans", "scans", "d"),
    ),
    "sdc": (
        METHOD,
        ROI,
        Column("definition", "scatter of"),
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
        Column("n_left_out", "left out", "d"),
    ),
    "excluded": (
        *(Column(name) for name in ("subject", "session", "run", "site", "protocol")),
        Column("reason"),
    ),
    "calibration": (
        METHOD,
        Column("site"),
        Column("slope", "slope", ".4f"),
        Column("slope_ci_low", "95 % CI from", ".4f"),
        Column("slope_ci_high", "to", ".4f"),
        Column("intercept", "intercept (ppm)", "+.4f"),
        Column("intercept_ci_low", "95 % CI from", "+.4f"),
        Column("intercept_ci_high", "to", "+.4f"),
        Column("r_squared", "R²", ".5f"),
        Column("residual_sd", "residual SD (ppm)", ".4f"),
        Column("n_tubes", "tubes", "d"),
        Column("n_points", "points", "d"),
        Column("n_scans", "scans", "d"),
        Column("n_missing", "missing values", "d"),
        Column("note"),
    ),
    "age": (
        METHOD,
        ROI,
        Column("analysis"),
        Column("slope", "slope (ppb/year)", "+.3f", PPB),
        Column("ci_low", "95 % CI from", "+.3f", PPB),
        Column("ci_high", "to", "+.3f", PPB),
        Column("r", "Pearson r", "+.2f"),
        Column("df", "df", "d"),
        Column("p", "P", "p"),
        Column("n_scans", "scans", "d"),
        Column("n_subjects", "subjects", "d"),
        Column("n_missing", "missing", "d"),
        Column("note"),
    ),
}
NOTES = {
    "rois": "Each point is the mean susceptibility of a region in one scan; a site's scans stand "
    "in their order.",
    "imprecision": (
        "Within-site imprecision is how much repeated scans on one scanner differ (the standard "
        "deviation over a "
        "site's scans, averaged over sites); cross-site imprecision is how much the sites differ "
        "in one scan index "
        "(the standard deviation over sites, averaged over scans). Percentages are of the mean "
        "susceptibility."
    ),
    "published": "Published figures are those of Lin et al., AJNR 2015, nine people on three "
    "scanners.",
    "within_versus_cross": (
        "Paired t-test over subjects of cross-site minus within-site imprecision: a clear "
        "difference would mean that "
        "changing the scanner costs precision beyond repeating the scan."
    ),
    "between_rois": "Paired t-tests over subjects of whether two regions differ in imprecision "
    "(first minus second).",
    "between_methods": "Paired t-tests over subjects of whether two inversions differ (first minus "
    "second).",
    "icc": (
        "The intraclass correlation is the share of all variance that comes from true differences "
        "between people: 1 is "
        "perfect, above 0.9 excellent, below 0.5 poor. ICC(2,1) counts offsets of sites as error, "
        "ICC(3,1) does not. "
        "It depends on how different the people are: a homogeneous group lowers it."
    ),
    "components": (
        "Variance components split the scatter of all scans into what people, sites, people at "
        "sites and repeated "
        "scans contribute; each is given as a standard deviation in ppb."
    ),
    "within_subject_sd": (
        "The within-subject standard deviation (SDw) is the scatter of one person's repeated "
        "measurements about "
        "their own mean."
    ),
    "sdc": (
        "The smallest detectable change (SDC) is the change between two scans of one person that "
        "measurement error "
        "alone exceeds only once in twenty times: 1.96 √2 SDw."
    ),
    "sample_size": "The number of people that a study needs to find an effect of this size with "
    "the power stated.",
    "bland_altman": (
        "Bland-Altman: the differences of two sites (or methods) on the same people. The bias "
        "(solid line) is their "
        "mean; 95 % of differences are expected between the limits of agreement (dashed lines)."
    ),
    "calibration": (
        "Calibration is a straight line through measured against expected susceptibility of the "
        "phantom's tubes: a "
        "slope of 1 and an intercept of 0 would be perfect; in-vivo values are divided by the "
        "slope."
    ),
    "harmonization": (
        "Harmonisation brings the sites' scans to one protocol. Points are scans, bars a site's "
        "mean; both as "
        "differences from the subject's mean over sites. What moves towards zero was the "
        "protocol's doing."
    ),
    "age": (
        "The naive line takes every scan as another person, as the published analysis did: its P "
        "is too small. The "
        "honest ones take one mean per person, or let every person have their own level (random "
        "intercept). Error bars "
        "are the person's cross-site variability, faint points the scans."
    ),
}
KNOWN_TABLES = (
    *(
        "excluded",
        "rois",
        "imprecision",
        "imprecision_summary",
        "published",
        "within_versus_cross",
        "between_rois",
    ),
    *(
        "between_methods",
        "icc",
        "components",
        "within_subject_sd",
        "sdc",
        "sample_size",
        "bland_altman",
    ),
    *("bland_altman_points", "tubes", "calibration", "harmonized", "harmonization", "age"),
)
