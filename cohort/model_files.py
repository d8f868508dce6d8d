"""Read model files: the regressions of a study, in the terms of BIDS Stats Models where they
apply.
"""

import re
from pathlib import Path

import yaml

from ..bids_templates import SHIPPED_MODELS, load_template
from ..dataset.content import require_content
from ..dataset.files import PathLike, reading_failure
from ..dataset.problems import DatasetError
from ..dataset.structured import parse_structured
from ..dataset.tables import EARLIER_COLUMNS
from ..stats.filters import parse_filter
from ..stats.specification import ALL, Exclusion, Node, StudyModel, Subset
from ..stats.transformations import TRANSFORMATIONS, Transformation

TRANSFORMER = "multiqsm"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")  # becomes part of file names
LARGEST = 1_000_000  # bytes

# Names of the other tables of the results.
RESERVED = (
    "before_and_after",
    "covariates",
    "diagnostics",
    "residuals",
    "ladder",
    "descriptives",
    "power",
    "excluded",
    "patients",
    "problems",
    "sources",
)
NEED_VALUE = ("Power",)
MAY_HAVE_VALUE = ("Center",)
MODEL_KEYS = (
    "Name",
    "BIDSModelVersion",
    "Description",
    "Input",
    "Exclude",
    "Transformations",
    "Subsets",
    "Describe",
    "Power",
)
IF_AVAILABLE = "if available"  # applies a rule only if someone has its columns


def read_model(source: PathLike) -> StudyModel:
    """Read a model.

    Parameters
    ----------
    source : path-like
        A JSON or YAML file, or the name of a model that comes with the package (`SHIPPED_MODELS`).

    Returns
    -------
    multiqsm.stats.specification.StudyModel
        Invalid nodes are left out and reported in its ``problems``.

    Raises
    ------
    DatasetError
        If the file cannot be read, or if anything but a node is invalid: unknown keys, filters that
        cannot be parsed, transformations that do not exist. The message states the place.
    """
    if str(source) in SHIPPED_MODELS:
        return _model(load_template(f"model_{source}"))
    path = Path(source)
    require_content(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes, so not a model file")
        text = path.read_text(encoding="utf-8-sig")
        is_yaml = path.suffix.lower() in (".yaml", ".yml")
        return _model(parse_structured(text, is_yaml=is_yaml))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        cause = f"--model {source}: {reading_failure(error)}"
        if isinstance(error, OSError):
            cause += f"; models that come with multiqsm: {', '.join(SHIPPED_MODELS)}"
        raise DatasetError(cause) from error


def _model(content):
    content = _object(content, "the model", (*MODEL_KEYS, "Nodes"))
    name = content.get("Name")
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        raise ValueError(
            f"Name {name!r:.80} of the model: use letters, digits, +, - and _, at most 64"
        )
    if not str(content.get("BIDSModelVersion", "1.0.0")).startswith("1."):
        version = content["BIDSModelVersion"]
        raise ValueError(f"BIDSModelVersion {version!r:.80}: only 1.x is supported")
    inputs = {}
    for key, value in _section(content, "Input", ("Method", "Region", "Reference")).items():
        inputs[key.lower()] = _text(value, f"Input, {key}")
    power = {}
    for key, value in _section(content, "Power", ("Correlation", "Power", "Alpha")).items():
        power[key.lower()] = _fraction(value, f"Power, {key}")
    if power.get("power", StudyModel.power) <= power.get("alpha", StudyModel.alpha):
        raise ValueError("Power: the power must exceed Alpha, which is reached by chance alone")
    exclusions = [_exclusion(rule, place) for place, rule in _numbered(content, "Exclude")]
    nodes, problems = _nodes(content.get("Nodes"))
    return StudyModel(
        name=name,
        nodes=nodes,
        description=_text(content.get("Description", ""), "Description"),
        exclusions=tuple(exclusions),
        transformations=_transformations(content.get("Transformations", {"Instructions": []})),
        subsets=_subsets(content),
        described=_names(content.get("Describe", []), "Describe", needed=False),
        problems=problems,
        **inputs,
        **power,
    )


def _section(content, key, keys):
    return _object(content.get(key, {}), key, keys)


def _object(value, where, keys):
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must have keys and values, not be {value!r:.80}")
    unknown = [str(key) for key in value if key not in keys]
    if unknown:
        raise ValueError(
            f"{where}: unknown key {', '.join(unknown)}; valid keys are {', '.join(keys)}"
        )
    return value


def _numbered(content, key):
    rows = content.get(key, [])
    if not isinstance(rows, list):
        raise ValueError(f"{key}: must be a list, not {rows!r:.80}")
    return [(f"{key}, number {number}", row) for number, row in enumerate(rows, start=1)]


def _text(value, where):
    if not isinstance(value, str):
        raise ValueError(f"{where}: must be a text, not {value!r:.80}")
    return value


def _number(value, where):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < float("inf"):
        raise ValueError(f"{where}: must be a number, not {value!r:.80}")
    return float(value)


def _fraction(value, where):
    number = _number(value, where)
    if not 0 < number < 1:
        raise ValueError(f"{where}: must be between 0 and 1, not {number:g}")
    return number


def _names(value, where, *, needed=True):
    """Return the names of columns in a list or a single text.

    The list may include 1, the intercept, which every regression has anyway.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise ValueError(f"{where}: give a list of columns, not {value!r:.80}")
    columns = []
    for name in names:
        if name == 1 and not isinstance(name, bool):
            continue
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{where}: {name!r:.80} is not a column; every regression has an intercept"
            )
        columns.append(EARLIER_COLUMNS.get(name, name))
    if len(set(columns)) < len(columns):
        raise ValueError(f"{where}: has a column twice")
    if needed and not columns:
        raise ValueError(f"{where}: has no column")
    return tuple(columns)


def _exclusion(rule, where):
    rule = _object(rule, where, ("Filter", "Reason", "Apply"))
    applied = rule.get("Apply", True)
    if not isinstance(applied, bool) and applied != IF_AVAILABLE:
        raise ValueError(
            f"{where}, Apply: must be true, false or {IF_AVAILABLE!r}, not {applied!r:.80}"
        )
    return Exclusion(
        _filter(rule, where),
        _text(rule.get("Reason", rule.get("Filter")), f"{where}, Reason"),
        applied=bool(applied),
        is_optional=applied == IF_AVAILABLE,
    )


def _filter(rule, where):
    if "Filter" not in rule:
        raise ValueError(f"{where}: has no Filter; add one, such as 'age <= 50'")
    try:
        return parse_filter(_with_current_columns(rule["Filter"]))
    except ValueError as reason:
        raise ValueError(f"{where}: {reason}") from reason


def _with_current_columns(condition):
    """Replace columns that had another name in earlier versions in the text of a filter."""
    if isinstance(condition, str):
        for earlier, current in EARLIER_COLUMNS.items():
            condition = re.sub(rf"\b{earlier}\b", current, condition)
    return condition


def _subsets(content):
    subsets = []
    names = {ALL}
    for where, part in _numbered(content, "Subsets"):
        part = _object(part, where, ("Name", "Filter"))
        name = _text(part.get("Name", part.get("Filter")), f"{where}, Name")
        if name in names:
            raise ValueError(f"{where}: there is already a subset {name!r:.80}")
        names.add(name)
        subsets.append(Subset(name, _filter(part, where)))
    return tuple(subsets)


def _transformations(content):
    content = _object(content, "Transformations", ("Transformer", "Instructions"))
    if content.get("Transformer", TRANSFORMER) != TRANSFORMER:
        raise ValueError(
            f"Transformer {content['Transformer']!r:.80}: only {TRANSFORMER!r} is supported"
        )
    steps = []
    for where, row in _numbered(content, "Instructions"):
        row = _object(row, where, ("Name", "Input", "Output", "Value"))
        name = row.get("Name")
        if not isinstance(name, str) or name not in TRANSFORMATIONS:
            raise ValueError(
                f"{where}: {name!r:.80} is not a transformation; available are "
                f"{', '.join(TRANSFORMATIONS)}"
            )
        inputs = _names(row.get("Input"), f"{where}, Input")
        outputs = _names(row.get("Output", _outputs(name, inputs)), f"{where}, Output")
        if len(inputs) != len(outputs):
            raise ValueError(
                f"{where}: Input and Output must have the same number of columns, not "
                f"{len(inputs)} and {len(outputs)}"
            )
        options = _options(row, name, where)
        for column, result in zip(inputs, outputs, strict=True):
            steps.append(Transformation(name, column, result, options))
    return tuple(steps)


def _outputs(name, inputs):
    """Return the default names of a transformation's results."""
    return list(inputs) if name == "Factor" else [f"{name.lower()}_{column}" for column in inputs]


def _options(row, name, where):
    if name in NEED_VALUE and "Value" not in row:
        raise ValueError(f"{where}: {name} needs a Value, the exponent")
    if "Value" not in row:
        return {}
    if name not in (*NEED_VALUE, *MAY_HAVE_VALUE):
        raise ValueError(f"{where}: {name} has no Value; remove it")
    return {"Value": _number(row["Value"], f"{where}, Value")}


def _nodes(content):
    if not isinstance(content, list) or not content:
        raise ValueError("Nodes: give a list with at least one table of regressions")
    nodes = {}
    problems = []
    for number, row in enumerate(content, start=1):
        where = f"Nodes, number {number}"
        try:
            node = _node(row, where)
            if node.name in nodes:
                raise ValueError(f"{where}: there is already a node {node.name}")
            nodes[node.name] = node
        except ValueError as reason:
            problems.append((where, str(reason)))
    if not nodes:
        raise ValueError("; ".join(reason for _, reason in problems))
    return tuple(nodes.values()), tuple(problems)


def _node(row, where):
    row = _object(row, where, ("Level", "Name", "Title", "Model"))
    name = row.get("Name")
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        raise ValueError(f"{where}: Name {name!r:.80}: use letters, digits, +, - and _, at most 64")
    if name in RESERVED:
        raise ValueError(
            f"{where}: {name} is the name of another table of the results; choose another Name"
        )
    if str(row.get("Level", "Dataset")).lower() != "dataset":
        raise ValueError(f"{where}: Level {row['Level']!r:.80}: only Dataset is supported")
    model = _object(row.get("Model"), f"{where}, Model", ("Type", "Y", "X", "Adjust"))
    if model.get("Type", "glm") != "glm":
        raise ValueError(
            f"{where}: Type {model['Type']!r:.80}: only glm, ordinary least squares, is supported"
        )
    return Node(
        name=name,
        title=_text(row.get("Title", name), f"{where}, Title"),
        outcomes=_names(model.get("Y"), f"{where}, Y"),
        predictors=_names(model.get("X"), f"{where}, X"),
        adjust=_names(model.get("Adjust", []), f"{where}, Adjust", needed=False),
    )
