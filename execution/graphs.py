"""Parts and steps of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype.interfaces.utility import IdentityInterface

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow


def parts_of(workflow: Workflow) -> dict[str, str]:
    """Return the part of a run that each node belongs to, such as a scan's workflow.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The workflow of the run, which consists of the workflows of its parts.

    Returns
    -------
    dict of str to str
        Names of parts by the full names of nodes.

    Examples
    --------
    >>> from nipype.pipeline.engine import Node, Workflow
    >>> scan = Workflow("sub_01")
    >>> scan.add_nodes([Node(IdentityInterface(["file"]), name="inputnode")])
    >>> run = Workflow("scans")
    >>> run.add_nodes([scan])
    >>> parts_of(run)
    {'scans.sub_01.inputnode': 'sub_01'}
    """
    return {f"{workflow.name}.{name}": name.split(".")[0] for name in workflow.list_node_names()}


def working_nodes(workflow: Workflow) -> dict[str, Node]:
    """Return the nodes that are run by their full names; Nipype removes identity nodes before.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The workflow of the run.

    Returns
    -------
    dict of str to nipype.pipeline.engine.Node
    """
    nodes = {}
    for name in workflow.list_node_names():
        node = workflow.get_node(name)
        if not isinstance(node.interface, IdentityInterface):
            nodes[f"{workflow.name}.{name}"] = node
    return nodes
