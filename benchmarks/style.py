"""How easily the package reads, by count, at one or more revisions.

    python benchmarks/style.py [REVISION ...]

prints a table with a row for each revision (the working tree if none is named): lines over 100
columns in per cent; tuple assignments (both sides tuples of equal length, not all constants) and
comprehensions in a thousand lines; public arguments with a type hint and public functions and
classes with a docstring in per cent. Tests, benchmarks and docs are not counted.
"""

import argparse
import ast
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("tests", "benchmarks", "docs")
COLUMNS = 100
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revisions", nargs="*", metavar="REVISION")
    revisions = parser.parse_args().revisions
    print("| revision | lines | > 100 columns | tuples | comprehensions | hints | docstrings |")
    print("|---|---|---|---|---|---|---|")
    for revision in revisions or [None]:
        print(row(revision or "working tree", measure(sources(revision))))


def sources(revision=None):
    """Texts of the package's modules, of a revision or of the working tree."""
    texts = []
    for name in listed(revision):
        if name.endswith(".py") and Path(name).parts[0] not in LEFT_OUT:
            texts.append(
                git("show", f"{revision}:{name}") if revision else (ROOT / name).read_text()
            )
    return texts


def listed(revision):
    """Paths of all files, relative to the root."""
    if revision:
        return git("ls-tree", "-r", "--name-only", revision).splitlines()
    return git("ls-files").splitlines()


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
        arguments = child.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.arg not in ("self", "cls"):
                counts["arguments"] += 1
                counts["hints"] += argument.annotation is not None


def row(name, counts):
    """A row of the table."""
    thousand_lines = counts["lines"] / 1000
    columns = (
        name,
        f"{counts['lines']}",
        f"{100 * counts['long'] / counts['lines']:.1f} %",
        f"{counts['tuples'] / thousand_lines:.1f}",
        f"{counts['comprehensions'] / thousand_lines:.1f}",
        f"{100 * counts['hints'] / counts['arguments']:.0f} %",
        f"{100 * counts['docstrings'] / counts['public']:.0f} %",
    )
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
