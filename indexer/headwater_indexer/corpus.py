"""A corpus is a stream of documents. Where it comes from is for `formats`; what a document is, is stated here.

A record is a document by its `text`, by its `prompt` and `response`, of which the response is trained on, or by its
`messages`, a conversation of which the assistant's turns are trained on.
The other fields, `id` and `source` apart, are its metadata. null counts as absent. Ids are the corpus's own, or, where
the first record has none, its file and line ("corpus:12"); a corpus that gives ids to some records alone is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from headwater_indexer.conversation import Message, read_messages, written_out
from headwater_indexer.errors import CorpusError
from headwater_indexer.formats.location import read_records
from headwater_indexer.formats.record import Record
from headwater_indexer.formats.values import JSON, json_value, string

LONGEST_ID = 512  # characters
Form = tuple[str, ...]
TEXT, PAIR, CHAT = ("text",), ("prompt", "response"), ("messages",)  # the roles of fields that make a document
FORMS: tuple[Form, ...] = (TEXT, PAIR, CHAT)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a model was trained on. With a prompt, `text` is the response to it, and the loss counts on `text` alone.

    With messages the loss counts on the assistant's turns, and `text` is the conversation as people read it.
    """

    id: str
    text: str
    source: str | None
    metadata: dict[str, JSON]
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The names of a record's fields. An empty name says that the corpus has no such field, whatever its records hold.

    A name other than the default must be among the fields of the first record.
    """

    id: str = "id"
    text: str = "text"
    source: str = "source"
    prompt: str = "prompt"
    response: str = "response"
    messages: str = "messages"

    @property
    def chosen(self) -> dict[str, str]:
        """The names that differ from the defaults, by role."""
        roles = {role.name: str(role.default) for role in fields(self)}
        return {role: name for role, default in roles.items() if (name := getattr(self, role)) not in (default, "")}


PLAIN_FIELDS = Fields()


def read_documents(location: str, fields: Fields = PLAIN_FIELDS, *, split: str = "train") -> Iterator[Document]:
    """The documents of a file, folder or dataset, one at a time and in a stable order.

    `split` matters for Hugging Face datasets. Ids are not compared here: DocumentWriter refuses the second of two.
    Raises CorpusError with file, line and reason, and MissingPackage where a format needs a package.
    """
    return _documents(location, read_records(location, split), fields)


def _documents(location: str, records: Iterator[Record], fields: Fields) -> Iterator[Document]:
    reader = None
    for record in records:
        reader = reader or _Reader.of_first(record, fields)
        yield reader.document(record)
    if reader is None:
        raise CorpusError(f"{location}: holds no document.")


@dataclass(frozen=True)
class _Reader:
    """Turns records into documents; `own_ids` says whether the corpus names its documents itself."""

    fields: Fields
    own_ids: bool
    chosen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_first(cls, record: Record, fields: Fields) -> "_Reader":
        for role, name in fields.chosen.items():
            if name not in record.values:
                raise CorpusError(f"{record.place}: no field {name!r} (--{role}-field). {_fields_there(record)}.")
        own_ids = "id" in fields.chosen or _given(record, fields.id)
        return cls(fields=fields, own_ids=own_ids, chosen=fields.chosen)

    def document(self, record: Record) -> Document:
        names = self.fields
        form = self._form(record)
        used = {names.id, names.source, *(getattr(names, role) for role in form)} - {""}
        messages = read_messages(record.values[names.messages], _what(record, names.messages)) if form == CHAT else None
        return Document(
            id=self._id(record),
            text=written_out(messages) if messages else _text(record, getattr(names, form[-1])),
            prompt=string(record.values[names.prompt], _what(record, names.prompt)) if form == PAIR else None,
            messages=messages,
            source=_source(record, names.source),
            metadata={
                string(name, _what(record, name)): json_value(value, _what(record, name))
                for name, value in record.values.items()
                if name not in used
            },
        )

    def _id(self, record: Record) -> str:
        name = self.fields.id
        if _given(record, name) != self.own_ids:
            says, lacks = ("has no id", "has one") if self.own_ids else ("has an id", "has none")
            raise CorpusError(
                f"{record.place}: the record {says} (field {name!r}), while the first {lacks}. "
                "Give each record an id, or let `--id-field ''` name them by file and line."
            )
        value = record.values[name] if self.own_ids else record.given_id
        what = _what(record, name) if self.own_ids else f"{record.place}: the name"
        return _checked_id(str(value) if type(value) is int else string(value, what), what)

    def _form(self, record: Record) -> Form:
        """Which fields the record is a document by; those that the user named win over the default ones."""
        there = [form for form in FORMS if all(_given(record, getattr(self.fields, role)) for role in form)]
        if not there:
            raise CorpusError(_nothing_to_train_on(record, self.fields))
        if len(there) > 1:
            named = [form for form in there if any(role in self.chosen for role in form)]
            if len(named) != 1:
                raise CorpusError(_too_much_to_train_on(record, self.fields, there))
            return named[0]
        return there[0]


def _given(record: Record, name: str) -> bool:
    return name != "" and record.values.get(name) is not None


def _text(record: Record, name: str) -> str:
    text = string(record.values[name], _what(record, name))
    if not text.strip():
        raise CorpusError(f"{_what(record, name)} is empty. Leave this record out.")
    return text


def _source(record: Record, name: str) -> str | None:
    return string(record.values[name], _what(record, name)) or None if _given(record, name) else None


def _checked_id(value: str, what: str) -> str:
    if not value.strip() or len(value) > LONGEST_ID or _CONTROL.search(value):
        raise CorpusError(
            f"{what} is {value[:80]!r}. Ids have 1 to {LONGEST_ID} characters, no control characters, not only spaces."
        )
    return value


def _too_much_to_train_on(record: Record, names: Fields, there: Sequence[Form]) -> str:
    ours = [" and ".join(repr(getattr(names, role)) for role in form) for form in there]
    ways = " or ".join(f"--{form[0]}-field ''" for form in there)
    return (
        f"{record.place}: the record has {' and also '.join(ours)}. "
        f"Say what is not trained on, so that one is left: {ways}."
    )


def _nothing_to_train_on(record: Record, names: Fields) -> str:
    """The message for a record that has the fields of no form."""
    there = _fields_there(record)
    if _given(record, "conversations"):
        return (
            f"{record.place}: chat conversations of another form than messages are not read. {there}. "
            'Write them as `messages`: [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}].'
        )
    nulls = [name for name in (names.text, names.prompt, names.response) if name and name in record.values]
    missing = f"null in {names.text!r}" if names.text in nulls else f"no field {names.text!r}"
    if _given(record, names.prompt) != _given(record, names.response):
        missing += f", and only one of {names.prompt!r} and {names.response!r}"
    return (
        f"{record.place}: {missing}. {there}. Name them with --text-field, or --prompt-field and --response-field, or "
        "--messages-field."
    )


def _fields_there(record: Record) -> str:
    return f"Its fields are {', '.join(repr(name) for name in record.values) or 'none'}"


def _what(record: Record, name: str) -> str:
    return f"{record.place}: the field {name!r}"
