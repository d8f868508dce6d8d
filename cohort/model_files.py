"""Model files: which regressions a study wants, in the words of BIDS Stats Models where they
fit.
"""

import json
import re
from pathlib import Path

import yaml

from ..bids_templates import load_template
from ..dataset.content import require_content
from ..dataset.problems import DatasetError
from ..stats.filters import parse_filter
from ..stats.model import ALL, Exclusion, Node, StudyModel, Subset
from ..stats.transformations import TRANSFORMATIONS, Transformation

SHIPPED = ("thalamus",)  # models that come with the package, as templates model_<name>
TRANSFORMER = "multiqsm"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")  # becomes part of file names
LARGEST = 1_000_000  # bytes

# Names of the other tables of the results.
RESERVED = (
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
    "Power",
)


class _OneOfEach(yaml.SafeLoader):
    """Plain values only, every key once, and no aliases, which can make a small file a huge one."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read: write the value again")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        _unique((self.construct_object(key, deep=True), None) for key, _ in node.value)
        return super().construct_mapping(node, deep=deep)


def read_model(source):
    """Read a model.

    Parameters
    ----------
    source : path-like
        A JSON or YAML file, or the name of a model that comes with the package (`SHIPPED`).

    Returns
    -------
    multiqsm.stats.model.StudyModel
        A node that makes no sense is left out, and named in its ``problems``.

    Raises
    ------
    DatasetError
        If the file cannot be read, or something else than a node makes no sense: keys that nobody
        knows, filters that are none, transformations that do not exist. The message says where.
    """
    if str(source) in SHIPPED:
        return _model(load_template(f"model_{source}"))
    path = Path(source)
    require_content(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes: no model")
        text = path.read_text(encoding="utf-8-sig")
        is_yaml = path.suffix.lower() in (".yaml", ".yml")
        content = (
            yaml.load(text, _OneOfEach) if is_yaml else json.loads(text, object_pairs_hook=_unique)
        )
        return _model(content)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        known = (
            f"; models that come with multiqsm: {', '.join(SHIPPED)}"
            if isinstance(error, OSError)
            else ""
        )
        raise DatasetError(f"--model {source}: {error}{known}") from error


def _unique(pairs):
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def _model(content):
    content = _object(content, "the model", (*MODEL_KEYS, "Nodes"))
    name = content.get("Name")
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        raise ValueError(
            f"Name {name!r:.80} of the model: give letters, digits, +, - and _, at most 64"
        )
    if not str(content.get("BIDSModelVersion", "1.0.0")).startswith("1."):
        raise ValueError(f"BIDSModelVersion {content['BIDSModelVersion']!r:.80}: only 1.x is known")
    given = _object(content.get("Input", {}), "Input", ("Method", "Region", "Reference"))
    chosen = {key.lower(): _text(value, f"Input, {key}") for key, value in given.items()}
    power = _object(content.get("Power", {}), "Power", ("Correlation", "Power", "Alpha"))
    limits = {key.lower(): _share(value, f"Power, {key}") for key, value in power.items()}
    if limits.get("power", StudyModel.power) <= limits.get("alpha", StudyModel.alpha):
        raise ValueError("Power: the power must be above Alpha: chance alone reaches it")
    nodes, problems = _nodes(content.get("Nodes"))
    return StudyModel(
        name=name,
        nodes=nodes,
        description=_text(content.get("Description", ""), "Description"),
        exclusions=tuple(_exclusion(rule, place) for place, rule in _numbered(content, "Exclude")),
        transformations=_transformations(content.get("Transformations", {"Instructions": []})),
        subsets=_subsets(content),
        problems=problems,
        **chosen,
        **limits,
    )


def _object(value, where, keys):
    if not isinstance(value, dict):
        raise ValueError(f"{where}: holds no keys and values but {value!r:.80}")
    unknown = [str(key) for key in value if key not in keys]
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(keys)}")
    return value


def _numbered(content, key):
    rows = content.get(key, [])
    if not isinstance(rows, list):
        raise ValueError(f"{key}: holds no list but {rows!r:.80}")
    return [(f"{key}, number {number}", row) for number, row in enumerate(rows, start=1)]


def _text(value, where):
    if not isinstance(value, str):
        raise ValueError(f"{where}: holds no text but {value!r:.80}")
    return value


def _number(value, where):
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) < float("inf")
    ):
        raise ValueError(f"{where}: holds no number but {value!r:.80}")
    return float(value)


def _share(value, where):
    number = _number(value, where)
    if not 0 < number < 1:
        raise ValueError(f"{where}: must lie between 0 and 1, not at {number:g}")
    return number


def _names(value, where, *, needed=True):
    """Column names, of a list or a single text; the intercept, which every regression has, may be
    among them.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise ValueError(f"{where}: give a list of columns, not {value!r:.80}")
    names = [name for name in names if name != 1 or isinstance(name, bool)]
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise ValueError(
            f"{where}: {wrong[0]!r:.80} is no column; every regression has an intercept"
        )
    if len(set(names)) < len(names) or (needed and not names):
        raise ValueError(f"{where}: {'names a column twice' if names else 'names no column'}")
    return tuple(names)


def _exclusion(rule, where):
    rule = _object(rule, where, ("Filter", "Reason", "Apply"))
    applied = rule.get("Apply", True)
    if not isinstance(applied, bool):
        raise ValueError(f"{where}, Apply: true or false, not {applied!r:.80}")
    return Exclusion(
        _filter(rule, where),
        _text(rule.get("Reason", rule.get("Filter")), f"{where}, Reason"),
        applied,
    )


def _filter(rule, where):
    if "Filter" not in rule:
        raise ValueError(f"{where}: no Filter, such as 'age <= 50'")
    try:
        return parse_filter(rule["Filter"])
    except ValueError as reason:
        raise ValueError(f"{where}: {reason}") from reason


def _subsets(content):
    subsets = []
    for where, part in _numbered(content, "Subsets"):
        part = _object(part, where, ("Name", "Filter"))
        name = _text(part.get("Name", part.get("Filter")), f"{where}, Name")
        if name == ALL or name in [subset.name for subset in subsets]:
            raise ValueError(f"{where}: there is a subset {name!r:.80} already")
        subsets.append(Subset(name, _filter(part, where)))
    return tuple(subsets)


def _transformations(content):
    content = _object(content, "Transformations", ("Transformer", "Instructions"))
    if content.get("Transformer", TRANSFORMER) != TRANSFORMER:
        raise ValueError(
            f"Transformer {content['Transformer']!r:.80}: only {TRANSFORMER!r} is known"
        )
    steps = []
    for where, row in _numbered(content, "Instructions"):
        row = _object(row, where, ("Name", "Input", "Output", "Value"))
        name = row.get("Name")
        if not isinstance(name, str) or name not in TRANSFORMATIONS:
            raise ValueError(
                f"{where}: {name!r:.80} is no transformation; known are "
                f"{', '.join(TRANSFORMATIONS)}"
            )
        inputs = _names(row.get("Input"), f"{where}, Input")
        outputs = _names(row.get("Output", _outputs(name, inputs)), f"{where}, Output")
        if len(inputs) != len(outputs):
            raise ValueError(
                f"{where}: {len(inputs)} columns of Input and {len(outputs)} of Output"
            )
        options = _options(row, name, where)
        steps += [Transformation(name, i, o, options) for i, o in zip(inputs, outputs, strict=True)]
    return tuple(steps)


def _outputs(name, inputs):
    return list(inputs) if name == "Factor" else [f"{name.lower()}_{column}" for column in inputs]


def _options(row, name, where):
    if name in NEED_VALUE and "Value" not in row:
        raise ValueError(f"{where}: {name} needs a Value, its exponent")
    if "Value" not in row:
        return {}
    if name not in (*NEED_VALUE, *MAY_HAVE_VALUE):
        raise ValueError(f"{where}: {name} takes no Value")
    return {"Value": _number(row["Value"], f"{where}, Value")}


def _nodes(content):
    if not isinstance(content, list) or not content:
        raise ValueError("Nodes: give a list with at least one table of regressions")
    nodes = []
    problems = []
    for number, row in enumerate(content, start=1):
        where = f"Nodes, number {number}"
        try:
            node = _node(row, where)
            if node.name in [other.name for other in nodes]:
                raise ValueError(f"{where}: there is a node {node.name} already")
            nodes.append(node)
        except ValueError as reason:
            problems.append((where, str(reason)))
    if not nodes:
        raise ValueError("; ".join(reason for _, reason in problems))
    return tuple(nodes), tuple(problems)


def _node(row, where):
    row = _object(row, where, ("Level", "Name", "Title", "Model"))
    name = row.get("Name")
    if not isinstance(name, str) or not LABEL.fullmatch(name):
        raise ValueError(
            f"{where}: Name {name!r:.80}: give letters, digits, +, - and _, at most 64"
        )
    if name in RESERVED:
        raise ValueError(
            f"{where}: {name} is the name of another table of the results; choose another Name"
        )
    if str(row.get("Level", "Dataset")).lower() != "dataset":
        raise ValueError(f"{where}: Level {row['Level']!r:.80}: only Dataset is known")
    model = _object(row.get("Model"), f"{where}, Model", ("Type", "Y", "X", "Adjust"))
    if model.get("Type", "glm") != "glm":
        raise ValueError(
            f"{where}: Type {model['Type']!r:.80}: only glm, ordinary least squares, is known"
        )
    return Node(
        name=name,
        title=_text(row.get("Title", name), f"{where}, Title"),
        outcomes=_names(model.get("Y"), f"{where}, Y"),
        predictors=_names(model.get("X"), f"{where}, X"),
        adjust=_names(model.get("Adjust", []), f"{where}, Adjust", needed=False),
    )
