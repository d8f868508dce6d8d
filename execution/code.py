"""The code that makes a result, so that other code makes it again."""

import ast
from functools import cache
from hashlib import sha256
from pathlib import Path

from .. import __version__

ROOT = Path(__file__).parents[1]
DATA = ("*.json", "templates/*.html")  # beside modules, which read them


@cache
def software(module):
    """The version of this package with a digest of the code of a module and of all that it imports.

    Results are reused only by the code that made them: an edited page of a report makes no map
    again.

    Parameters
    ----------
    module : str
        The module that builds the graph, such as ``multiqsm.workflows.scans``.

    Returns
    -------
    str
        Such as ``0.1.0-5f2c1a90``.
    """
    digest = sha256()
    for path in code_of(module, ROOT):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{__version__}-{digest.hexdigest()[:8]}"


def code_of(module, root):
    """Files of the package that a module consists of: its own, those of what it imports, and the
    data beside these.

    Parameters
    ----------
    module : str
        Its full name.
    root : pathlib.Path
        Folder of the package.

    Returns
    -------
    list of pathlib.Path
        Sorted.
    """
    package = module.split(".")[0]
    waiting = [module]
    found = {}
    texts = set()
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if name.split(".")[0] != package or path is None or name in found:
            continue
        found[name] = path
        imports, named = _contents(name, path)
        texts |= named
        waiting += imports
        waiting.append(name.rpartition(".")[0])  # to import a module is to import its packages
    data = {
        file for path in found.values() for pattern in DATA for file in path.parent.glob(pattern)
    }
    read = {file for file in data if file.suffix != ".json" or _is_named(file.stem, texts)}
    return sorted({*found.values(), *read})


def _file_of(name, root):
    """The file of a module or package; None if it is none of this package's."""
    place = root.joinpath(*name.split(".")[1:])
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _is_named(stem, texts):
    """Whether a file's name stands in a module, or begins with what stands there before a brace."""
    return stem in texts or any(text.endswith("_") and stem.startswith(text) for text in texts)


@cache
def _contents(name, path):
    """What a module imports, at its top or when it is needed, and the texts in it.

    Of what it imports each name may be a module. Texts name the JSON files that it loads.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    imports = []
    texts = set()
    tree = ast.parse(path.read_bytes())
    # What is imported for type hints only does not run.
    tree.body = [statement for statement in tree.body if not _is_for_hints(statement)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            imports += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return imports, texts


def _is_for_hints(statement):
    """Whether a statement is ``if TYPE_CHECKING: …``."""
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Name)
        and statement.test.id == "TYPE_CHECKING"
    )
