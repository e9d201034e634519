"""The model at work: ONNX in, probabilities out; feature rows in, messages with predictions out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import orjson
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
    RuntimeException,
)

from mainstem.events.catalogue import Record, encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, Event, Headers, Message, dataschema
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.ids import child_id
from mainstem.events.instants import NEVER, parse, parse_all, render
from mainstem.events.serving import Predicted
from mainstem.serving.domain import NONE, Activation, LogTime, Places, Reached, route
from mainstem.serving.ports import Answer, Channel, Floats, Parked, Question, Tallies
from mainstem.telemetry import Tracer

SOURCE = "/mainstem/serving"
#: Name of the one input, float64 [rows, features], NaN = missing.
INPUT = "features"
#: Name of the one output, float64 [rows, 2]: probability of the negative and of the positive class.
OUTPUT = "probabilities"
#: Past this many rows a tree ensemble changes its strategy and a run costs more per row.
CHUNK = 64

