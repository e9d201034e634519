"""The language in which a project is written: contracts, model, gates, budgets."""

from mainstem.project.charter import Charter, Owners, Risk, Value
from mainstem.project.columns import Column, boolean, category, fixed, text, time
from mainstem.project.contract import BLOCK, BatchRules, SourceContract, source
from mainstem.project.definition import FeatureSetDefinition, ProjectDefinition, parse
from mainstem.project.errors import ProjectError
from mainstem.project.folder import load_folder
from mainstem.project.model import Estimator, Gates, Label, ModelDefinition, model
from mainstem.project.monitoring import Monitoring
from mainstem.project.reasons import Fault, Reason
from mainstem.project.records import Columns, Decoder, Judgement
from mainstem.project.serving import Serving

__all__ = [
    "BLOCK",
    "BatchRules",
    "Charter",
    "Column",
    "Columns",
    "Decoder",
    "Estimator",
    "Fault",
    "FeatureSetDefinition",
    "Gates",
    "Judgement",
    "Label",
    "ModelDefinition",
    "Monitoring",
    "Owners",
    "ProjectDefinition",
    "ProjectError",
    "Reason",
    "Risk",
    "Serving",
    "SourceContract",
    "Value",
    "boolean",
    "category",
    "fixed",
    "load_folder",
    "model",
    "parse",
    "source",
    "text",
    "time",
]
