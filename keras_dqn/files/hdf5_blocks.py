"""The blocks of metadata that an HDF5 file is made of: object headers, symbol tables, heaps and B-trees.

HDF5's own library trusts the addresses that stand in a file: a circle of them keeps it busy for ever, a wrong one ends
the process. Here every block that is looked at is paid for from a budget of bytes, and no loop stands still inside a
block, so that each file comes to an end whatever it says. After the HDF5 File Format Specification, version 3.0.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1  # the address of what was never stored
LONGEST_NAME = 1024  # bytes
CONTINUATION = 16  # the message that says where an object's header goes on


class HDF5Error(ValueError):
    """A file that HDF5 did not write so, or that holds what is not understood here."""


def fields(form: str, block: bytes, at: int = 0) -> tuple:
    """The little-endian numbers that stand at `at` in a block, like `struct.unpack_from`."""
    try:
        return struct.unpack_from(f"<{form}", block, at)
    except struct.error as error:
        size = struct.calcsize(f"<{form}")
        raise HDF5Error(f"expected {size} bytes at {at} of a block. Received: {len(block)} in all") from error


def number(block: bytes, at: int, size: int) -> int:
    """A little-endian number of any size."""
    if at + size > len(block):
        raise HDF5Error(f"expected {size} bytes at {at} of a block. Received: {len(block)} in all")
    return int.from_bytes(block[at : at + size], "little")


class Blocks:
    """The blocks of the file whose bytes are `content`; all that are looked at have at most `budget` bytes together."""

    def __init__(self, content: bytes, budget: int):
        self.content = content
        self._left = budget
        self._heaps, self._collections = {}, {}

    def take(self, address: int, length: int) -> bytes:
        """That many bytes from `address` on."""
        if address + length > len(self.content):
            raise HDF5Error(f"expected {length} bytes at {address}. Received: a file of {len(self.content)}")
        self._pay(length, address)
        return self.content[address : address + length]

    def _pay(self, length: int, address: int) -> None:
        """Takes the cost of a piece of metadata from the budget, also where it is looked at again."""
        self._left -= length + 8
        if self._left < 0:
            raise HDF5Error(f"expected less bookkeeping. Received: more at {address}")

    def take_signed(self, signature: bytes, address: int, length: int, version: int = 0) -> bytes:
        """A block that begins with `signature` and a version, and ends with its checksum."""
        block = self.take(address, length)
        if length < 9 or block[:4] != signature or block[4] != version:
            raise HDF5Error(f"expected {signature!r}, version {version}, at {address}. Received: {block[:5]!r}")
        return self._checked(block, address)

    def _checked(self, block: bytes, address: int) -> bytes:
        if lookup3(block[:-4]) != number(block, len(block) - 4, 4):
            raise HDF5Error(f"expected the checksum of the {len(block)} bytes at {address}. Received: another one")
        return block

    # ---------------------------------------------------------------- the file and its objects

    def root(self) -> int:
        """The address of the root group, from the superblock."""
        start = self.take(0, 16)
        if not start.startswith(SIGNATURE):
            raise HDF5Error(f"expected an HDF5 file. Received: {start[:8]!r}")
        version = start[8]
        if version in (0, 1):
            sizes, at = start[13:15], 24 + 4 * version
            base, _, end, _, _, root = fields("6Q", self.take(at, 48))
        elif version in (2, 3):
            sizes, block = start[9:11], self._checked(self.take(0, 48), 0)
            base, _, end, root = fields("4Q", block, 12)
        else:
            raise HDF5Error(f"expected a superblock of version 0 to 3. Received: {version}")
        if sizes != b"\x08\x08" or base != 0:
            raise HDF5Error(f"expected addresses and lengths of 8 bytes from 0 on. Received: {sizes!r}, {base}")
        if end > len(self.content):
            raise HDF5Error(f"expected {end} bytes. Received: a file of {len(self.content)}, cut short")
        return root

    def messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        """The messages of the object header there: (number of the kind, flags, bytes)."""
        new = self.take(address, 4) == b"OHDR"
        if new:
            block, flags = self._new_header(address)
        else:
            version, _, _, _, size = fields("BBHII", self.take(address, 12))
            if version != 1:
                raise HDF5Error(f"expected an object at {address}. Received: a header of version {version}")
            block, flags = self.take(address + 16, size), 0
        seen, pending = {address}, [block]
        while pending:
            for kind, message_flags, body in _messages_of(pending.pop(), new, flags):
                if kind != CONTINUATION:
                    yield kind, message_flags, body
                    continue
                at, length = fields("2Q", body)
                if at in seen:
                    raise HDF5Error(f"expected an object header that ends. Received: {at} twice")
                seen.add(at)
                pending.append(self._continuation(at, length) if new else self.take(at, length))

    def _new_header(self, address: int) -> tuple[bytes, int]:
        """The first messages of an object header of version 2, and its flags."""
        version, flags = fields("BB", self.take(address + 4, 2))
        if version != 2:
            raise HDF5Error(f"expected an object header of version 2 at {address}. Received: {version}")
        at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        length = number(self.take(address, at + width), at, width)
        block = self._checked(self.take(address, at + width + length + 4), address)
        return block[at + width : -4], flags

    def _continuation(self, address: int, length: int) -> bytes:
        """The messages in a continuation of an object header of version 2."""
        block = self.take(address, length)
        if length < 8 or block[:4] != b"OCHK":
            raise HDF5Error(f"expected b'OCHK' at {address}. Received: {block[:4]!r}")
        return self._checked(block, address)[4:-4]

    # ---------------------------------------------------------------- what a group holds

    def symbols(self, tree: int, heap: int) -> Iterator[tuple[bytes, int | str]]:
        """The links of a group of the old kind: (name, address or kind of link)."""
        names, seen, pending = self._heap(heap), set(), [(tree, None)]
        while pending:
            address, level = pending.pop()
            if address in seen:
                raise HDF5Error(f"expected a tree of names. Received: a circle at {address}")
            seen.add(address)
            signature, kind, found, used = fields("4sBBH", self.take(address, 8))
            if signature != b"TREE" or kind != 0 or level not in (None, found):
                received = f"{signature!r}, kind {kind}, level {found} where {level} was due"
                raise HDF5Error(f"expected a tree of names at {address}. Received: {received}")
            for (child,) in struct.iter_unpack("<8xQ", self.take(address + 24, 16 * used)):
                if found:
                    pending.append((child, found - 1))
                    continue
                if child in seen:
                    raise HDF5Error(f"expected each list of names once. Received: {child} twice")
                seen.add(child)
                yield from self._symbol_node(child, names)

    def _symbol_node(self, address: int, names: bytes) -> Iterator[tuple[bytes, int | str]]:
        signature, version, used = fields("4sBxH", self.take(address, 8))
        if signature != b"SNOD" or version != 1:
            raise HDF5Error(f"expected a list of names at {address}. Received: {signature!r}, version {version}")
        block = self.take(address + 8, 40 * used)
        for at in range(0, 40 * used, 40):
            name, target, kind = fields("QQI", block, at)
            end = names.find(b"\0", name, name + LONGEST_NAME + 1) if name < len(names) else -1
            if end < 0:
                received = names[name : name + 20]
                raise HDF5Error(f"expected a name of at most {LONGEST_NAME} bytes. Received: {received!r}…")
            yield names[name:end], "SoftLink" if kind == 2 else target

    def _heap(self, address: int) -> bytes:
        """The names of a group, one after the other."""
        if address not in self._heaps:
            signature, version, size, free, data = fields("4sB3xQQQ", self.take(address, 32))
            if signature != b"HEAP" or version != 0:
                raise HDF5Error(f"expected a heap of names at {address}. Received: {signature!r}, version {version}")
            block = self._heaps[address] = self.take(data, size)
            seen = set()
            while free not in (1, NOWHERE):  # what is free in it matters here only as far as it shows damage
                following, length = fields("QQ", block, free)
                if free in seen or length < 16 or free + length > size:
                    received = f"{length} bytes at {free}{' again' * (free in seen)}"
                    raise HDF5Error(f"expected what is free in the heap at {address}. Received: {received}")
                seen.add(free)
                free = following
        return self._heaps[address]

    def dense(self, heap: int, tree: int, skip: int) -> Iterator[bytes]:
        """The messages (links, attributes) of an object with many: those that a B-tree lists, from a fractal heap.

        `skip` is where in a record of the tree the place of the message begins.
        """
        header = self.take_signed(b"FRHP", heap, 146)
        filters, flags, longest = fields("HBI", header, 7)
        width, start, most, bits, _, root, rows = fields("HQQHHQH", header, 110)
        if filters or not (0 < start <= most and width and longest):
            raise HDF5Error(f"expected a heap of plain messages at {heap}. Received: filters, or blocks of no size")
        offset_size, length_size = (bits + 7) // 8, min((most.bit_length() + 6) // 8, (longest.bit_length() + 7) // 8)
        blocks = [(-1, 0, NOWHERE), (0, start, root)]
        if rows:
            blocks[1:] = self._direct_blocks(root, rows, (width, start, most), offset_size)
        contents = {}
        for record in self._records(tree):
            offset = number(record, skip + 1, offset_size)
            length = number(record, skip + 1 + offset_size, length_size)
            first, size, address = blocks[bisect_right(blocks, (offset, NOWHERE)) - 1]
            if record[skip] or offset + length > first + size:
                raise HDF5Error(f"expected a message in the heap at {heap}. Received: one elsewhere, {record!r}")
            self._pay(length, heap)
            if address not in contents:
                contents[address] = self._direct_block(address, size, 13 + offset_size, bool(flags & 2))
            yield contents[address][offset - first : offset - first + length]

    def _direct_blocks(self, root: int, rows: int, table: tuple, offset_size: int) -> Iterator[tuple[int, int, int]]:
        """The blocks of a fractal heap: (first offset, size, address)."""
        width, start, most = table
        if rows > most.bit_length() - start.bit_length() + 2:
            raise HDF5Error(f"expected a heap of direct blocks at {root}. Received: {rows} rows")
        block = self.take_signed(b"FHIB", root, 17 + offset_size + 8 * width * rows)
        first = 0
        for place, address in enumerate(fields(f"{width * rows}Q", block, 13 + offset_size)):
            size = start << max(place // width - 1, 0)
            if address != NOWHERE:
                yield first, size, address
            first += size

    def _direct_block(self, address: int, size: int, head: int, has_checksum: bool) -> bytes:
        block = self.take(address, size)
        if block[:5] != b"FHDB\0":
            raise HDF5Error(f"expected b'FHDB' at {address}. Received: {block[:5]!r}")
        if has_checksum and lookup3(block[:head] + bytes(4) + block[head + 4 :]) != number(block, head, 4):
            raise HDF5Error(f"expected the checksum of the {size} bytes at {address}. Received: another one")
        return block

    def _records(self, tree: int) -> Iterator[bytes]:
        """The records of a B-tree of version 2 with at most two levels, which is room for a thousand."""
        header = self.take_signed(b"BTHD", tree, 38)
        node_size, size, depth = fields("IHH", header, 6)
        root, used = fields("QH", header, 16)
        if depth > 1 or not 0 < size < node_size:
            raise HDF5Error(f"expected a tree of one or two levels at {tree}. Received: {depth + 1} levels")
        leaves = [(root, used)]
        if depth:
            count_size = (((node_size - 10) // size).bit_length() + 7) // 8
            pointers = 6 + size * used
            block = self.take_signed(b"BTIN", root, pointers + (used + 1) * (8 + count_size) + 4)
            yield from (block[at : at + size] for at in range(6, pointers, size))
            places = range(pointers, len(block) - 4, 8 + count_size)
            leaves = [(number(block, at, 8), number(block, at + 8, count_size)) for at in places]
        for address, used in leaves:
            block = self.take_signed(b"BTLF", address, 10 + size * used)
            yield from (block[at : at + size] for at in range(6, len(block) - 4, size))

    # ---------------------------------------------------------------- texts of any length

    def text(self, reference: bytes) -> bytes:
        """The text of any length that 16 bytes refer to: its length, and its place in a heap of such."""
        length, address, index = fields("IQI", reference)
        if length == 0:
            return b""
        if address not in self._collections:
            self._collections[address] = dict(self._collection(address))
        self._pay(length, address)
        found = self._collections[address].get(index, b"")
        if length > len(found):
            raise HDF5Error(f"expected a text of {length} bytes at {address}. Received: {len(found)}")
        return found[:length]

    def _collection(self, address: int) -> Iterator[tuple[int, bytes]]:
        signature, version, size = fields("4sB3xQ", self.take(address, 16))
        if signature != b"GCOL" or version != 1:
            raise HDF5Error(f"expected a heap of texts at {address}. Received: {signature!r}, version {version}")
        block, at = self.take(address, size), 16
        while at + 16 <= size:
            index, length = fields("H6xQ", block, at)
            if at + (16 if index else 0) + length > size or (index == 0 and at + length < size):
                raise HDF5Error(
                    f"expected a text inside the heap at {address}. Received: {length} bytes of {size - at}"
                )
            if index == 0:  # what is left is free
                break
            yield index, block[at + 16 : at + 16 + length]
            at += 16 + (length + 7) // 8 * 8


def _messages_of(block: bytes, new: bool, header_flags: int) -> Iterator[tuple[int, int, bytes]]:
    """The messages in a part of an object header: (number of the kind, flags, bytes)."""
    form, head = ("BHB", 4 + 2 * bool(header_flags & 4)) if new else ("HHB", 8)
    at = 0
    while at + head <= len(block):
        kind, size, flags = fields(form, block, at)
        at += head
        if at + size > len(block) or (size % 8 and not new):
            raise HDF5Error(f"expected a message inside its object's header. Received: {size} bytes, kind {kind}")
        yield kind, flags, block[at : at + size]
        at += size


def lookup3(block: bytes) -> int:
    """The checksum of HDF5's newer metadata: Bob Jenkins' hash "lookup3", begun with 0."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(block)) & mask
    if not block:
        return c
    words = struct.unpack(f"<{-(-len(block) // 12) * 3}I", block + bytes(-len(block) % 12))
    for at in range(0, len(words) - 3, 3):
        a, b, c = (a + words[at]) & mask, (b + words[at + 1]) & mask, (c + words[at + 2]) & mask
        a = (a - c) & mask ^ (c << 4 & mask | c >> 28)
        c = (c + b) & mask
        b = (b - a) & mask ^ (a << 6 & mask | a >> 26)
        a = (a + c) & mask
        c = (c - b) & mask ^ (b << 8 & mask | b >> 24)
        b = (b + a) & mask
        a = (a - c) & mask ^ (c << 16 & mask | c >> 16)
        c = (c + b) & mask
        b = (b - a) & mask ^ (a << 19 & mask | a >> 13)
        a = (a + c) & mask
        c = (c - b) & mask ^ (b << 4 & mask | b >> 28)
        b = (b + a) & mask
    a, b, c = (a + words[-3]) & mask, (b + words[-2]) & mask, (c + words[-1]) & mask
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - (b << turn & mask | b >> 32 - turn)) & mask
        a, b, c = b, c, a
    return b
