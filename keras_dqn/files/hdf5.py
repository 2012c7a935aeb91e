"""A reader of HDF5 files that nobody vouches for: in Python, from memory, in bounded time, whatever their bytes say.

It reads what h5py writes for groups, attributes of names, and tensors stored in one piece, in the old form ("earliest")
and in the new ("latest"). All else, like links to other files and compressed tensors, is named and not followed.
"""

import math
from dataclasses import dataclass

import numpy as np

from keras_dqn.files.hdf5_blocks import LONGEST_NAME, NOWHERE, Blocks, HDF5Error, fields, number

# the messages of an object's header
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, SYMBOL_TABLE, ATTRIBUTE_INFO = 11, 12, 17, 21
ONCE = {DATASPACE, LINK_INFO, DATATYPE, EXTERNAL_FILES, LAYOUT, FILTERS, SYMBOL_TABLE, ATTRIBUTE_INFO}
FLOATS = {2: (16, 10, 5, 10, 15), 4: (32, 23, 8, 23, 127), 8: (64, 52, 11, 52, 1023)}  # IEEE 754's, by their bytes
OTHER_TYPES = {4: "bits", 5: "opaque", 6: "compound", 7: "reference", 8: "enumeration", 10: "array"}


@dataclass(frozen=True)
class Type:
    """The type of a tensor's or attribute's elements: its name as NumPy has it, where it has one."""

    name: str
    size: int  # bytes of an element
    dtype: np.dtype | None = None  # of floats
    text: str | None = None  # "fixed" or "variable", for names
    ends_at_zero: bool = False  # or is filled up with zeros

    @classmethod
    def parse(cls, body: bytes) -> "Type":
        kind, order, sign, _, size = fields("BBBBI", body)
        kind &= 15
        if kind == 0:
            return cls(f"{'' if order & 8 else 'u'}int{8 * size}", size)
        if kind == 1:
            offset, precision, at, exponent, _, mantissa, bias = fields("HHBBBBI", body, 8)
            layout = (precision, at, exponent, mantissa, bias)
            if FLOATS.get(size) == layout and (offset, body[14], order & 0x70, sign) == (0, 0, 0x20, 8 * size - 1):
                dtype = np.dtype(f"{'>' if order & 1 else '<'}f{size}")
                return cls(str(dtype), size, dtype)
            return cls(f"float{8 * size} of another form", size)
        if kind == 3:
            return cls(f"|S{size}", size, text="fixed", ends_at_zero=order & 15 == 0)
        if kind == 9:
            return cls("text" if order & 15 == 1 else "list", size, text="variable" if order & 15 == 1 else None)
        return cls(OTHER_TYPES.get(kind, f"type {kind}"), size)


def _shape(body: bytes) -> tuple | None:
    """The lengths of the axes; None for a tensor that is declared to have no elements at all."""
    version, rank, _, kind = fields("4B", body)
    if version not in (1, 2) or rank > 32 or (version == 2 and kind > 2):
        raise HDF5Error(f"expected a shape. Received: {body[:4]!r}")
    if version == 2 and kind == 2:
        return None
    return fields(f"{rank}Q", body, 8 if version == 1 else 4)


class Attribute:
    """An attribute of an object: its name, type and shape, and on request its texts."""

    def __init__(self, blocks: Blocks, body: bytes):
        version, flags, *sizes = fields("BBHHH", body)
        if version not in (1, 2, 3):
            raise HDF5Error(f"expected an attribute of version 1 to 3. Received: {version}")
        at, parts = 8 + (version == 3), []
        for size in sizes:
            if at + size > len(body):
                raise HDF5Error(f"expected an attribute of {size} bytes more. Received: {len(body) - at}")
            parts.append(body[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        self.name = parts[0].split(b"\0")[0].decode("utf-8", "surrogateescape")
        self._blocks, self._parts, self._data = blocks, parts[1:], body[at:]
        self.is_committed = version > 1 and bool(flags & 3)

    @property
    def type(self) -> Type:
        if self.is_committed:
            raise HDF5Error(f"expected an attribute with its own type. Received: {self.name[:99]!r} with a shared one")
        return Type.parse(self._parts[0])

    @property
    def shape(self) -> tuple | None:
        return _shape(self._parts[1])

    def texts(self) -> list[bytes]:
        """The elements, which must be texts."""
        kind, count = self.type, math.prod(self.shape)
        if kind.size * count > len(self._data) or (kind.text == "variable" and kind.size != 16):
            raise HDF5Error(f"expected {count} texts of {kind.size} bytes. Received: {len(self._data)} bytes")
        raw = [self._data[at : at + kind.size] for at in range(0, kind.size * count, max(kind.size, 1))]
        if kind.text == "variable":
            return [self._blocks.text(reference) for reference in raw]
        return [text.split(b"\0")[0] if kind.ends_at_zero else text.rstrip(b"\0") for text in raw]


@dataclass(frozen=True)
class Group:
    """A group: where its links lead by their names (an address, or the kind of a link that leads elsewhere)."""

    links: dict[str, int | str]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Tensor:
    """A tensor as it is declared; nothing of it has been read."""

    type: Type
    shape: tuple | None
    elsewhere: str | None  # "external storage", "virtual", "chunks of …": what is not in one piece in this file
    stored: int  # bytes in this file
    attributes: dict[str, Attribute]
    _content: bytes
    _at: int

    def read(self) -> np.ndarray:
        """The elements, as a view into the file's bytes."""
        count = math.prod(self.shape)
        if (end := self._at + count * self.type.size) > len(self._content):
            raise HDF5Error(f"expected a tensor that ends at {end}. Received: a file of {len(self._content)} bytes")
        return np.frombuffer(self._content, self.type.dtype, count, self._at).reshape(self.shape)


class File:
    """The objects of an HDF5 file that lies in memory.

    Args:
        content: its bytes.
        budget: how many bytes of bookkeeping are looked at before HDF5Error is raised.
    """

    def __init__(self, content: bytes, budget: int):
        self._blocks = Blocks(content, budget)
        self._objects = {}
        self.root = self._blocks.root()

    def open(self, address: int) -> Group | Tensor | str:
        """The object there, or the name of its kind where it is neither a group nor a tensor. Raises HDF5Error."""
        if address not in self._objects:
            self._objects[address] = self._open(address)
        return self._objects[address]

    def _open(self, address: int) -> Group | Tensor | str:
        messages, links, attributes = {}, {}, {}
        for kind, flags, body in self._blocks.messages(address):
            if kind == ATTRIBUTE and not flags & 2:
                self._add_attribute(attributes, body)
            elif kind == LINK:
                _add_link(links, *_link(body))
            elif kind in ONCE:
                if kind in messages or flags & 2:
                    raise HDF5Error(f"expected one message of kind {kind}. Received: two, or one of another object")
                messages[kind] = body
        for body in self._dense(messages.get(ATTRIBUTE_INFO), 2, 0):
            self._add_attribute(attributes, body)
        if LAYOUT in messages:
            return self._tensor(messages, attributes)
        if SYMBOL_TABLE in messages:
            for name, target in self._blocks.symbols(*fields("2Q", messages[SYMBOL_TABLE])):
                _add_link(links, name, target)
        elif LINK_INFO in messages:
            for body in self._dense(messages[LINK_INFO], 8, 4):
                _add_link(links, *_link(body))
        else:
            return "Datatype" if DATATYPE in messages else "an object of no kind"
        return Group(links, attributes)

    def _dense(self, info: bytes | None, order_size: int, skip: int):
        """The messages that are too many for the header."""
        if info is None:
            return ()
        _, flags = fields("BB", info)
        heap, tree = fields("2Q", info, 2 + order_size * (flags & 1))
        return self._blocks.dense(heap, tree, skip) if heap != NOWHERE else ()

    def _add_attribute(self, attributes: dict, body: bytes) -> None:
        attribute = Attribute(self._blocks, body)
        if attribute.name in attributes:
            raise HDF5Error(f"expected each attribute once. Received: {attribute.name[:99]!r} twice")
        if not attribute.is_committed and attribute.type.text == "variable" and attribute.shape is not None:
            attribute.texts()  # nobody may ask for it, but where its text is damaged more may be
        attributes[attribute.name] = attribute

    def _tensor(self, messages: dict, attributes: dict) -> Tensor:
        if DATASPACE not in messages or DATATYPE not in messages:
            raise HDF5Error("expected a tensor with a type and a shape. Received: one without")
        body, at, stored, elsewhere = messages[LAYOUT], 0, 0, None
        version, kind = fields("BB", body)
        if version not in (3, 4) or kind > 3 or (version == 3 and kind == 3):
            raise HDF5Error(f"expected a tensor in one piece. Received: layout {kind} of version {version}")
        if kind == 0:
            raise HDF5Error("expected a tensor's data apart from its header. Received: compact storage")
        if kind == 1:
            at, stored = fields("2Q", body, 2)
            stored = 0 if at == NOWHERE else stored
        else:
            elsewhere = "virtual" if kind == 3 else _chunks(body, version)
        if EXTERNAL_FILES in messages:
            elsewhere = "external storage"
        elif FILTERS in messages and elsewhere is None:
            elsewhere = "filters"
        kind, shape = Type.parse(messages[DATATYPE]), _shape(messages[DATASPACE])
        return Tensor(kind, shape, elsewhere, stored, attributes, self._blocks.content, at)


def _chunks(body: bytes, version: int) -> str:
    rank, size, at = (body[2:3], 4, 11) if version == 3 else (body[3:4], body[4] if len(body) > 4 else 0, 5)
    lengths = [number(body, at + size * axis, size) for axis in range(max(int.from_bytes(rank) - 1, 0))]
    return f"chunks of {tuple(lengths)}"


def _link(body: bytes) -> tuple[bytes, int | str]:
    """A link of the new kind: (name, address or kind of link)."""
    version, flags = fields("BB", body)
    if version != 1:
        raise HDF5Error(f"expected a link of version 1. Received: {version}")
    kind = body[2] if flags & 8 and len(body) > 2 else 0
    at = 2 + bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    length = number(body, at, width)
    name = body[at + width : at + width + length]
    if kind:
        return name, {1: "SoftLink", 64: "ExternalLink"}.get(kind, f"a link of kind {kind}")
    return name, *fields("Q", body, at + width + length)


def _add_link(links: dict, raw: bytes, target: int | str) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    if not name or len(raw) > LONGEST_NAME or "/" in name or name == "." or name in links:
        raise HDF5Error(f"expected each name once, of up to {LONGEST_NAME} bytes, no slash. Received: {raw[:99]!r}")
    links[name] = target
