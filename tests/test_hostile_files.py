"""Weight files made to hang, crash or bloat whoever reads them: each is refused, or read right, at little cost."""

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from keras_dqn.hdf5_blocks import Blocks, lookup3
from keras_dqn.weights import WeightFileError, load_weights, read_weights, save_weights
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
    """The weights of Keras 2 in the newest structures of HDF5: with these, long lists of links lie in trees and heaps."""
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
    """Raises TimeoutError after so many seconds of processor time, so that a loop without end fails and does not hang."""

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
