"""How a run differs from the preset of a published study."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from ..bids_templates import load_template
from .settings import PRESETS, Settings

# Presets of studies that calibrate regional values by a phantom, where there is one.
CALIBRATED = ("lin2015",)
# Choices that change neither maps nor regional values, so that a study is not compared by them.
NOT_COMPARED = ("se_draws",)
# Choices of how regions are measured and referenced; all others are of how maps are made.
OF_REGIONS = (
    "reference",
    "atrium_radius",
    "subject_space",
    "atlas",
    "template_warp",
    "roi_space",
    "roi_erosion",
    "roi_smoothing",
    "exclude_veins",
    "recon_all",
)


@dataclass(frozen=True)
class Difference:
    """A choice that is not the preset's.

    Attributes
    ----------
    option : str
        Name of the option on the command line.
    preset : str
        The preset's value.
    used : str
        The value that was used; if scans differ, each value with its number of scans.
    """

    option: str
    preset: str
    used: str


def preset_of(settings: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of the preset that all scans were processed with, without any difference.

    Parameters
    ----------
    settings : sequence of dict
        Settings of each scan, as recorded: `Settings` as a dict, whose tuples may be lists.

    Returns
    -------
    str or None
        None if there is no such preset, or it is the default.
    """
    for name in PRESETS:
        if name == "default" or not settings:
            continue
        if not differences_from(name, settings, ignored=NOT_COMPARED):
            return name
    return None


def nearest_preset(
    settings: Sequence[Mapping[str, Any]], *, ignored: Sequence[str] = ()
) -> tuple[str, list["Difference"]]:
    """Find the preset from which settings differ in the fewest choices.

    Parameters
    ----------
    settings : sequence of dict
        As of `preset_of`.
    ignored : sequence of str
        Fields of `Settings` that are not compared.

    Returns
    -------
    preset : str
        Its name. Of presets that are as near, that with the fewest differences in all choices, also
        those that are not compared: regional values of a run with a preset are then not said to be
        by the defaults if both have the same choices. Otherwise the default.
    differences : list of Difference
        The choices that are not the preset's.

    Examples
    --------
    >>> used = asdict(PRESETS["lin2015"]) | {"background": "vsharp"}
    >>> nearest_preset([used])
    ('lin2015', [Difference(option='--background', preset='pdf', used='vsharp')])
    """
    differences = {}
    distances = {}
    for preset in PRESETS:
        differences[preset] = differences_from(preset, settings, ignored=ignored)
        n_in_all_choices = len(differences_from(preset, settings))
        distances[preset] = (len(differences[preset]), n_in_all_choices)
    nearest = min(PRESETS, key=distances.__getitem__)
    return nearest, differences[nearest]


def differences_from(
    preset: str, settings: Sequence[Mapping[str, Any]], *, ignored: Sequence[str] = ()
) -> list[Difference]:
    """List the choices in which scans were not processed as a preset does.

    Parameters
    ----------
    preset : str
        Name of the preset.
    settings : sequence of dict
        As of `preset_of`.
    ignored : sequence of str
        Fields of `Settings` that are not compared.

    Returns
    -------
    list of Difference
        In the order of the options. A choice that a record lacks is not compared: the option did
        not exist yet.

    Examples
    --------
    >>> used = asdict(PRESETS["lin2015"]) | {"background": "vsharp"}
    >>> differences_from("lin2015", [used])
    [Difference(option='--background', preset='pdf', used='vsharp')]
    """
    preset_values = asdict(PRESETS[preset])
    differences = []
    for field in fields(Settings):
        if field.name in ignored:
            continue
        text = _text(preset_values[field.name])
        used = [_text(values[field.name]) for values in settings if field.name in values]
        if set(used) <= {text}:
            continue
        option = field.metadata["flag"] or f"--{field.name.replace('_', '-')}"
        differences.append(Difference(option, text, _counted(used)))
    return differences


def method_differences(preset: str, differences: Sequence[Difference] = ()) -> list[str]:
    """Return how a preset's methods differ from the study's in ways that no option changes.

    Parameters
    ----------
    preset : str
        Name of the preset.
    differences : sequence of Difference
        Choices that are not the preset's: what concerns these methods is left out.

    Returns
    -------
    list of str
        A sentence each.
    """
    changed = [difference.option for difference in differences]
    texts = []
    for difference in load_template("presets")[preset]["Differences"]:
        if difference.get("Option") not in changed:
            texts.append(difference["Text"])
    return texts


def preset_title(preset: str) -> str:
    """Return the name of a preset's study, such as ``Lin 2015``."""
    return load_template("presets")[preset]["Title"]


def report_inputs(
    preset: str | None, differences: Sequence[Difference], n_unrecorded: int
) -> dict[str, Any]:
    """Return the inputs by which a report compares the scans' settings with a preset's.

    Parameters
    ----------
    preset : str or None
        Name of the preset; None if there is nothing to compare with.
    differences : sequence of Difference
        Choices that are not the preset's.
    n_unrecorded : int
        Number of scans whose settings are not recorded, so that they cannot be compared.

    Returns
    -------
    dict
        Inputs of `multiqsm.interfaces.group.GroupReport` and ``ModelReport``.
    """
    if preset is None:
        return {}
    return {
        "preset": preset_title(preset),
        "differences": [astuple(difference) for difference in differences],
        "method_differences": method_differences(preset, differences),
        "n_unrecorded": n_unrecorded,
    }


def _counted(texts: Sequence[str]) -> str:
    counts = Counter(texts)
    if len(counts) == 1:
        return texts[0]
    return ", ".join(f"{text} ({n} of {len(texts)} scans)" for text, n in counts.most_common())


def _text(value: Any) -> str:
    if value is None:
        return "automatic"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float | int) else str(value)
