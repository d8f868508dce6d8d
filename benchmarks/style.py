"""How easily the package reads, by count, at one or more revisions.

    python benchmarks/style.py [--check] [REVISION ...]

prints a table with a row for each revision (the working tree if none is named): lines over 100
columns in per cent; tuple assignments (both sides tuples of equal length, not all constants) and
comprehensions in a thousand lines; type hints of arguments and results of public functions, and
docstrings of public functions and classes, in per cent. Tests, benchmarks and docs are not counted.
With --check the exit code is 1 if a revision is beyond the limits, and these are named.
"""

import argparse
import ast
import configparser
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("tests", "benchmarks", "docs")
COLUMNS = 100
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# Limits of --check.
MOST = {"> 100 columns": 0.1, "tuples": 1.0, "comprehensions": 15.0}
LEAST = {"hints": 100.0, "docstrings": 100.0}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revisions", nargs="*", metavar="REVISION")
    parser.add_argument("--check", action="store_true", help="exit code 1 beyond the limits")
    options = parser.parse_args()
    print("| revision | lines | > 100 columns | tuples | comprehensions | hints | docstrings |")
    print("|---|---|---|---|---|---|---|")
    faults = []
    for revision in options.revisions or [None]:
        name = revision or "working tree"
        counts = measure(sources(revision))
        print(row(name, counts))
        for fault in beyond_limits(rates(counts)):
            faults.append(f"{name}: {fault}")
    if options.check and faults:
        print("\n".join(faults), file=sys.stderr)
        sys.exit(1)


def sources(revision=None):
    """Texts of the package's modules, of a revision or of the working tree."""
    if revision is None:
        return [path.read_text(encoding="utf-8") for path in modules()]
    texts = []
    for name in git("ls-tree", "-r", "--name-only", revision).splitlines():
        if name.endswith(".py") and Path(name).parts[0] not in LEFT_OUT:
            texts.append(git("show", f"{revision}:{name}"))
    return texts


def modules():
    """Return the modules of the packages that setup.cfg lists."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    paths = []
    for package in setup["options"]["packages"].split():
        folder = ROOT.joinpath(*package.split(".")[1:])
        paths.extend(sorted(folder.glob("*.py")))
    return paths


def git(*arguments):
    return subprocess.check_output(("git", *arguments), cwd=ROOT, text=True)


def measure(texts):
    """Counts over all modules."""
    counts = Counter()
    for text in texts:
        lines = text.splitlines()
        counts["lines"] += len(lines)
        for line in lines:
            counts["long"] += len(line) > COLUMNS
        tree = ast.parse(text)
        for node in ast.walk(tree):
            counts["tuples"] += is_tuple_assignment(node)
            counts["comprehensions"] += isinstance(node, COMPREHENSIONS)
        count_public(tree, counts)
    return counts


def is_tuple_assignment(node):
    """Whether several unrelated values are assigned in one statement."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or len(target.elts) != len(node.value.elts):
        return False
    return not all(isinstance(value, ast.Constant) for value in node.value.elts)


def count_public(node, counts):
    """Count hints and docstrings of what can be reached by public names only."""
    for child in node.body:
        if not isinstance(child, DEFINITIONS) or child.name.startswith("_"):
            continue
        counts["public"] += 1
        counts["docstrings"] += ast.get_docstring(child) is not None
        if isinstance(child, ast.ClassDef):
            count_public(child, counts)
            continue
        for hint in hints_of(child):
            counts["places"] += 1
            counts["hints"] += hint is not None


def hints_of(function):
    """Return the hints of a function's arguments and of its result; None where there is none."""
    arguments = function.args
    hinted = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    hints = [argument.annotation for argument in hinted if argument.arg not in ("self", "cls")]
    for argument in (arguments.vararg, arguments.kwarg):
        if argument is not None:
            hints.append(argument.annotation)
    hints.append(function.returns)
    return hints


def rates(counts):
    """Return the table's columns from the third on."""
    thousand_lines = counts["lines"] / 1000
    return {
        "> 100 columns": 100 * counts["long"] / counts["lines"],
        "tuples": counts["tuples"] / thousand_lines,
        "comprehensions": counts["comprehensions"] / thousand_lines,
        "hints": 100 * counts["hints"] / counts["places"],
        "docstrings": 100 * counts["docstrings"] / counts["public"],
    }


def beyond_limits(values):
    """Return a phrase for each rate beyond its limit."""
    faults = []
    for name, most in MOST.items():
        if values[name] > most:
            faults.append(f"{name} {values[name]:.2f}, at most {most:g}")
    for name, least in LEAST.items():
        if values[name] < least:
            faults.append(f"{name} {values[name]:.2f} %, at least {least:g} %")
    return faults


def row(name, counts):
    """A row of the table."""
    values = rates(counts)
    columns = (
        name,
        f"{counts['lines']}",
        f"{values['> 100 columns']:.1f} %",
        f"{values['tuples']:.1f}",
        f"{values['comprehensions']:.1f}",
        f"{values['hints']:.0f} %",
        f"{values['docstrings']:.0f} %",
    )
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
