"""The oracle of the demo and the engine, which share no code, give the same bits; and the oracle sees a wrong one."""

from pathlib import Path

import numpy as np
import pytest
from projects.flights.data import Events
from projects.flights.demo.oracle import Oracle, places
from projects.flights.demo.reading import Gatherer, Table, once, reader_of

from mainstem.events.data import RecordAccepted
from mainstem.events.features import OrderJournalled
from mainstem.events.instants import render
from mainstem.feature_engine import Batch, Engine
from mainstem.project import Decoder, load_folder
from mainstem.testkit.records import Made

STREAMS = ("flight_departed", "flight_arrived", "weather_observed")
END_US = int(np.datetime64("2013-01-12T00:00:00", "us").astype(np.int64))


def accepted(events: Events) -> list[Made]:
    pass
