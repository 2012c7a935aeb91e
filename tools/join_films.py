"""Join films into one GIF or MP4, side by side below their captions; those that end sooner begin again.

    python tools/join_films.py both.gif "random actions=videos/cartpole_random.mp4" trained=videos/cartpole.mp4

An empty caption takes no room. `make gif` makes the moving picture of the README with it.
"""

import argparse
import contextlib
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from matplotlib import font_manager

CAPTION = 28  # pixels
# 64 colors are enough for these games, and without dithering what stands still costs nothing.
ENDINGS = {
    ".gif": "split[a][b];[a]palettegen=max_colors=64[p];[b][p]paletteuse=dither=none",
    ".mp4": "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p",
}


def facts(path):
    """What ffmpeg knows about a film: "size", "fps", "duration" in seconds."""
    reader = imageio_ffmpeg.read_frames(path)
    found = next(reader)
    reader.close()
    return found


def filters(sizes, captions, width, columns, rate, seconds, ending):
    """The filter graph of ffmpeg: each film scaled, its caption above it, rows of one height and `width` pixels."""
    font, parts, rows = font_manager.findfont("DejaVu Sans"), [], []
    for row in (range(i, min(i + columns, len(sizes))) for i in range(0, len(sizes), columns)):
        ratios = np.array([sizes[i][0] / sizes[i][1] for i in row])
        height = round(width / ratios.sum())
        room = CAPTION if any(captions[i] for i in row) else 0
        widths = np.diff(np.round(np.cumsum([0, *ratios]) / ratios.sum() * width).astype(int))
        for i, tile in zip(row, widths, strict=True):
            text = Path(f"{i}.txt")
            text.write_text(captions[i] or " ")
            caption = f"textfile={text}:expansion=none:fontfile={font}:fontsize=17:fontcolor=0x222222"
            parts.append(
                f"[{i}]fps={rate},trim=duration={seconds},scale={tile}:{height}:flags=bicubic,"
                f"pad={tile}:{height + room}:0:{room}:white,"
                f"drawtext={caption}:x=(w-text_w)/2:y={CAPTION // 2}-text_h/2[film{i}]"
            )
        parts.append("".join(f"[film{i}]" for i in row) + stacked("h", len(row)) + f"[row{row[0]}]")
        rows.append(f"[row{row[0]}]")
    return ";".join([*parts, "".join(rows) + stacked("v", len(rows)) + "," + ending])


def stacked(direction, count):
    """The filter that puts so many pictures beside ("h") or below ("v") one another."""
    return f"{direction}stack={count}" if count > 1 else "null"


def main():
    """Read the command line and write the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .gif or .mp4 to write")
    parser.add_argument("films", nargs="+", metavar="CAPTION=FILM")
    parser.add_argument("--columns", type=int, help="how many are side by side; by default all")
    parser.add_argument("--width", type=int, default=640, help="of the picture, in pixels")
    parser.add_argument("--start", type=float, default=0, help="where each film begins, in seconds")
    parser.add_argument("--seconds", type=float, help="where the joint film ends; by default with the longest")
    parser.add_argument("--fps", type=float, help="frames a second; by default those of the first film")
    options = parser.parse_args()
    captions, paths = zip(*(film.rsplit("=", 1) for film in options.films), strict=True)
    known = [facts(path) for path in paths]
    seconds = options.seconds or max(one["duration"] for one in known) - options.start
    ending = ENDINGS[options.out.suffix.lower()]
    out, command = options.out.absolute(), [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    for path in paths:
        command += ["-stream_loop", "-1", "-ss", str(options.start), "-i", str(Path(path).absolute())]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # for the captions
        sizes, columns = [one["size"] for one in known], options.columns or len(known)
        graph = filters(sizes, captions, options.width, columns, options.fps or known[0]["fps"], seconds, ending)
        subprocess.run([*command, "-filter_complex", graph, str(out)], check=True)


if __name__ == "__main__":
    main()
