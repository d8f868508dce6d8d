"""What a study's model specifies: outcomes, predictors, adjustment, subsets and exclusions."""

from dataclasses import dataclass

from .filters import Filter
from .transformations import Transformation

ALL = "all"  # the subset of all patients


@dataclass(frozen=True)
class Exclusion:
    """A rule by which patients are left out.

    Attributes
    ----------
    condition : Filter
        Holds for the patients to leave out.
    reason : str
        Reason for leaving them out.
    applied : bool
        Whether they are left out, or only listed.
    is_optional : bool
        Whether the rule may name columns that nobody has; if not, that is a problem.
    """

    condition: Filter
    reason: str
    applied: bool = True
    is_optional: bool = False


@dataclass(frozen=True)
class Subset:
    """A subset of the patients in which all regressions are repeated.

    Attributes
    ----------
    name : str
        Name of the subset.
    condition : Filter
        Holds for the patients in it.
    """

    name: str
    condition: Filter


@dataclass(frozen=True)
class Node:
    """The regressions of one table: every outcome on every predictor.

    Attributes
    ----------
    name, title : str
        Name of the table's file, and title of its section of the report.
    outcomes, predictors, adjust : tuple of str
        Columns. Each outcome is regressed on each predictor alone, and on the predictor with all
        other columns of `adjust`.

    Raises
    ------
    ValueError
        If a column is both an outcome and a predictor.
    """

    name: str
    title: str
    outcomes: tuple[str, ...]
    predictors: tuple[str, ...]
    adjust: tuple[str, ...] = ()

    def __post_init__(self):
        shared = [name for name in self.outcomes if name in self.predictors]
        if shared:
            raise ValueError(
                f"table {self.name}: {', '.join(shared)} is both an outcome and a predictor; a "
                "column cannot be regressed on itself: remove it from one of the two lists"
            )


@dataclass(frozen=True)
class StudyModel:
    """The analysis of a table of patients.

    Attributes
    ----------
    name, description : str
        Name and description of the model.
    method, region, reference : str or None
        Inversion, region and reference of the susceptibility; None for the commonest reference.
    exclusions, transformations, subsets, nodes : tuple
        `Exclusion`, `Transformation`, `Subset` and `Node` objects.
    described : tuple of str
        Columns that are in no regression, but in the descriptive statistics.
    correlation, power, alpha : float
        Parameters of the power analysis: the correlation whose power is computed, the power of the
        detectable correlation, and the two-sided significance level.
    problems : tuple of (str, str)
        Parts of the model that cannot be computed, with the reasons.
    """

    name: str
    nodes: tuple[Node, ...]
    description: str = ""
    method: str = "medi"
    region: str = "thalamus"
    reference: str | None = None
    exclusions: tuple[Exclusion, ...] = ()
    transformations: tuple[Transformation, ...] = ()
    subsets: tuple[Subset, ...] = ()
    described: tuple[str, ...] = ()
    correlation: float = 0.28
    power: float = 0.8
    alpha: float = 0.05
    problems: tuple[tuple[str, str], ...] = ()


def used_columns(model: StudyModel) -> list[str]:
    """List the columns of a model's regressions in their order.

    Examples
    --------
    >>> node = Node("t", "T", outcomes=("volume",), predictors=("chi", "age"), adjust=("age",))
    >>> used_columns(StudyModel("m", nodes=(node,)))
    ['volume', 'chi', 'age']
    """
    names: list[str] = []
    for node in model.nodes:
        names.extend((*node.outcomes, *node.predictors, *node.adjust))
    return list(dict.fromkeys(names))
