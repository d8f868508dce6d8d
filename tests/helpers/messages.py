"""The messages of the package that a user can meet, as they stand in its source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import multiqsm

ROOT = Path(multiqsm.__file__).parent
# Whatever these packages raise or report is for the user; of the others, the errors of own classes.
FOR_USERS = ("cli", "cohort", "dataset", "execution", "interfaces", "workflows")
NOTES_OF_STUDIES = ROOT / "stats" / "study.py"
OWN_ERRORS = ("EmptyMaskError", "NoOverlapError", "PhaseEncodingError")
# Functions and classes that report, with the position of the cause among their arguments.
REPORTS = {
    "Problem": 2,
    "Problem.of": 2,
    "of_files": 2,
    "Doubt": 1,
    "warn": 0,
    "print": 0,
    "UnreadableImageError": 1,
    "_Reason": 0,
}
# Calls that add to a list of causes or notes, and names of variables that hold one.
APPENDS = ("notes.append", "causes.append", "faults.append")
CAUSES = ("cause", "reason", "message", "warning")
FEWEST_WORDS = 2  # of a message that is more than a frame for another one
GAP = "…"


def messages() -> Iterator[tuple[str, str]]:
    """Yield file and line, and text, of each message; its variable parts are an ellipsis."""
    for path in sorted(ROOT.rglob("*.py")):
        package = path.relative_to(ROOT).parts[0]
        if package not in (*FOR_USERS, "core") and path != NOTES_OF_STUDIES:
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        constants = _constants(module)
        for node in ast.walk(module):
            for part in _message_nodes(node, is_for_users=package != "core"):
                text = _text(part, constants)
                if len(_words(text)) >= FEWEST_WORDS:
                    yield f"{path.relative_to(ROOT).as_posix()}:{part.lineno}", text


def _message_nodes(node: ast.AST, is_for_users: bool) -> list[ast.expr]:
    """Return the expressions of a node that are messages."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        name = ast.unparse(node.exc.func)
        position = REPORTS.get(name, 0)
        return node.exc.args[position : position + 1] if is_for_users or name in OWN_ERRORS else []
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in CAUSES:
        return [node.value]
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and is_for_users:
        return node.value.elts[:1]  # of a function that returns cause and remedy
    if isinstance(node, ast.Call):
        return _reported(node, ast.unparse(node.func))
    return []


def _reported(call: ast.Call, name: str) -> list[ast.expr]:
    """Return the message among the arguments of a call; empty if it reports nothing."""
    if name == "print" and not _goes_to_stderr(call):
        return []
    if name in REPORTS:
        return call.args[REPORTS[name] : REPORTS[name] + 1]
    if name in APPENDS:
        return call.args[:1]
    return []


def _goes_to_stderr(call: ast.Call) -> bool:
    return any(ast.unparse(keyword.value) == "sys.stderr" for keyword in call.keywords)


def _constants(module: ast.Module) -> dict[str, ast.expr]:
    """Return the values of the constants of a module by their names."""
    constants = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
    return constants


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """Return the text of an expression, with an ellipsis for what only a run determines."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split(" "))
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, constants) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, constants) + _text(node.right, constants)
    if isinstance(node, ast.Name) and node.id in constants:
        return _text(constants[node.id], constants)
    return GAP


def _words(text: str) -> list[str]:
    return [word for word in text.replace(GAP, " ").split() if any(map(str.isalpha, word))]
