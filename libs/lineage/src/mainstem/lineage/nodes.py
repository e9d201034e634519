"""What the graph is made of: kinds of nodes, relations of edges, and the keys by which nodes are known."""

from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

#: Bytes of a key.
KEY_BYTES: Final = 16


class Kind(IntEnum):
    """What a node is. Where entries disagree on a node that none establishes, the higher number is believed."""

    EVENT = 0  #: an event that is none of the others
    ARTIFACT = 1  #: content, by its address
    RECORD = 2  #: a place of a source topic
    QUARANTINED = 3
    ACCEPTED = 4
    ROW = 5
    DEFINITION = 6  #: of a project, or of a part of one: a feature set, a contract
    DATASET = 7
    RUN = 8  #: a training run, or a request for a dataset
    VERSION = 9  #: of a model: `<model>/<number>`
    APPROVAL = 10
    PROMOTION = 11
    DEPLOYMENT = 12
    ACTIVATION = 13
    PREDICTION = 14
    WINDOW = 15
    ALERT = 16
    RESPONSE = 17


class Relation(IntEnum):
    """How what was there went into what was made of it. Of two nodes that a name joins, causation is not told again."""

    ACCEPTED_AS = 0  #: record → accepted
    QUARANTINED_AS = 1  #: record → quarantined
    CORRECTED_AS = 2  #: quarantined → accepted
    JUDGES = 3  #: contract → accepted, quarantined; record → verdict on its block
    COMPUTED_INTO = 4  #: accepted → row
    DEFINES = 5  #: definition → what follows from it
    DECLARES = 6  #: definition of a project → a part that was not there before
    PART_OF = 7  #: a part that was there → definition of a project
    HELD_IN = 8  #: row, table → dataset
    LABELS = 9  #: accepted record with a truth → dataset, window
    TRAINED_ON = 10  #: dataset → run
    RAN = 11  #: digest of code or environment → run
    PRODUCED = 12  #: run → artifact, dataset
    REGISTERED_AS = 13  #: run, dataset, artifact → version
    APPROVED_AS = 14  #: version → approval
    ALLOWED = 15  #: approval → promotion
    PROMOTED_AS = 16  #: version → promotion
    DEPLOYED_AS = 17  #: version, artifact → deployment
    ACTIVATED_AS = 18  #: version, artifact → activation
    ANSWERED = 19  #: activation, version, artifact → prediction
    SCORED_INTO = 20  #: row → prediction
    JUDGED_IN = 21  #: prediction, version → window
    ALERTED = 22  #: version, feature set, record → alert
    ASKED = 23  #: alert → response
    TOLD_IN = 24  #: what an event is about → that event
    IMPORTED_BY = 25  #: model made elsewhere → run
    LED_TO = 63  #: an event → the event that it caused


#: Kinds that are known by the id of the event that established them, and those known by the address of content.
_SPACES: Final = dict.fromkeys(
    (
        Kind.EVENT,
        Kind.ACCEPTED,
        Kind.ROW,
        Kind.APPROVAL,
        Kind.PROMOTION,
        Kind.DEPLOYMENT,
        Kind.ACTIVATION,
        Kind.PREDICTION,
        Kind.WINDOW,
        Kind.RESPONSE,
    ),
    b"event",
) | dict.fromkeys((Kind.ARTIFACT, Kind.DATASET, Kind.DEFINITION), b"content")

#: What the id of a node of each kind is digested with.
PREFIXES: Final = {kind: _SPACES.get(kind, kind.name.lower().encode()) + b"\0" for kind in Kind}
EVENT_PREFIX: Final = PREFIXES[Kind.EVENT]
#: Of these there are as many as records: they are named by their leaves, and no text is kept of them.
NAMELESS: Final = frozenset((Kind.EVENT, Kind.RECORD, Kind.ACCEPTED, Kind.ROW, Kind.PREDICTION))


class Node(NamedTuple):
    """A node by name."""

    kind: Kind
    id: str

    @property
    def key(self) -> bytes:
        """The key of the node."""
        return node(self.kind, self.id)


class Edge(NamedTuple):
    """From what was there to what was made of it."""

    source: Node
    relation: Relation
    target: Node


@lru_cache(maxsize=4096)
def node(kind: Kind, id_: str) -> bytes:
    """Return the key of a node: 16 bytes, a digest of its kind and id.

    Nodes known by the id of an event share one space of keys, whatever their kind, and so does what is known by the
    address of its content: who only names an event or an address need not know what it is.
    """
    return digest(PREFIXES[kind] + id_.encode(errors="surrogatepass"))


def digest(name: bytes) -> bytes:
    """Return the key of what is called `name`, its prefix included."""
    return blake2b(name, digest_size=KEY_BYTES).digest()


def place(topic: str, partition: int, offset: int) -> Node:
    """Return the node of a place of a source topic."""
    return Node(Kind.RECORD, f"{topic}/{partition}/{offset}")


def version(model: str, number: int) -> Node:
    """Return the node of a version."""
    return Node(Kind.VERSION, f"{model}/{number}")


def happening(event_id: str) -> Node:
    """Return the node of an event of which only the id is known."""
    return Node(Kind.EVENT, event_id)
