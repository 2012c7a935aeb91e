"""A child process that reads all of a weight file, with limits on time and memory: what it survives, its parent does.

HDF5's C library hangs or crashes on some crafted files, and nothing in the process can stop it. So a file that did not
come with the package first goes through: python h5_probe.py MOST_BYTES < FILE
It refuses what h5py would follow out of the file (external and virtual data, links), data that were never written, and
anything that takes more than MOST_BYTES; then the last line on stderr says what.
"""

import io
import math
import sys
import zipfile
from contextlib import suppress

import h5py

ZIP = b"PK\3\4"  # how a `.keras` file begins
TENSORS, CONFIG = "model.weights.h5", "config.json"  # in a `.keras` file


class WeightFileError(ValueError):
    """A weight file that is damaged, hostile or made for another network; names the file and the tensor."""


def unzipped(content: bytes, most: int) -> tuple[bytes, bytes | None]:
    """The HDF5 file in a weight file, which may be a `.keras` file, and the configuration that lies beside it there."""
    if not content.startswith(ZIP):
        return content, None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if (size := sum(sizes.values())) > most:
            raise WeightFileError(f"expected at most {most} bytes, unpacked. Received: {size}")
        return archive.read(TENSORS), archive.read(CONFIG) if CONFIG in sizes else None


def walk(content: bytes, most: int) -> None:
    """Reads every attribute and dataset of a weight file, of at most so many bytes.

    Raises WeightFileError, or whatever h5py and zipfile raise for a damaged file.
    """
    left = most

    def read(name, item):
        nonlocal left
        dict(item.attrs)
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if item.is_virtual or item.external:
            raise WeightFileError(f"{name!r}: expected data in the file itself. Received: data of another file")
        needed = max(item.size, math.prod(item.chunks or ())) * item.dtype.itemsize
        if needed > left:
            raise WeightFileError(f"{name!r}: expected at most {left} bytes more. Received: {needed}")
        left -= needed
        if item.size and not item.id.get_storage_size():
            raise WeightFileError(f"{name!r}: expected data. Received: a tensor that was never written, {item.shape}")
        item[()]

    with h5py.File(io.BytesIO(unzipped(content, most)[0])) as file:
        if name := file.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name):
            raise WeightFileError(f"{name!r}: expected data in the file itself. Received: a link")
        read("/", file)
        file.visititems(read)


def _limit_resources(most):
    with suppress(ImportError):  # Windows has none; the parent limits the time anyway
        import resource

        limits = {"RLIMIT_CPU": 2 + most // 2**28, "RLIMIT_AS": 2**29 + 3 * most, "RLIMIT_CORE": 0}
        for name, value in limits.items():
            with suppress(ValueError, OSError):  # a lower one is set already
                resource.setrlimit(getattr(resource, name), (value, value))


def main(content: bytes, most: int) -> None:
    """Walk a weight file, and end the process, with a line on stderr, where that fails."""
    _limit_resources(most)
    try:
        walk(content, most)
    except Exception as error:  # of whatever kind: what a damaged file may do
        sys.exit(str(error) if isinstance(error, WeightFileError) else f"expected a weight file. Received: {error!r}")


if __name__ == "__main__":
    main(sys.stdin.buffer.read(int(sys.argv[1]) + 1), int(sys.argv[1]))
