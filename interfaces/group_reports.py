"""What the two reports of the group level have in common: that of a study and that of a model."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, isdefined, traits

from ..dataset.files import PathLike, read_json
from ..dataset.methods import CITATION
from ..dataset.tables import write_tsv
from ..dataset.values import counted

DIFFERENCE_COLUMNS = ["option", "preset", "used"]


class PresetInputSpec(BaseInterfaceInputSpec):
    """Inputs of a report that compares the scans' settings with a preset's."""

    preset = traits.Str(desc="title of the study whose preset was used")
    differences = traits.List(
        traits.Tuple(traits.Str, traits.Str, traits.Str),
        usedefault=True,
        desc="choices that are not the preset's: option, the preset's value, the value used",
    )
    n_unrecorded = traits.Int(
        0, usedefault=True, desc="number of scans whose settings are not recorded"
    )
    method_differences = traits.List(
        traits.Str, usedefault=True, desc="how the preset's methods differ from the study's"
    )


def settings_text(inputs: PresetInputSpec, n_differences: int) -> dict[str, str]:
    """Say as which study's preset the scans were processed, for the overview of a report.

    Parameters
    ----------
    inputs : PresetInputSpec
        Inputs of the report.
    n_differences : int
        Number of choices that are not the preset's.

    Returns
    -------
    dict of str to str
        An entry of the overview; empty if there is no preset to compare with.
    """
    preset = inputs.preset
    if not isdefined(preset):
        return {}
    text = f"as {preset}"
    if n_differences:
        choices = counted(n_differences, "choice")
        text = f"preset {preset}, with {choices} changed (listed below)"
    if inputs.n_unrecorded:
        text = (
            f"not known of {counted(inputs.n_unrecorded, 'scan')} without a current completion "
            f"record; of the others: {text}"
        )
    return {"settings": text}


def write_tables(folder: PathLike, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Write tables to a node's working directory.

    Parameters
    ----------
    folder : path-like
        The working directory.
    tables : dict of str to DataFrame
        Tables by their names.

    Returns
    -------
    dict of str to str
        Their files.
    """
    files = {}
    for name, table in tables.items():
        files[name] = str(write_tsv(Path(folder) / f"{name}.tsv", table))
    return files


def citation_text(root: Path) -> str:
    """Return the methods text of a derivative dataset; empty if there is none."""
    path = root / CITATION
    return path.read_text(encoding="utf-8") if path.exists() else ""


def software_versions(root: Path) -> dict[str, str]:
    """Return the versions of the software that made a derivative dataset, by name."""
    generators = read_json(root / "dataset_description.json").get("GeneratedBy", [])
    return {generator["Name"]: generator.get("Version", "") for generator in generators}
