"""JSON templates: names, patterns and texts of the datasets that are read and written."""

import json
from importlib.resources import files
from typing import Any

SHIPPED_MODELS = ("thalamus",)  # models of studies, as templates model_<name>


def load_template(name: str) -> Any:
    """Load one of the JSON templates.

    Parameters
    ----------
    name : str
        The file's stem, such as ``queries`` or ``derivatives``.

    Returns
    -------
    dict or list
        The parsed file, a fresh copy at each call.

    Raises
    ------
    FileNotFoundError
        If there is no such template.

    Examples
    --------
    >>> load_template("queries")["megre"]["datatype"]
    'anat'
    """
    return json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
