"""Tables of a simulated dataset's truth that say which effects its scans have, and how large."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...bids_templates import load_template
from ...simulation.effects import Effects
from ..files import PathLike, read_json
from ..tables import read_rows
from .files import write_table
from .layout import TRUTH

SETTINGS = TRUTH / "settings.tsv"
DRAWN = TRUTH / "effects.tsv"
FINDINGS = TRUTH / "findings.tsv"
TABLES = (SETTINGS, DRAWN, FINDINGS)
NOTHING = "n/a"
UNDESCRIBED = {"Units": NOTHING, "Description": NOTHING}
MAGNITUDE = "_magnitude.json"  # end of the sidecars that have what was drawn for a scan


def write_settings(output_dir: PathLike, effects: Effects) -> None:
    """Write the settings of each effect, from which the sizes in single scans are drawn.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    effects : multiqsm.simulation.effects.Effects
        The effects.

    Raises
    ------
    ValueError
        If the dataset was simulated with other settings.
    """
    path = Path(output_dir) / SETTINGS
    rows = _setting_rows(effects)
    if path.exists() and read_rows(path) != rows:
        raise ValueError(
            f"{path}: this dataset has effects with other settings than are asked for; choose "
            "another output folder, or the same effects and findings to continue this dataset"
        )
    if rows:
        write_table(path, rows)


def _setting_rows(effects):
    descriptions = load_template("simulated_effects")
    rows = []
    for effect, amplitudes in effects.amplitudes().items():
        if amplitudes is None:
            continue
        about = descriptions[effect]
        settings = _flat(asdict(amplitudes))
        if not settings:
            rows.append(_setting_row(effect, NOTHING, NOTHING, about))
        for name, value in settings.items():
            rows.append(
                _setting_row(effect, name, _text(value), about["Settings"].get(name, UNDESCRIBED))
            )
    return rows


def _setting_row(effect, name, value, about):
    return {
        "effect": effect,
        "setting": name,
        "value": value,
        "units": about.get("Units", NOTHING),
        "description": about["Description"],
    }


def write_drawn(output_dir: PathLike) -> None:
    """Write what was drawn for each simulated scan, and the findings of each person.

    Both are collected from the sidecars of the truth, of whatever part of the design was simulated.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    """
    output_dir = Path(output_dir)
    drawn = []
    findings: dict[str, list[dict[str, object]]] = {}
    for path in sorted((output_dir / TRUTH).rglob(f"*{MAGNITUDE}")):
        effects = read_json(path).get("Effects", {})
        label = path.name.removesuffix(MAGNITUDE)
        drawn += _drawn_rows(label, effects)
        if "pathology" in effects:
            person = label.split("_")[0]
            findings[person] = _finding_rows(person, effects["pathology"]["Findings"])
    if drawn:
        write_table(output_dir / DRAWN, drawn)
    if findings:
        write_table(output_dir / FINDINGS, [row for rows in findings.values() for row in rows])


def _drawn_rows(scan, effects):
    descriptions = load_template("simulated_effects")
    rows = []
    for effect, record in effects.items():
        for quantity, value in record.items():
            about = descriptions[effect]["Drawn"].get(quantity, UNDESCRIBED)
            rows.append(
                {
                    "scan": scan,
                    "effect": effect,
                    "quantity": quantity,
                    "value": _text(value),
                    "units": about["Units"],
                    "description": about["Description"],
                }
            )
    return rows


def _finding_rows(person, findings):
    """Return a row for each finding, and one that says so if a person has none."""
    if not findings:
        return [_finding_row(person, "none")]
    rows = []
    for finding in findings:
        if "Axis" in finding:
            ends = np.array(finding["Axis"])
            radius = float(ends[0, 3])
            rows.append(_finding_row(person, finding["Name"], ends[:, :3].mean(axis=0), [radius]))
            continue
        row = _finding_row(person, finding["Name"], finding["Centre"], finding["Radii"])
        rows.append({**row, "susceptibility_ppm": _text(finding["Susceptibility"])})
    return rows


def _finding_row(person, name, centre=(None, None, None), radii=None):
    row = {"participant_id": person, "finding": name}
    for axis, place in zip("xyz", centre, strict=True):
        row[f"{axis}_mm"] = NOTHING if place is None else f"{place:.1f}"
    row["radii_mm"] = NOTHING if radii is None else " ".join(f"{radius:.2f}" for radius in radii)
    row["susceptibility_ppm"] = NOTHING
    return row


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    """Return nested settings by names joined by dots."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            for inner, part in _flat(value).items():
                flat[f"{name}.{inner}"] = part
        else:
            flat[name] = value
    return flat


def _text(value):
    """Return a value as text: numbers of a list separated by spaces, lists by semicolons."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if not value:
        return "none"
    first = value[0]
    if isinstance(first, Mapping):
        return str(len(value))
    separator = "; " if isinstance(first, Sequence) else " "
    return separator.join(_text(part) for part in value)
