"""Signed notes and checkpoints: what is read is what was signed, and what another program reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import signing, tlog

from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey, Secret, WitnessKey, cosigned_at, read_vkey
from mainstem.ledger.note import Note, NoteError, Signature

LOG = Secret("log.test/a", bytes(range(32)))
WITNESS = Secret("witness.test/w", bytes(range(1, 33)))
CHECKPOINT = Checkpoint("log.test/a", 70_000, bytes(32))
TEXT = CHECKPOINT.text()

# The example of the specification of signed notes.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()


def signed() -> Note:
    return Note(TEXT, (LOG.sign(TEXT), WITNESS.cosign(TEXT, 1_700_000_000)))


def test_the_example_of_the_specification_is_signed_by_its_key():
    note, key = Note.parse(EXAMPLE), read_vkey(EXAMPLE_KEY)
    assert list(note.signed_by([key])) == [key]
    assert (key.vkey(), note.render()) == (EXAMPLE_KEY, EXAMPLE)


def test_a_note_is_read_as_it_was_written():
    assert Note.parse(signed().render()) == signed()


def test_a_cosignature_says_when_it_was_made():
    (signature,) = signed().signed_by([WITNESS.witness_key]).values()
    assert cosigned_at(signature.value) == 1_700_000_000


@pytest.mark.parametrize("key", [LOG.log_key, WITNESS.witness_key])
def test_keys_survive_being_written_and_read(key: LogKey):
    assert read_vkey(key.vkey()) == key
    assert type(read_vkey(key.vkey())) is type(key)


def test_a_secret_survives_being_written_and_read_and_is_not_shown():
    assert Secret.parse(LOG.render() + "\n") == LOG
    assert "AAEC" not in repr(LOG)


def test_another_program_accepts_the_checkpoint_and_its_cosignature():
    found = tlog.Checkpoint.from_text(signed().render().decode())
    assert (found.origin, found.size, found.root_hash) == ("log.test/a", 70_000, bytes(32))
    for key in (LOG.log_key, WITNESS.witness_key):
        found.verify(signing.Vkey.from_string(key.vkey()))


@given(st.binary(min_size=1, max_size=3), st.integers(0, 400))
def test_whatever_is_changed_in_a_note_is_noticed(change: bytes, place: int):
    data = bytearray(signed().render())
    at = place % len(data)
    before = bytes(data)
    data[at : at + len(change)] = change
    if bytes(data) == before:
        return
    try:
        note = Note.parse(bytes(data))
        found = note.signed_by([LOG.log_key, WITNESS.witness_key])
    except NoteError:
        return
    assert note.text == TEXT
    assert len(found) < 2  # one of the signatures was made somebody else's


def test_signatures_of_others_are_passed_over_even_under_a_known_name():
    other = Secret("log.test/a", bytes(32)).sign("something else\n")
    note = Note(TEXT, (other, *signed().signatures))
    assert list(note.signed_by([LOG.log_key])) == [LOG.log_key]


def test_a_false_signature_under_a_known_name_and_id_refuses_the_note():
    false = Signature("log.test/a", LOG.log_key.key_id, bytes(64))
    with pytest.raises(NoteError, match=r"the signature of log\.test/a is not of its key"):
        Note(TEXT, (false, LOG.sign(TEXT))).signed_by([LOG.log_key])


def test_a_note_that_nobody_known_has_signed_is_refused():
    with pytest.raises(NoteError, match=r"signed by none of else\.test"):
        signed().signed_by([LogKey("else.test", LOG.log_key.public)])


def test_a_cosignature_is_no_signature_of_a_log():
    cosigned = WITNESS.cosign(TEXT, 7)
    forged = Signature(cosigned.name, WITNESS.log_key.key_id, cosigned.value)
    with pytest.raises(NoteError, match="is not of its key"):
        Note(TEXT, (forged,)).signed_by([WITNESS.log_key])
    moved = Signature(cosigned.name, cosigned.key_id, bytes(7) + b"\x08" + cosigned.value[8:])
    with pytest.raises(NoteError, match="is not of its key"):
        Note(TEXT, (moved,)).signed_by([WitnessKey("witness.test/w", WITNESS.witness_key.public)])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\n\n\xe2\x80\x94 a AAAAAAE=\n", "is UTF-8"),
        (b"a\tb\n\n\xe2\x80\x94 a AAAAAAE=\n", "no control characters"),
        (b"no signatures\n\n", "an empty line, and signature lines"),
        (b"no end\n\n\xe2\x80\x94 a AAAAAAE=", "an empty line, and signature lines"),
        ("text\n\n— a b c\n".encode(), "is no signature line"),
        (b"text\n\n- a AAAAAAE=\n", "is no signature line"),
        ("text\n\n— a+b AAAAAAE=\n".encode(), "is no signature line"),
        ("text\n\n— a AAAAAAF=\n".encode(), "is no signature line"),
        ("text\n\n— a AAAAAA==\n".encode(), "is no signature line"),
        (b"text\n\n" + "— a AAAAAAE=\n".encode() * 101, "101 signatures; 100 are the most"),
    ],
)
def test_what_is_no_signed_note_is_refused(data: bytes, said: str):
    with pytest.raises(NoteError, match=said):
        Note.parse(data)


@pytest.mark.parametrize(
    "text",
    ["", "a\n1\n", "a\n01\nAAA=\n", "\n1\n" + TEXT.split("\n")[2] + "\n", "a\n-1\nAAAA\n", TEXT[:-1], TEXT + "\n"],
)
def test_what_is_no_checkpoint_is_refused(text: str):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_a_checkpoint_is_read_as_it_was_written_with_lines_that_others_added():
    extended = Checkpoint("a b", 0, bytes(32), ("more", "and more"))
    assert Checkpoint.parse(extended.text()) == extended
    assert Checkpoint.parse(TEXT) == CHECKPOINT


@pytest.mark.parametrize(
    "vkey", ["", "a", "a+00+b", EXAMPLE_KEY.replace("530d903a", "530d903b"), "a+00000000+AgAA", "a+1234abcd+AQ=="]
)
def test_what_is_no_key_is_refused(vkey: str):
    with pytest.raises(NoteError):
        read_vkey(vkey)
    with pytest.raises(NoteError):
        Secret.parse(vkey)
