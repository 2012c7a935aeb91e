"""Weight files made to hang, crash or bloat whoever reads them: each is refused, or read right, at little cost."""

import io
import os
import re
import signal
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from keras_dqn.files.hdf5 import File
from keras_dqn.files.hdf5_blocks import lookup3
from keras_dqn.files.weights import WeightFileError, load_weights, read_weights, save_weights
from tests.test_weights import bits, dense, randomized, save_like_2017, save_unsealed, trained

# ---------------------------------------------------------------- every layout


def save_like_keras_1(model, path):
    """The weights of Keras 1: tensors called "dense_1_W:0"."""
    with h5py.File(path, "w") as file:
        names = [f"dense_{number}" for number in range(1, 1 + len(model.layers))]
        file.attrs["layer_names"] = np.array(names, dtype="S")
        for name, layer in zip(names, model.layers, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}_W:0", f"{name}_b:0"], dtype="S")
            for leaf, variable in zip("Wb", layer.weights, strict=True):
                group[f"{name}_{leaf}:0"] = np.asarray(variable)


def save_in_the_new_form(model, path):
    """The weights of Keras 2 in the newest structures of HDF5, with long lists of links in trees and heaps."""
    with h5py.File(path, "w", libver="latest") as file:
        names = [f"dense_{number}" for number in range(1, 1 + len(model.layers))]
        file.attrs["layer_names"] = np.array([*names, *(f"idle_{number}" for number in range(9))], dtype="S")
        for number in range(9):  # attributes in such heaps too
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
    "ours_unsealed.h5": save_unsealed,
    "keras_1.h5": save_like_keras_1,
    "keras_2_of_2017.h5": save_like_2017,
    "keras_2_whole.h5": of_keras_2(lambda model, path: model.save(path, save_format="h5")),
    "keras_2_weights_only.h5": of_keras_2(lambda model, path: model.save_weights(path)),
    "keras_2.weights.h5": of_keras_2(lambda model, path: model.save_weights(path)),
    "keras_2.keras": of_keras_2(lambda model, path: model.save(path)),
    "keras_3_whole.h5": lambda model, path: model.save(path),
    "keras_3.weights.h5": lambda model, path: model.save_weights(path),
    "keras_3.keras": lambda model, path: model.save(path),
    "new_form.h5": save_in_the_new_form,
}


@pytest.fixture(scope="module")
def network():
    return randomized(dense(), seed=1)


@pytest.fixture(scope="module")
def saved():
    """The network whose weights are in the files."""
    model = trained(dense(), keras)
    return randomized(model)


@pytest.fixture(scope="module")
def files(saved, tmp_path_factory):
    """The bytes of a file of each layout, which are read right."""
    folder, contents = tmp_path_factory.mktemp("layouts"), {}
    for name, save in LAYOUTS.items():
        save(saved, folder / name)
        contents[name] = (folder / name).read_bytes()
        assert [array.tobytes() for array in read_weights(saved, folder / name)] == bits(saved), name
    return contents


# ---------------------------------------------------------------- damaged at random


@contextmanager
def at_most(seconds):
    """Raises TimeoutError after so many seconds of processor time: a loop without end fails and does not hang."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def mutated(content, random):
    """The bytes with one to three changes, each of a kind that damages addresses, lengths and structures."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 4)):
        if len(damaged) < 16:
            break
        at, kind = int(random.integers(len(damaged))), random.integers(7)
        if kind == 0:
            damaged[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            damaged[at] = int(random.choice([0, 1, 2, 4, 8, 127, 128, 255]))
        elif kind == 2:  # an address or length of the file stands elsewhere too
            source, target = (int(random.integers(len(damaged) // 8)) * 8 for _ in range(2))
            damaged[target : target + 8] = damaged[source : source + 8]
        elif kind == 3:
            target, value = int(random.integers(len(damaged) // 8)) * 8, int(random.integers(len(damaged)))
            value = (value, value // 8 * 8, 0, 2**32, 2**63, 2**64 - 1)[random.integers(6)]
            damaged[target : target + 8] = struct.pack("<Q", value)
        elif kind == 4:  # one structure over another
            source, length = int(random.integers(len(damaged))), int(random.integers(4, 200))
            damaged[at : at + length] = damaged[source : source + length]
        elif kind == 5:
            damaged[at : at + 40] = random.bytes(40)
        else:
            del damaged[at : at + int(random.choice([1, 8, 512, len(damaged)]))]
    return bytes(damaged)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_thousand_damaged_files_of_each_layout_are_read_or_refused(name, files, saved, tmp_path):
    path, content, random, refused = tmp_path / "x.h5", files[name], np.random.default_rng(7), 0
    right = bits(saved)
    for number in range(1000):
        path.write_bytes(mutated(content, random))
        try:
            with at_most(seconds=5):
                arrays = read_weights(saved, path)
        except WeightFileError as error:
            assert len(str(error)) < 2000 and str(path) in str(error)
            refused += 1
            continue
        assert [(array.shape, array.dtype) for array in arrays] == [(v.shape, v.dtype) for v in saved.weights]
        assert all(np.isfinite(array).all() for array in arrays)
        if name == "ours.h5":  # its checksum sees every change of a tensor
            assert [array.tobytes() for array in arrays] == right, number
    assert refused > 300


# ---------------------------------------------------------------- made by hand, each by its name


def change(damage):
    """A function of bytes from one that changes a bytearray in place."""

    def changed(content):
        content = bytearray(content)
        damage(content)
        return bytes(content)

    return changed


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
    put(content, start + length - 4, "I", lookup3(bytes(content[start : start + length - 4])))


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


OLD, WHOLE, NEW, ZIP = "ours_unsealed.h5", "keras_2_whole.h5", "new_form.h5", "keras_3.keras"
CRAFTED = {  # which layout, what is done to it, what the message says
    three_bytes: (OLD, "a circle"),
    tree_of_itself: (OLD, "expected each list of names once"),
    tree_with_every_list_twice: (OLD, "expected each list of names once"),
    tree_of_many_levels: (OLD, "expected a tree of names"),
    free_block_after_itself: (OLD, "expected what is free in the heap"),
    two_free_blocks_in_a_circle: (OLD, "again"),
    one_bit_of_a_text_heap: (WHOLE, "expected a text"),
    text_of_no_end: (WHOLE, "expected a text inside the heap"),
    text_heap_that_stands_still: (WHOLE, "expected a text"),
    heap_of_everything: (OLD, "cannot be read"),
    names_without_an_end: (OLD, "expected a name of at most 1024 bytes"),
    all_the_symbols_there_can_be: (OLD, "cannot be read"),
    header_that_goes_on_in_itself: (OLD, "expected an object header that ends"),
    header_of_empty_messages: (OLD, "expected a group. Received: 'an object of no kind'"),
    root_that_is_nowhere: (OLD, "cannot be read"),
    new_header_that_goes_on_in_itself: (NEW, "expected an object header that ends"),
    new_tree_of_itself: (NEW, "expected b'BTLF'"),
    heap_block_that_is_the_heap: (NEW, "expected b'FHDB'"),
    names_beyond_counting: (OLD, "names in layer_names. Received: 4611686018427387904"),
    shape_beyond_counting: (OLD, "expected shape (4, 5) for 'kernel'. Received: (46116"),
    shape_of_many_axes: (OLD, "expected a shape"),
    encrypted: (ZIP, "or encrypted"),
}
PACKED = {
    "a bomb": (
        lambda content: rezip(content, zipfile.ZIP_DEFLATED, data=bytes(50_000_000)),
        "is enough for this network",
    ),
    "a bomb that lies": (lying_bomb, "a damaged zip file, \"Bad CRC-32 for file 'model.weights.h5'\""),
    "another method": (lambda content: rezip(content, zipfile.ZIP_LZMA), "as Keras packs it"),
    "twice the weights": (lambda content: rezip(content, members=2), "2 of that name"),
    "no weights": (lambda content: rezip(content, name="data.pkl"), "0 of that name, and ['data.pkl']"),
    "a crowd": (
        lambda content: rezip(content, name="{}", data=b"", members=3000),
        "at most 1000 members. Received: 3000",
    ),
    "cut short": (lambda content: content[:-30], "a damaged zip file"),
    "something else": (
        lambda content: rezip(content, data=b"text"),
        "a file that is not HDF5, which begins with b'text'",
    ),
}


def assert_refused_at_little_cost(network, path, message):
    """Nothing changes, the message is short, and no more memory is taken than some copies of what a file may have."""
    before = bits(network)
    tracemalloc.start()
    try:
        with at_most(seconds=5), pytest.raises(WeightFileError) as caught:
            load_weights(network, path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bits(network) == before
    assert str(caught.value).startswith(str(path)) and len(str(caught.value)) < len(str(path)) + 1000
    assert message in str(caught.value)
    assert most < 10_000_000


@pytest.mark.parametrize("damage", CRAFTED, ids=lambda damage: damage.__name__)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_crafted_file_is_refused_at_little_cost(damage, files, network, tmp_path):
    layout, message = CRAFTED[damage]
    (tmp_path / "x.h5").write_bytes(change(damage)(files[layout]))
    assert_refused_at_little_cost(network, tmp_path / "x.h5", message)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_crafted_keras_file_is_refused_at_little_cost(name, files, network, tmp_path):
    damage, message = PACKED[name]
    (tmp_path / "x.keras").write_bytes(damage(files[ZIP]))
    assert_refused_at_little_cost(network, tmp_path / "x.keras", message)


def test_a_compressed_keras_file_is_read(files, saved, tmp_path):
    (tmp_path / "x.keras").write_bytes(rezip(files[ZIP], zipfile.ZIP_DEFLATED))
    assert [array.tobytes() for array in read_weights(saved, tmp_path / "x.keras")] == bits(saved)


def test_a_way_without_end_is_refused(saved, network, tmp_path):
    """Ways grow with each group, and all of them together with its square."""
    save_unsealed(saved, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        group = file
        for number in range(100):
            group = group.create_group(f"{number:0900}")
    assert_refused_at_little_cost(network, tmp_path / "x.h5", "at most 4096 letters for the way to a tensor")


def test_a_text_that_many_refer_to_is_not_copied_for_all(saved, network, tmp_path):
    save_unsealed(saved, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["texts"] = ["x" * 50_000, *("y" * 8 for _ in range(2000))]
    content = bytearray((tmp_path / "x.h5").read_bytes())
    heaps = [match.start() for match in re.finditer(b"GCOL", content)]
    (first,) = [at for heap in heaps if (at := content.find(struct.pack("<IQI", 50_000, heap, 1))) >= 0]
    content[first : first + 16 * 2001] = content[first : first + 16] * 2001
    (tmp_path / "x.h5").write_bytes(content)
    assert_refused_at_little_cost(network, tmp_path / "x.h5", "expected less bookkeeping")


# ---------------------------------------------------------------- names, pipes, files that change, checksums


@pytest.mark.parametrize("damage", ["link", "layer", "attribute"])
def test_a_very_long_name_makes_a_short_message(damage, saved, network, tmp_path):
    save_unsealed(saved, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        if damage == "link":
            file.create_group("x" * 60_000)
        elif damage == "layer":
            file.create_dataset("x" * 1000 + "/" + "y" * 1000, data=1.0)
        else:
            file.attrs["x" * 60_000] = 1
            file.attrs["layer_names"] = 1
    assert_refused_at_little_cost(network, tmp_path / "x.h5", "Received: ")


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(network, tmp_path, monkeypatch):
    """It takes the name of a file after that was looked at and before it is opened."""
    os.mkfifo(tmp_path / "x.h5")
    (tmp_path / "before.h5").write_bytes(b"file")
    status, stat = os.stat(tmp_path / "before.h5"), os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: status if path == tmp_path / "x.h5" else stat(path, **how))
    signal.alarm(60)  # ends the tests rather than to let them wait for ever
    with pytest.raises(WeightFileError, match="Received: something that is not a regular file"):
        read_weights(network, tmp_path / "x.h5")
    signal.alarm(0)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin", "/dev/tty"])
def test_devices_are_refused_before_they_are_opened(device, network):
    with pytest.raises(WeightFileError, match="something that is not a regular file|No such file|No such device|empty"):
        read_weights(network, device)


@pytest.mark.parametrize("change", ["longer", "shorter", "as long"])
def test_a_file_that_is_written_while_it_is_read_is_refused(change, saved, network, tmp_path, monkeypatch):
    path, fstat, calls = tmp_path / "x.h5", os.fstat, []
    save_unsealed(saved, path)
    content = path.read_bytes()
    other = {"longer": content + b"x", "shorter": content[:-9], "as long": content[:-9] + b"123456789"}[change]

    def overwrite_after(number):
        status = fstat(number)
        if not calls:
            path.write_bytes(other)
            os.utime(path, ns=(0, status.st_mtime_ns + 1))  # as a clock that has gone on would show
        calls.append(number)
        return status

    monkeypatch.setattr(os, "fstat", overwrite_after)
    with pytest.raises(WeightFileError, match="expected a weight file. Received: one that is being written"):
        read_weights(network, path)
    assert len(set(calls)) == 1


def test_tensors_of_two_of_our_files_are_not_mixed(saved, network, tmp_path):
    """As they are after a file was overwritten in place by half."""
    for number, model in enumerate((saved, network)):
        save_weights(model, tmp_path / f"{number}.h5")
    contents = [(tmp_path / f"{number}.h5").read_bytes() for number in range(2)]
    at = len(contents[0]) // 2
    (tmp_path / "x.h5").write_bytes(contents[0][:at] + contents[1][at:])
    assert_refused_at_little_cost(network, tmp_path / "x.h5", "'/': expected tensors of sha256 b'")
    save_unsealed(saved, tmp_path / "x.h5")
    load_weights(network, tmp_path / "x.h5")  # older files have no checksum
    assert bits(network) == bits(saved)


def test_every_bit_of_a_tensor_counts_for_its_checksum(saved, network, tmp_path):
    save_weights(saved, tmp_path / "x.h5")
    content = (tmp_path / "x.h5").read_bytes()
    for values in bits(saved):
        damaged = bytearray(content)
        damaged[content.index(values)] ^= 1  # the smallest change of a number
        (tmp_path / "x.h5").write_bytes(damaged)
        assert_refused_at_little_cost(network, tmp_path / "x.h5", "'/': expected tensors of sha256 b'")


@pytest.mark.parametrize("checksum", [1.5, "text", np.bytes_("0" * 63), np.array([b"0" * 64])])
def test_a_checksum_that_is_none_is_refused(checksum, saved, network, tmp_path):
    save_weights(saved, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["sha256"] = checksum
    assert_refused_at_little_cost(network, tmp_path / "x.h5", "'/': expected sha256 of 64 letters. Received: ")


def test_the_checksum_of_newer_metadata_is_the_published_one():
    """The numbers stand in the source of Bob Jenkins' lookup3."""
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


def test_many_links_and_attributes_in_the_new_form_are_found(saved, tmp_path):
    """So many that HDF5 files them in trees of two levels and heaps of several blocks."""
    save_in_the_new_form(saved, tmp_path / "x.h5")
    many = 60
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        for number in range(many):
            file.attrs[f"another_note_{number}"] = number
    content = (tmp_path / "x.h5").read_bytes()
    assert b"BTIN" in content and b"FHIB" in content
    file = File(content, 2**20)
    root = file.open(file.root)
    assert len(root.attributes) == 10 + many and len(root.links) == 12
    assert [array.tobytes() for array in read_weights(saved, tmp_path / "x.h5")] == bits(saved)
