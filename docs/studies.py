"""Write docs/studies.md: both published studies, item by item, published beside measured.

    python docs/studies.py STUDY_OUT THALAMUS_OUT PATIENTS_OUT

reads the tables that the group level wrote of a simulated 2015 study (`--preset lin2015`), those of
the 2018 model of a cohort without images, and the regional values and lesions of some patients with
images (`--preset chiang2018`). The truth of the study and of the patients is read from the
simulated datasets that the descriptions of STUDY_OUT and PATIENTS_OUT name. `python docs/tables.py
studies --work DIR` runs all commands that this needs.
"""

import argparse
from pathlib import Path

import pandas as pd
from page_tables import paragraph
from studies_2015 import study_parts
from studies_2018 import thalamus_parts
from tables import commit

from multiqsm.dataset.tables import read_tsv

DOCS = Path(__file__).parent


def main() -> None:
    """Write the page from the folders that the command names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, metavar="STUDY_OUT")
    parser.add_argument("thalamus", type=Path, metavar="THALAMUS_OUT")
    parser.add_argument("patients", type=Path, metavar="PATIENTS_OUT")
    parser.add_argument(
        "--commits",
        metavar="TEXT",
        help="commits at which scans and tables were made, if not at that of this checkout",
    )
    options = parser.parse_args()
    page = studies_page(
        options.study,
        options.thalamus,
        options.patients,
        commits=options.commits or f"commit {commit()}",
    )
    (DOCS / "studies.md").write_text(page, encoding="utf-8")


def studies_page(study: Path, thalamus: Path, patients: Path, *, commits: str) -> str:
    """Fill the template of the page.

    Parameters
    ----------
    study, thalamus, patients : Path
        Derivative datasets of the 2015 study, of the 2018 cohort and of patients with images.
    commits : str
        The commits of the code that made them.

    Returns
    -------
    str
        Markdown.
    """
    parts = {
        "commits": paragraph(f"{commits}."),
        **study_parts(group_tables(study / "group"), study),
        **thalamus_parts(group_tables(thalamus / "group" / "model-thalamus"), patients),
    }
    template = (DOCS / "studies.template.md").read_text(encoding="utf-8")
    return template.format(**parts)


def group_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all tables of a folder.

    Parameters
    ----------
    folder : Path
        Such as ``group`` of a derivative dataset.

    Returns
    -------
    dict of str to DataFrame
        By the names of the files.
    """
    return {path.stem: read_tsv(path) for path in sorted(folder.glob("*.tsv"))}


if __name__ == "__main__":
    main()
