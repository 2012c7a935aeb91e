"""Weight files made to hang, crash or bloat whoever reads them: each is refused, or read right, at little cost."""

import ctypes
import io
import resource
import struct
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from keras_dqn.files import weight_file
from keras_dqn.files.weights import WeightFileError, load_weights, save_weights
from tests.test_weight_layouts import save_like_keras_1
from tests.test_weights import assert_refused, bits, dense, randomized, save_like_2017, trained
from tests.walker import walker, walking  # noqa: F401

# ---------------------------------------------------------------- every layout


def save_plain(model, path, idle=0, **how):
    """The weights of Keras 2 and nothing else, or as many groups and attributes as asked for."""
    with h5py.File(path, "w", **how) as file:
        names = [f"dense_{number}" for number in range(1, 1 + len(model.layers))]
        file.attrs["layer_names"] = np.array([*names, *(f"idle_{number}" for number in range(idle))], dtype="S")
        for number in range(idle):
            file.attrs[f"note_{number}"] = f"text {number}"
            file.create_group(f"idle_{number}").attrs["weight_names"] = np.array([])
        for name, layer in zip(names, model.layers, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array(["kernel:0", "bias:0"], dtype="S")
            for tensor, variable in zip(("kernel:0", "bias:0"), layer.weights, strict=True):
                group[tensor] = np.asarray(variable)


def of_keras_2(save):
    def save_theirs(model, path):
        theirs = trained(dense(tf_keras), tf_keras)
        theirs.set_weights(model.get_weights())
        save(theirs, path)

    return save_theirs


LAYOUTS = {
    "ours.h5": save_weights,
    "plain.h5": save_plain,
    "keras_1.h5": save_like_keras_1,
    "keras_2_of_2017.h5": save_like_2017,
    "keras_2_whole.h5": of_keras_2(lambda model, path: model.save(path, save_format="h5")),
    "keras_2_weights_only.h5": of_keras_2(lambda model, path: model.save_weights(path)),
    "keras_2.weights.h5": of_keras_2(lambda model, path: model.save_weights(path)),
    "keras_2.keras": of_keras_2(lambda model, path: model.save(path)),
    "keras_3_whole.h5": lambda model, path: model.save(path),
    "keras_3.weights.h5": lambda model, path: model.save_weights(path),
    "keras_3.keras": lambda model, path: model.save(path),
    "new_form.h5": lambda model, path: save_plain(model, path, idle=60, libver="latest"),  # in trees and heaps
}


@pytest.fixture(scope="module")
def network():
    return randomized(dense(), seed=1)


@pytest.fixture(scope="module")
def saved():
    """The network whose weights are in the files."""
    return randomized(trained(dense(), keras))


@pytest.fixture(scope="module")
def files(saved, tmp_path_factory):
    """The bytes of a file of each layout, which are read right."""
    folder, contents, ours = tmp_path_factory.mktemp("layouts"), {}, dense()
    for name, save in LAYOUTS.items():
        save(saved, folder / name)
        contents[name] = (folder / name).read_bytes()
        load_weights(randomized(ours, seed=1), folder / name)
        assert bits(ours) == bits(saved), name
    return contents


# ---------------------------------------------------------------- damaged at random


def mutated(content, random):
    """The bytes with one to three changes, each of a kind that damages addresses, lengths and structures."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 4)):
        words = max(len(damaged) // 8, 2)
        source, target = (8 * random.integers(words, size=2)).tolist()
        at, length, kind = random.integers((len(damaged) or 1, 200, 6)).tolist()
        if kind == 0:
            damaged[at : at + 1] = bytes([random.choice([0, 1, 2, 4, 8, 127, 128, 255])])
        elif kind == 1:  # an address or length of the file stands elsewhere too
            damaged[target : target + 8] = damaged[source : source + 8]
        elif kind == 2:
            damaged[target : target + 8] = struct.pack("<Q", (at, 0, 2**32, 2**63, 2**64 - 1)[random.integers(5)])
        elif kind == 3:  # one structure over another
            damaged[at : at + length] = damaged[source : source + length]
        elif kind == 4:
            damaged[at : at + 40] = random.bytes(40)
        else:
            del damaged[at : at + int(random.choice([1, 8, 512, len(damaged)]))]
    return bytes(damaged)


@pytest.mark.usefixtures("walker")
@pytest.mark.parametrize("name", LAYOUTS)
def test_damaged_files_of_each_layout_are_read_or_refused(name, files, saved, network, tmp_path):
    path, content, random, refused = tmp_path / "x.h5", files[name], np.random.default_rng(7), 0
    before = bits(network)
    for number in range(15):
        path.write_bytes(mutated(content, random))
        try:
            load_weights(network, path)
        except WeightFileError as error:
            assert len(str(error)) < 1500 and str(path) in str(error)
            assert bits(network) == before
            refused += 1
            continue
        assert all(np.isfinite(np.asarray(variable)).all() for variable in network.weights)
        if name == "ours.h5":  # its checksum sees every change of a tensor
            assert bits(network) == bits(saved), number
        before = bits(network)
    assert refused > 2


# ---------------------------------------------------------------- made by hand, each by its name


def put(content, at, form, *values):
    struct.pack_into(f"<{form}", content, at, *values)


def get(content, at, form="Q"):
    return struct.unpack_from(f"<{form}", content, at)[0]


def three_bytes(content):
    """HDF5's library follows it until the stack is full: SIGSEGV."""
    tree = content.index(b"TREE")
    content[tree + 5] = 1
    put(content, tree + 32, "Q", tree)


def tree_of_itself(content):
    tree = content.index(b"TREE")
    put(content, tree + 32, "Q", tree)


def tree_with_every_list_twice(content):
    tree = content.index(b"TREE")
    put(content, tree + 6, "H", 2)
    put(content, tree + 48, "Q", get(content, tree + 32))


def tree_of_many_levels(content):
    """255 levels of two, which lead to the same: 2^255 ways down."""
    tree, lowest = content.index(b"TREE"), 0
    for level in range(255, 0, -1):
        node, below = len(content), len(content) + 48
        content += struct.pack("<4sBBHQQQQQQ", b"TREE", 0, level, 2, 2**64 - 1, 2**64 - 1, 0, below, 0, below)[
            :48
        ].ljust(48)
        lowest = lowest or node
    content += content[tree : tree + 544]
    content[tree : tree + 48] = content[lowest : lowest + 48]
    put(content, tree + 32, "Q", lowest + 48)
    put(content, tree + 8, "QQ", 2**64 - 1, 2**64 - 1)


def free_block_after_itself(content):
    """One byte: HDF5's library then takes 1 GB a second, and no Ctrl-C ends it."""
    heap = content.index(b"HEAP")
    free, data = get(content, heap + 16), get(content, heap + 24)
    put(content, data + free, "Q", free)


def two_free_blocks_in_a_circle(content):
    heap = content.index(b"HEAP")
    free, data = get(content, heap + 16), get(content, heap + 24)
    put(content, data + free, "QQQQ", free + 16, 16, free, 16)


def one_bit_of_a_text_heap(content):
    """HDF5's library then comes to an object of no size, and never past it."""
    content[content.index(b"GCOL") + 25] ^= 1


def text_of_no_end(content):
    put(content, content.index(b"GCOL") + 24, "Q", 2**63)


def text_heap_that_stands_still(content):
    put(content, content.index(b"GCOL") + 16, "HHIQ", 0, 0, 0, 0)


def heap_of_everything(content):
    put(content, content.index(b"HEAP") + 8, "Q", 2**60)


def names_without_an_end(content):
    heap = content.index(b"HEAP")
    size, data = get(content, heap + 8), get(content, heap + 24)
    content[data : data + size] = b"x" * size
    put(content, heap + 16, "Q", 1)


def all_the_symbols_there_can_be(content):
    put(content, content.index(b"SNOD") + 6, "H", 65535)


def header_that_goes_on_in_itself(content):
    root = get(content, 64)
    put(content, root + 16, "HHB3xQQ", 16, 16, 0, root + 16, 24)


def header_of_empty_messages(content):
    """As long as a file may be, and every eight bytes of it a message."""
    root, start = get(content, 64), len(content)
    content += bytes(400_000)
    put(content, root + 16, "HHB3xQQ", 16, 16, 0, start, 400_000)


def root_that_is_nowhere(content):
    put(content, 64, "Q", 2**64 - 1)


def seal(content, start, length):
    """With the checksum of HDF5's newer metadata."""
    block = bytes(content[start : start + length - 4])
    put(
        content,
        start + length - 4,
        "I",
        ctypes.CDLL(h5py.h5.__file__).H5_checksum_lookup3(block, len(block), 0) % 2**32,
    )


def new_header_that_goes_on_in_itself(content):
    """With the right checksums."""
    root = get(content, 36)
    size = 1 << (content[root + 5] & 3)
    first = root + 6 + 16 * bool(content[root + 5] & 32) + 4 * bool(content[root + 5] & 16) + size  # message
    length = int.from_bytes(content[first - size : first], "little")
    place, message = len(content), 4 + 2 * bool(content[root + 5] & 4)
    whole = 4 + message + 16 + 4
    for at in (first, place + 4):
        if at > len(content):
            content += b"OCHK" + bytes(whole - 4)
        content[at : at + message] = struct.pack("<BHB", 16, 16, 0).ljust(message, b"\0")
        put(content, at + message, "QQ", place, whole)
    seal(content, place, whole)
    seal(content, root, first - root + length + 4)


def new_tree_of_itself(content):
    """The B-tree of a group with many links becomes an inner node, whose child it is itself."""
    head, leaf = content.index(b"BTHD"), content.index(b"BTLF")
    kind = content[leaf + 5]
    put(content, head + 12, "H", 1)
    put(content, head + 24, "H", 0)
    content[leaf : leaf + 19] = struct.pack("<4sBBQB", b"BTIN", 0, kind, leaf, 1) + bytes(4)
    seal(content, leaf, 19)
    seal(content, head, 38)


def heap_block_that_is_the_heap(content):
    heap = content.index(b"FRHP")
    put(content, heap + 132, "Q", heap)
    seal(content, heap, 146)


def attribute(content, name):
    """Where the lengths of a list of names stand."""
    at = content.index(name) + len(name) // 8 * 8 + 8
    return at + 8 + 8  # behind the type; version, rank, flags


def names_beyond_counting(content):
    put(content, attribute(content, b"layer_names\0"), "Q", 2**62)


def shape_beyond_counting(content):
    """Of the first tensor."""
    at = content.index(struct.pack("<4B4xQQ", 1, 2, 1, 0, 4, 5))
    put(content, at + 8, "QQ", 2**62, 2**62)


def shape_of_many_axes(content):
    at = content.index(struct.pack("<4B4xQQ", 1, 2, 1, 0, 4, 5))
    content[at + 1] = 255


def rezip(content, method=zipfile.ZIP_STORED, name="model.weights.h5", data=None, members=1):
    """A `.keras` file anew, with another member in the place of its weights."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = archive.read("model.weights.h5") if data is None else data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number in range(members):
            archive.writestr(name.format(number), data)
    return buffer.getvalue()


def lying_bomb(content):
    """Says that it unpacks to as much as the weights need, and unpacks to 100 MB."""
    packed = bytearray(rezip(content, zipfile.ZIP_DEFLATED, data=bytes(100_000_000)))
    for signature, at in (b"PK\3\4", 22), (b"PK\1\2", 24):
        put(packed, packed.index(signature) + at, "I", 20_000)
    return bytes(packed)


def encrypted(content):
    for signature, at in (b"PK\3\4", 6), (b"PK\1\2", 8):
        content[content.index(signature) + at] |= 1
    for signature, at in (b"PK\3\4", 6), (b"PK\1\2", 8):
        content[content.rindex(signature) + at] |= 1


OLD, WHOLE, NEW, ZIP = "plain.h5", "keras_2_whole.h5", "new_form.h5", "keras_3.keras"
TREES = (three_bytes, tree_of_itself, tree_with_every_list_twice, tree_of_many_levels)
HEAPS = (free_block_after_itself, two_free_blocks_in_a_circle, heap_of_everything, names_without_an_end)
HEADERS = (header_that_goes_on_in_itself, header_of_empty_messages, root_that_is_nowhere, all_the_symbols_there_can_be)
NUMBERS = (names_beyond_counting, shape_beyond_counting, shape_of_many_axes)
TEXTS = (one_bit_of_a_text_heap, text_of_no_end, text_heap_that_stands_still)
NEW_FORM = (new_header_that_goes_on_in_itself, new_tree_of_itself, heap_block_that_is_the_heap)
CRAFTED = {damage: OLD for damage in (*TREES, *HEAPS, *HEADERS, *NUMBERS)}
CRAFTED |= {damage: WHOLE for damage in TEXTS} | {damage: NEW for damage in NEW_FORM} | {encrypted: ZIP}
PACKED = {
    "a bomb": lambda content: rezip(content, zipfile.ZIP_DEFLATED, data=bytes(weight_file.LARGEST + 1)),
    "a bomb that lies": lying_bomb,
    "no weights": lambda content: rezip(content, name="data.pkl"),
    "cut short": lambda content: content[:-30],
    "something else": lambda content: rezip(content, data=b"text"),
}


READ_RIGHT = {tree_with_every_list_twice}


def assert_refused_at_little_cost(network, path):
    """Nothing changes, the message is short, and neither this process nor the child takes much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    tracemalloc.start()
    try:
        assert_refused(network, path, "")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


@pytest.mark.parametrize("damage", CRAFTED, ids=lambda damage: damage.__name__)
def test_a_crafted_file_is_refused_at_little_cost(damage, files, saved, network, tmp_path):
    content = bytearray(files[CRAFTED[damage]])
    damage(content)
    (tmp_path / "x.h5").write_bytes(content)
    if damage in READ_RIGHT:
        load_weights(other := randomized(dense()), tmp_path / "x.h5")
        assert bits(other) == bits(saved)
    else:
        assert_refused_at_little_cost(network, tmp_path / "x.h5")


@pytest.mark.parametrize("name", PACKED)
def test_a_crafted_keras_file_is_refused_at_little_cost(name, files, network, tmp_path):
    (tmp_path / "x.keras").write_bytes(PACKED[name](files[ZIP]))
    assert_refused_at_little_cost(network, tmp_path / "x.keras")


def test_a_walk_without_an_end_is_ended_where_nothing_else_limits_it(files, network, tmp_path, monkeypatch):
    content = bytearray(files[WHOLE])
    text_heap_that_stands_still(content)
    (tmp_path / "x.h5").write_bytes(content + b"in vain")
    monkeypatch.setattr(weight_file, "SECONDS", 0.7)
    assert_refused(network, tmp_path / "x.h5", "timed out after 0.7 seconds")


def test_a_child_that_cannot_start_says_why(files, network, tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(files[OLD] + b"not walked before")
    monkeypatch.setattr(weight_file.h5_probe, "__file__", str(tmp_path / "missing.py"))
    assert_refused(network, tmp_path / "x.h5", "missing.py")


def test_the_same_bytes_are_walked_only_once(files, network, tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(files[OLD] + b"walked once")
    load_weights(network, tmp_path / "x.h5")
    monkeypatch.setattr(weight_file.subprocess, "run", None)
    load_weights(network, tmp_path / "x.h5")
    (tmp_path / "x.h5").write_bytes(files[OLD] + b"changed since")
    assert_refused(network, tmp_path / "x.h5", "'NoneType' object is not callable")


def test_tensors_of_two_of_our_files_are_not_mixed(saved, network, tmp_path):
    """As they are after a file was overwritten in place by half."""
    for number, model in enumerate((saved, randomized(dense(), seed=1))):
        save_weights(model, tmp_path / f"{number}.h5")
    contents = [(tmp_path / f"{number}.h5").read_bytes() for number in range(2)]
    at = contents[0].index(bits(saved)[2])
    (tmp_path / "x.h5").write_bytes(contents[0][:at] + contents[1][at:])
    assert_refused(network, tmp_path / "x.h5", "expected tensors of sha256 ")
