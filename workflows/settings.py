"""What a run does, as one value that is passed along; the studies' choices under their names."""

from dataclasses import dataclass, field

from ..interfaces.methods import BACKGROUNDS, DEFAULT_INVERSIONS, INVERSIONS


def option(default, meaning, *, values=None, flag=None, metavar=None, docs=None, instead_of=None):
    """Describe a choice of a run, once for the command line, its help and the README.

    Parameters
    ----------
    default
        Its value if the user says nothing.
    meaning : str
        What it is for, in a phrase.
    values : tuple or str, optional
        The values that it may have, or what kind of number it is: ``positive``, ``not_negative``,
        ``fraction`` or ``count_from_zero``. Not needed for what is text, or yes or no.
    flag : str, optional
        Its name on the command line, if that is not the field's with hyphens.
    metavar : str, optional
        What stands for its value in the help.
    docs : str, optional
        Page that says more.
    instead_of : str, optional
        Field of the choice that this one takes the place of: only one of the two may be given.

    Returns
    -------
    dataclasses.Field
    """
    described = {
        "meaning": meaning,
        "values": values,
        "flag": flag,
        "metavar": metavar,
        "docs": docs,
        "instead_of": instead_of,
    }
    return field(default=default, metadata=described)


@dataclass(frozen=True)
class Settings:
    """Choices of a run; the defaults are what measured best. Each field says what it is for (see
    `option`).
    """

    inversions: tuple[str, ...] = option(
        DEFAULT_INVERSIONS,
        "which maps; the first is shown where there is room for one",
        values=tuple(INVERSIONS),
        flag="--inversion",
        docs="docs/methods.md#inversions",
    )
    background: str = option(
        "joint",
        "how the background field is removed; joint: together with a first map",
        values=tuple(BACKGROUNDS),
        docs="docs/background.md",
    )
    unwrapping: str = option(
        "spatial",
        "how the remainder of later echoes is unwrapped, after phase was extrapolated linearly in "
        "echo time: in space, or to less than half a wrap",
        values=("spatial", "temporal"),
    )
    lambda_rule: str = option(
        "gcv",
        "how λ is chosen: generalised cross-validation (of MEDI, in proportion to the residual), "
        "or the discrepancy "
        "principle",
        values=("gcv", "discrepancy"),
    )
    lambda_value: float | None = option(
        None,
        "fixed λ of the iterative and the deterministic inversion, mm; by the rule if not given",
        values="positive",
        flag="--lambda",
        metavar="MM",
        instead_of="lambda_rule",
    )
    medi_lambda: float | None = option(
        None,
        "fixed λ of MEDI, ppm·mm; by the rule if not given",
        values="positive",
        metavar="PPM_MM",
    )
    medi_data: str = option(
        "nonlinear",
        "data term of MEDI: complex phase factors, which are insensitive to wraps, or the field",
        values=("nonlinear", "linear"),
    )
    model_error: bool = option(
        True, "down-weight voxels that are inconsistent with the dipole model (MERIT), in MEDI"
    )
    edge_share: float | None = option(
        None,
        "fraction of the magnitude's gradients that count as edges, which MEDI and the iterative "
        "inversion do not penalise; those above the noise if not given",
        values="fraction",
        metavar="SHARE",
    )
    data_weight: str = option(
        "noise",
        "data weights of the iterative inversion inside the mask: by the noise, or none",
        values=("noise", "none"),
    )
    outside_weight: float | None = option(
        None,
        "weight of the zero-field condition outside the mask, in the iterative inversion; from the "
        "noise and the field if not given",
        values="fraction",
        metavar="WEIGHT",
    )
    harmonize: bool = option(
        False,
        "bring head scans of different protocols to one voxel size, range of echo times and mask "
        "rule",
        docs="docs/harmonization.md",
    )
    reference: str = option(
        "csf",
        "region whose mean is zero in tables and in the person's space: brain, csf (a label, or "
        "found by itself), "
        "atrium (small spheres in the lateral ventricles) or a label's name",
        metavar="REGION",
    )
    atrium_radius: float = option(2.5, "radius of these spheres", values="positive", metavar="MM")
    subject_space: str = option(
        "middle",
        "where a person's scans are brought to: the middle of them, or the first",
        values=("middle", "first"),
    )
    atlas: str | None = option(
        None,
        "regions where none are drawn: pauli2017, fetched when it is needed, or a label image in "
        "MNI space",
        metavar="ATLAS",
    )
    template_warp: bool = option(
        False,
        "warp the template to the person as well, beyond an affine transform; needs "
        "multiqsm[template]",
    )
    roi_space: str = option(
        "subject",
        "where regions are measured: in the person's space, or on each scan",
        values=("subject", "scan"),
    )
    roi_erosion: float = option(
        0.0, "erode regions by so much first", values="not_negative", metavar="MM"
    )
    roi_smoothing: float = option(
        0.0,
        "smooth the surfaces of drawn and of FreeSurfer's regions by so much (full width at half "
        "maximum)",
        values="not_negative",
        metavar="MM",
    )
    exclude_veins: bool = option(False, "leave veins in regions out, and those along the thalamus")
    recon_all: bool = option(
        False,
        "run FreeSurfer, where it is installed, for people without its results; these are a source "
        "of regions",
        docs="docs/patients.md",
    )
    se_draws: int = option(
        4,
        "realisations of noise for the standard errors of MEDI and the iterative inversion; 0 for "
        "none",
        values="count_from_zero",
        metavar="N",
    )
    phase_sign: int = option(
        0, "sign of the phase; 0: the manufacturer's (GE −1, others +1)", values=(1, -1, 0)
    )

    @property
    def standard_errors(self):
        """Inversions whose maps come with a standard error: the closed form's costs nothing."""
        wanted = ("closed form", "realisations") if self.se_draws > 0 else ("closed form",)
        return tuple(name for name in self.inversions if INVERSIONS[name].standard_error in wanted)


# The 2015 study: λ by the discrepancy principle, its equation without data weights, and an edge
# mask as MEDI's, 30 % of the gradients. The 2018 study of the thalamus: MEDI as its publication has
# it, and its reference; smoothing by 1 mm and the automatic search for veins stand for the hand
# that drew.
PRESETS = {
    "default": Settings(),
    "lin2015": Settings(
        inversions=("iterative", "deterministic"),
        background="pdf",
        lambda_rule="discrepancy",
        edge_share=0.3,
        data_weight="none",
        outside_weight=1.0,
    ),
    "chiang2018": Settings(
        inversions=("medi",),
        background="pdf",
        lambda_rule="discrepancy",
        edge_share=0.3,
        model_error=False,
        reference="atrium",
        roi_smoothing=1.0,
        exclude_veins=True,
    ),
}
