"""Settings: the choices of a run, and presets of published studies."""

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from ..interfaces.methods import BACKGROUNDS, DEFAULT_INVERSIONS, INVERSIONS

# The kinds of numbers: how each is called in an error, and its condition.
NUMBERS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "positive": ("a number above 0", lambda number: number > 0),
    "not_negative": ("a number of 0 or more", lambda number: number >= 0),
    "fraction": ("a number from 0 to 1", lambda number: 0 <= number <= 1),
    "count_from_zero": ("a whole number of 0 or more", lambda n: n >= 0 and n == int(n)),
}


def option(
    default: Any,
    meaning: str,
    *,
    automatic: str | None = None,
    values: tuple | str | None = None,
    flag: str | None = None,
    metavar: str | None = None,
    docs: str | None = None,
    instead_of: str | None = None,
) -> Any:
    """Describe a choice of a run, once for the command line, its help and the README.

    Parameters
    ----------
    default
        Value if the user does not give one.
    meaning : str
        Its purpose, in a phrase.
    automatic : str, optional
        The meaning of a default of None, in a phrase.
    values : tuple or str, optional
        The possible values, or the kind of number: ``positive``, ``not_negative``, ``fraction`` or
        ``count_from_zero``. Not needed for texts and switches.
    flag : str, optional
        Name on the command line. By default the field's name with hyphens.
    metavar : str, optional
        Placeholder for the value in the help.
    docs : str, optional
        Page with details.
    instead_of : str, optional
        Field of the choice that this one replaces: only one of the two may be given.

    Returns
    -------
    dataclasses.Field
        Typed as Any, since the field stands for its value in the class body.
    """
    description = {
        "meaning": meaning,
        "automatic": automatic,
        "values": values,
        "flag": flag,
        "metavar": metavar,
        "docs": docs,
        "instead_of": instead_of,
    }
    return field(default=default, metadata=description)


@dataclass(frozen=True)
class Settings:
    """Choices of a run. The defaults are those that measured best; each field has its meaning (see
    `option`).

    Raises
    ------
    ValueError
        If a value is not among those that its field may have.

    Examples
    --------
    >>> Settings(background="joint")
    Traceback (most recent call last):
    ...
    ValueError: background='joint': use one of tfi, pdf, vsharp, sharp, highpass
    """

    inversions: tuple[str, ...] = option(
        DEFAULT_INVERSIONS,
        "inversions to run; reports with a single map show the first",
        values=tuple(INVERSIONS),
        flag="--inversion",
        docs="docs/methods.md#inversions",
    )
    background: str = option(
        "tfi",
        "background field removal; tfi: total field inversion, used for its local field",
        values=tuple(BACKGROUNDS),
        docs="docs/background.md",
    )
    unwrapping: str = option(
        "spatial",
        "how later echoes are unwrapped: predicted linearly in echo time, with the remainder "
        "unwrapped in space (spatial) or taken to be less than half a wrap (temporal); or every "
        "echo in three dimensions (individual)",
        values=("spatial", "temporal", "individual"),
    )
    lambda_rule: str = option(
        "whitened",
        "how the regularisation parameter λ is chosen: generalised cross-validation that also "
        "considers the spectrum of the field's error (whitened) or takes that error for white "
        "noise (gcv; for MEDI, with either: in proportion to the residual), or the discrepancy "
        "principle",
        values=("whitened", "gcv", "discrepancy"),
    )
    # --lambda is `lambda_value` from here down to the functions of `core`, since `lambda` is a
    # keyword of Python, and a name that ends in an underscore a wildcard of traits, and so of
    # Nipype's inputs.
    lambda_value: float | None = option(
        None,
        "fixed λ of the iterative and the deterministic inversion, in mm",
        automatic="chosen by --lambda-rule",
        values="positive",
        flag="--lambda",
        metavar="MM",
        instead_of="lambda_rule",
    )
    medi_lambda: float | None = option(
        None,
        "fixed λ of MEDI, in ppm·mm",
        automatic="chosen by --lambda-rule",
        values="positive",
        metavar="PPM_MM",
    )
    medi_data: str = option(
        "nonlinear",
        "data term of MEDI: complex phase factors, which are insensitive to wraps, or the field",
        values=("nonlinear", "linear"),
    )
    merit: bool = option(
        True, "MEDI: down-weight voxels that are inconsistent with the dipole model (MERIT)"
    )
    edge_fraction: float | None = option(
        None,
        "fraction of the magnitude's gradients that count as edges in MEDI, TFI and the iterative "
        "inversion",
        automatic="those above the noise",
        values="fraction",
        metavar="FRACTION",
    )
    data_weighting: str = option(
        "noise",
        "iterative inversion: data weights inside the mask, by the noise, or none",
        values=("noise", "none"),
    )
    exterior_weight: float | None = option(
        None,
        "iterative inversion: weight of the zero-field condition outside the mask",
        automatic="from the noise and the field",
        values="fraction",
        metavar="WEIGHT",
    )
    harmonize: bool = option(
        False,
        "bring head scans of different protocols to the same voxel size, range of echo times and "
        "mask rule",
        docs="docs/harmonization.md",
    )
    reference: str = option(
        "csf",
        "region whose mean susceptibility is set to zero in tables and in subject space: brain, "
        "csf (a label, or segmented automatically), atrium (small spheres in the lateral "
        "ventricles), or the name of a label",
        metavar="REGION",
    )
    atrium_radius: float = option(
        2.5, "radius of the spheres of --reference atrium, in mm", values="positive", metavar="MM"
    )
    subject_space: str = option(
        "middle",
        "space to which a subject's scans are registered: halfway between them, or the first scan",
        values=("middle", "first"),
    )
    atlas: str | None = option(
        None,
        "regions for scans without drawn ones: pauli2017, downloaded when needed, or a label image "
        "in MNI space",
        automatic="no atlas",
        metavar="ATLAS",
    )
    template_warp: bool = option(
        False,
        "register the template nonlinearly, after the affine registration; needs "
        "multiqsm[template]",
    )
    roi_space: str = option(
        "subject",
        "where regions are measured: in subject space, or in the space of each scan",
        values=("subject", "scan"),
    )
    roi_erosion: float = option(
        0.0, "erode regions before measuring, in mm", values="not_negative", metavar="MM"
    )
    roi_smoothing: float = option(
        0.0,
        "smooth the surfaces of drawn regions and of FreeSurfer's, full width at half maximum in "
        "mm",
        values="not_negative",
        metavar="MM",
    )
    exclude_veins: bool = option(
        False, "leave out veins within regions, and those along the thalamus"
    )
    recon_all: bool = option(
        False,
        "run FreeSurfer's recon-all, if installed, for subjects without its results; its "
        "segmentation is a source of regions",
        docs="docs/patients.md",
    )
    se_draws: int = option(
        4,
        "noise realisations for the standard errors of MEDI and the iterative inversion; 0: none",
        values="count_from_zero",
        metavar="N",
    )
    phase_sign: int = option(
        0, "sign of the phase; 0: that of the manufacturer (GE −1, others +1)", values=(1, -1, 0)
    )

    def __post_init__(self) -> None:
        for choice in fields(self):
            _check_choice(choice, getattr(self, choice.name))

    @property
    def standard_errors(self) -> tuple[str, ...]:
        """Inversions whose maps have a standard error.

        One in closed form is always computed, since it costs little; one from noise realisations
        only if there are any.
        """
        kinds = {"closed form"}
        if self.se_draws > 0:
            kinds.add("realisations")
        return tuple(name for name in self.inversions if INVERSIONS[name].standard_error in kinds)


def _check_choice(choice: Field, value: Any) -> None:
    """Raise an error if a field may not have a value."""
    values = choice.metadata["values"]
    if value is None and choice.default is None:
        return
    if isinstance(choice.default, bool):
        is_allowed = isinstance(value, bool)
        allowed = "True or False"
    elif isinstance(choice.default, tuple):
        is_allowed = isinstance(value, tuple) and len(value) > 0 and set(value) <= set(values)
        allowed = f"a tuple of {', '.join(values)}"
    elif isinstance(values, tuple):
        is_allowed = value in values
        allowed = f"one of {', '.join(map(str, values))}"
    elif values is not None:
        allowed, condition = NUMBERS[values]
        is_allowed = (
            isinstance(value, int | float) and not isinstance(value, bool) and condition(value)
        )
    else:
        is_allowed = isinstance(value, str) and value != ""
        allowed = "a text"
    if not is_allowed:
        raise ValueError(f"{choice.name}={value!r}: use {allowed}")


# The 2015 study: every echo unwrapped in three dimensions, λ by the discrepancy principle, its
# equation without data weights, and an edge mask as MEDI's, 30 % of the gradients. The 2018 study
# of the thalamus: MEDI and the reference as published; smoothing by 1 mm and the automatic
# detection of veins replace drawing by hand.
PRESETS = {
    "default": Settings(),
    "lin2015": Settings(
        inversions=("iterative", "deterministic"),
        background="pdf",
        unwrapping="individual",
        lambda_rule="discrepancy",
        edge_fraction=0.3,
        data_weighting="none",
        exterior_weight=1.0,
    ),
    "chiang2018": Settings(
        inversions=("medi",),
        background="pdf",
        lambda_rule="discrepancy",
        edge_fraction=0.3,
        merit=False,
        reference="atrium",
        roi_smoothing=1.0,
        exclude_veins=True,
    ),
}
