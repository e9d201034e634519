"""The lineage graph of a log: built from its entries alone, asked, and exported. Pure; see ADR 15."""

from mainstem.lineage.builder import Builder
from mainstem.lineage.graph import Graph, Named, Unread
from mainstem.lineage.nodes import Edge, Kind, Node, Relation, node
from mainstem.lineage.questions import Absence, Difference, Sought
from mainstem.lineage.state import Change, InForce
from mainstem.lineage.sweep import Closure, Step

__all__ = [
    "Absence",
    "Builder",
    "Change",
    "Closure",
    "Difference",
    "Edge",
    "Graph",
    "InForce",
    "Kind",
    "Named",
    "Node",
    "Relation",
    "Sought",
    "Step",
    "Unread",
    "node",
]
