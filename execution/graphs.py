"""Parts and steps of a graph."""

from nipype.interfaces.utility import IdentityInterface


def parts_of(workflow):
    """The part of a run that each node belongs to: what the run's workflow holds, such as a scan's
    workflow.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The run's.

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


def working_nodes(workflow):
    """The nodes that are run, by their full names: identity nodes are cut out of the graph before.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow

    Returns
    -------
    dict of str to nipype.pipeline.engine.Node
    """
    nodes = {
        f"{workflow.name}.{name}": workflow.get_node(name) for name in workflow.list_node_names()
    }
    return {
        name: node
        for name, node in nodes.items()
        if not isinstance(node.interface, IdentityInterface)
    }
