"""Write descriptions and tables of a simulated dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ... import __version__
from ...bids_templates import load_template
from ...simulation.effects import IDEAL
from ...simulation.plan import Design
from ..files import PathLike, read_json, write_json, write_text
from ..tables import read_rows
from .effects import TABLES, write_settings
from .files import write_table
from .layout import GENERATOR, MANUAL, TRUTH

NOT_BIDS = ("coefficients.json", *(table.name for table in TABLES))  # files of the truth


def write_dataset_files(output_dir: PathLike, design: Design) -> None:
    """Write the descriptions, READMEs and tables of participants and sessions of a study, of its
    truth and of its regions.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset, made if missing. It may hold a part of the same design, which is
        kept.
    design : multiqsm.simulation.plan.Design
        The study.

    Raises
    ------
    ValueError
        If the folder holds another dataset or anything else.
    """
    output_dir = Path(output_dir)
    write_descriptions(output_dir, design, "scans")
    write_json(output_dir / "sessions.json", load_template("simulated")["sessions"])
    participants = list(map(_participant_row, design.participants))
    extend_table(output_dir / "participants.tsv", participants)
    for label, scanners in design.sessions.items():
        sessions = list(map(_session_row, scanners))
        extend_table(output_dir / f"sub-{label}" / f"sub-{label}_sessions.tsv", sessions)


def write_descriptions(output_dir: Path, design: Design, kind: str) -> None:
    """Write descriptions and READMEs of a simulated dataset, its truth and its regions, and the
    description of its columns.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the raw dataset, made if missing.
    design : multiqsm.simulation.plan.Design
        The design. Its summary and the settings of its effects state all that the files depend on.
    kind : {'scans', 'tables'}
        What the design consists of, which selects the texts in the template ``simulated``.

    Raises
    ------
    ValueError
        If the folder holds a dataset with another summary or other settings, or anything else.
    """
    texts = load_template("simulated")[kind]
    description = {
        **load_template("simulated")["dataset_description"],
        "Name": f"{texts['name']}: {design.name}",
    }
    description["GeneratedBy"] = [
        {"Name": GENERATOR, "Version": __version__, "Description": design.summary}
    ]
    _refuse_another_dataset(output_dir, description)
    write_settings(output_dir, design.effects)
    write_json(output_dir / "dataset_description.json", {**description, "DatasetType": "raw"})
    for folder, content in ((TRUTH, "the truth"), (MANUAL, "regions of interest")):
        derivative = {
            **description,
            "DatasetType": "derivative",
            "Name": f"{description['Name']}, {content}",
        }
        write_json(
            output_dir / folder / "dataset_description.json",
            {**derivative, "DatasetLinks": {"raw": "../.."}},
        )
    readme = "\n".join(texts["readme"]).format(name=design.name, summary=design.summary)
    write_text(output_dir / "README.md", readme)
    of_effects = load_template("simulated")["effects_readme"] if design.effects != IDEAL else []
    truth_readme = "\n".join([*texts["truth_readme"], *of_effects])
    write_text(output_dir / TRUTH / "README.md", truth_readme)
    write_text(output_dir / TRUTH / ".bidsignore", "\n".join(NOT_BIDS) + "\n")
    write_text(
        output_dir / MANUAL / "README.md", "\n".join(load_template("simulated")["manual_readme"])
    )
    write_text(output_dir / MANUAL / ".bidsignore", "*_desc-seeds_*.tsv\n")
    write_json(output_dir / "participants.json", texts["participants"])


def _refuse_another_dataset(output_dir, description):
    path = output_dir / "dataset_description.json"
    if not path.exists() and _has_visible_entries(output_dir):
        raise ValueError(
            f"{output_dir}: this folder contains something other than a simulated dataset; choose "
            "an empty one"
        )
    if path.exists() and read_json(path).get("GeneratedBy") != description["GeneratedBy"]:
        raise ValueError(
            f"{path}: this folder contains another dataset than "
            f"{description['GeneratedBy'][0]['Description']}; choose another output folder, or the "
            "same design, seed, voxel size, protocols, flow and effects to continue this dataset"
        )


def _has_visible_entries(folder):
    """Check for entries that are not hidden, as those of version control are."""
    if not folder.is_dir():
        return False
    return any(not entry.name.startswith(".") for entry in folder.iterdir())


def _participant_row(participant):
    row = {"participant_id": f"sub-{participant.label}", "species": participant.species}
    return {**row, "age": participant.age, "sex": participant.sex}


def _session_row(scanner):
    return {"session_id": f"ses-{scanner.site}", "site": scanner.site}


def extend_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Add rows to a TSV table; they replace existing rows with the same key.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : sequence of dict
        Rows, all with the same columns, of which the first is the key.
    """
    key = next(iter(rows[0]))
    existing = read_rows(path) if path.exists() else []
    row_of_key = {row[key]: row for row in [*existing, *rows]}
    write_table(path, [row_of_key[name] for name in sorted(row_of_key)])
