"""Descriptions and tables of a simulated dataset."""

from pathlib import Path

from ... import __version__
from ...bids_templates import load_template
from ..files import read_json, write_json, write_text
from ..tables import read_rows
from .files import write_table
from .layout import GENERATOR, MANUAL, TRUTH


def write_dataset_files(output_dir, design):
    """Write what describes a study, its truth and its regions: descriptions, README, participants
    and sessions.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset, made if missing. It may hold a part of the same design: what is
        there stays.
    design : multiqsm.simulation.plan.Design
        The study.

    Raises
    ------
    ValueError
        If the folder holds another dataset or anything else.
    """
    output_dir = Path(output_dir)
    write_descriptions(output_dir, design.name, design.summary, "scans")
    write_json(output_dir / "sessions.json", load_template("simulated")["sessions"])
    extend_table(
        output_dir / "participants.tsv", [_participant_row(who) for who in design.participants]
    )
    for label, scanners in design.sessions.items():
        rows = [{"session_id": f"ses-{scanner.site}", "site": scanner.site} for scanner in scanners]
        extend_table(output_dir / f"sub-{label}" / f"sub-{label}_sessions.tsv", rows)


def write_descriptions(output_dir, name, summary, kind):
    """Write description and README of a simulated dataset, its truth and its regions, and what its
    columns mean.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the raw dataset, made if missing.
    name, summary : str
        Of the design; the summary has all that the dataset's files depend on.
    kind : {'scans', 'tables'}
        What the design makes: names its texts in the template ``simulated``.

    Raises
    ------
    ValueError
        If the folder holds another dataset than that of this summary, or anything else.
    """
    texts = load_template("simulated")[kind]
    description = {
        **load_template("simulated")["dataset_description"],
        "Name": f"{texts['name']}: {name}",
    }
    description["GeneratedBy"] = [
        {"Name": GENERATOR, "Version": __version__, "Description": summary}
    ]
    _refuse_another_dataset(output_dir, description)
    write_json(output_dir / "dataset_description.json", {**description, "DatasetType": "raw"})
    for folder, what in ((TRUTH, "the truth"), (MANUAL, "regions of interest")):
        derivative = {
            **description,
            "DatasetType": "derivative",
            "Name": f"{description['Name']}, {what}",
        }
        write_json(
            output_dir / folder / "dataset_description.json",
            {**derivative, "DatasetLinks": {"raw": "../.."}},
        )
    write_text(
        output_dir / "README.md", "\n".join(texts["readme"]).format(name=name, summary=summary)
    )
    write_text(output_dir / TRUTH / "README.md", "\n".join(texts["truth_readme"]))
    write_text(
        output_dir / MANUAL / "README.md", "\n".join(load_template("simulated")["manual_readme"])
    )
    write_text(output_dir / MANUAL / ".bidsignore", "*_desc-seeds_*.tsv\n")
    write_json(output_dir / "participants.json", texts["participants"])


def _refuse_another_dataset(output_dir, description):
    path = output_dir / "dataset_description.json"
    # Hidden files, such as those of version control, are no other dataset.
    others = output_dir.is_dir() and any(
        not entry.name.startswith(".") for entry in output_dir.iterdir()
    )
    if others and not path.exists():
        raise ValueError(
            f"{output_dir}: this folder holds no simulated dataset but something else; choose an "
            "empty one"
        )
    if path.exists() and read_json(path).get("GeneratedBy") != description["GeneratedBy"]:
        raise ValueError(
            f"{path}: this folder holds another dataset than "
            f"{description['GeneratedBy'][0]['Description']}; "
            "choose another output folder, or the same design, seed, voxel size, protocols and "
            "flow to go on with it"
        )


def _participant_row(participant):
    row = {"participant_id": f"sub-{participant.label}", "species": participant.species}
    return {**row, "age": participant.age, "sex": participant.sex}


def extend_table(path, rows):
    """Write rows of a TSV table, and keep the other rows that are there already.

    Parameters
    ----------
    path : pathlib.Path
        The table.
    rows : list of dict
        Rows, all with the same columns, of which the first is the key.
    """
    key = next(iter(rows[0]))
    kept = {}
    if path.exists():
        kept = {row[key]: row for row in read_rows(path)}
    kept |= {row[key]: row for row in rows}
    write_table(path, [kept[name] for name in sorted(kept)])
