"""Identify the code that a result depends on, so that the result is renewed if the code changes."""

import ast
from functools import cache
from hashlib import sha256
from itertools import filterfalse
from pathlib import Path

from .. import __version__

ROOT = Path(__file__).parents[1]
DATA = ("*.json", "templates/*.html")  # data files in the folders of the modules that read them


@cache
def software(module: str) -> str:
    """Return the version of this package with a digest of the code of a module and of all that it
    imports.

    Results are reused only by the code that they were computed by: an edited page of a report does
    not lead to new maps.

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


def code_of(module: str, root: Path) -> list[Path]:
    """Return the files of the package that a module depends on: its own, those of the modules that
    it imports, and the data files that these read.

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
    queue = [module]
    modules: dict[str, Path] = {}
    texts: set[str] = set()
    while queue:
        name = queue.pop()
        path = _file_of(name, root)
        if name.split(".")[0] != package or path is None or name in modules:
            continue
        modules[name] = path
        imports, texts_of_module = _contents(name, path)
        texts |= texts_of_module
        queue += imports
        queue.append(name.rpartition(".")[0])  # importing a module imports its packages
    files = set(modules.values())
    for folder in {path.parent for path in modules.values()}:
        for pattern in DATA:
            for path in folder.glob(pattern):
                if path.suffix != ".json" or _is_mentioned(path.stem, texts):
                    files.add(path)
    return sorted(files)


def _file_of(name, root):
    """Return the file of a module or package; None if it is not part of this package."""
    place = root.joinpath(*name.split(".")[1:])
    for path in (place / "__init__.py", place.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _is_mentioned(stem, texts):
    """Check whether one of the texts is a file's name, or its beginning up to an underscore, as in
    ``f"model_{name}"``.
    """
    if stem in texts:
        return True
    return any(text.endswith("_") and stem.startswith(text) for text in texts)


@cache
def _contents(name, path):
    """Return the names that a module imports, at its top or within functions, and the texts in it.

    Each imported name may be a module. The texts include the names of the JSON files that it loads.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    imports = []
    texts = set()
    tree = ast.parse(path.read_bytes())
    # Code that is imported for type hints only is not run.
    tree.body = list(filterfalse(_is_for_hints, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            imports.append(origin)
            imports += [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
    return imports, texts


def _is_for_hints(statement):
    """Check whether a statement is ``if TYPE_CHECKING: …``."""
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Name)
        and statement.test.id == "TYPE_CHECKING"
    )
