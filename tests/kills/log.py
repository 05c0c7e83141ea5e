"""python -m tests.kills.log FOLDER: kills an erasure from a write-ahead log at each operation on files.

Prints one JSON object: how many points there are, how many kills, and what should not be.
"""

import json
import shutil
import signal
import sys
from pathlib import Path

from pipelines.sources.log.erase import erase_entries, resting
from pipelines.sources.log.folder import segments
from pipelines.sources.log.frames import Entry, frame_of, read_frames
from tests.kills.points import Operations, child

PERSON = b"killed-7391"
SEGMENTS, ENTRIES = 3, 4


def make(folder: Path) -> None:
    """A log of segments in which every other entry is the person's, the middle one damaged at its end."""
    folder.mkdir()
    for number in range(1, SEGMENTS + 1):
        payloads = [b"%d-%d %s" % (number, at, PERSON if at % 2 else b"other") for at in range(ENTRIES)]
        frames = b"".join(frame_of(Entry(f"m{number}-{at}", 0, "s", each, {})) for at, each in enumerate(payloads))
        (folder / f"{number:012d}.log").write_bytes(frames + (frames[:-2][-30:] if number == 2 else b""))
    shutil.copy(folder / f"{2:012d}.log", folder / f"{2:012d}.damaged")
    (folder / f"{9:012d}.torn").write_bytes(PERSON)


def erase(folder: Path) -> int:
    """Erase the person."""
    with resting(folder):
        erase_entries(folder, lambda entries: [PERSON in each.payload for each in entries], lambda rest: PERSON in rest)
    return 0


def seen(folder: Path) -> dict[str, list[str]]:
    """The entries of each segment, and under "named" the files in which the person is."""
    found = {path.name: read_frames(path.read_bytes()).entries for path in segments(folder).values()}
    held = {name: [each.payload.decode() for each in entries] for name, entries in found.items()}
    files = [path for path in folder.iterdir() if path.is_file()]
    return held | {"named": sorted(path.name for path in files if PERSON in path.read_bytes())}


def main(place: Path) -> None:
    """Kill at each point."""
    folder, log = place / "log", place / "points"

    def run(at: int | None) -> int:
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)

        def work() -> int:
            Operations(folder, log, at)
            return erase(folder)

        return child(work)

    wrong = [] if run(None) == 0 else ["an undisturbed run fails"]
    points, after = log.read_text().splitlines(), seen(folder)
    make(place / "before")
    before, killed = seen(place / "before"), 0
    for at, told in enumerate(points):
        killed += run(at) == -signal.SIGKILL
        found = seen(folder)
        between = [name for name in found if name != "named" and found[name] not in (before[name], after[name])]
        wrong += [f"{told}: {name} is between" for name in between]
        if (status := child(lambda: erase(folder))) or seen(folder) != after:
            wrong.append(f"{told}: run again ends with {status} and {seen(folder)}")
    print(json.dumps({"points": len(points), "killed": killed, "named": after["named"], "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
