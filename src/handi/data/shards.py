"""The format of prepared clips: WebDataset tars to read at random, their ledger parts, and an index.

DIR/settings.json           what the clips were prepared with: written first, fixed by the first clip
DIR/shards/train-00000.tar  some clips of one split, whole or not there; a clip KEY (`key_of` its id) has:
    KEY.00.jpg, KEY.01.jpg …  frames (.png where asked for; none where frames are not kept)
    KEY.area.png              H×W, 255 inside the motion area
    KEY.valid.png             H×W, 255 where every stabilised frame shows something; only of stabilised clips
    KEY.hands.npz             joints F×42×2, visible F×2, rois F×2×4, presence F×2
    KEY.referents.png         H×W, bits: 1 a thing, 2 a hand that the words mean; only of world clips
    KEY.ids.png, KEY.joints.npy, KEY.requests   of a first frame of the world: what its pixels show, and what
                              can be asked of it, with the joints R×F×42×2 of the clip that each would give
    KEY.latents.npy           f×C×h×w float16, scaled; only with a model
    KEY.still.npy             likewise, of frame 0 as a still clip; of models that encode frames together
    KEY.text.npy              S×N×D float16, sentences in the order of the JSON's "texts"; where asked for.
                              Of those models "" comes last, and rows that are zero in all are left out
    KEY.json                  the clip's line of the ledger, and its texts
DIR/shards/train-00000.jsonl  that shard's part of the ledger, after a line about the shard; written last
DIR/ledger.jsonl            one line per clip of the source (`ledger.py`)
DIR/index.parquet           one row per kept clip: its line, its shard, where in the tar it lies, and a hash
DIR/prior_mask.png          mean motion area of the training clips, 16 bits grey
DIR/statistics.json         counts and means over each split
DIR/prepared.json           what there is, and a hash of each file beside the shards; written last: where it
                            lies, everything is whole

Every file is a function of the source, the settings and the models alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.reading import parse_json, read_json, read_text
from handi.core.stores import local, read_range, size_of
from handi.data.ledger import KEPT, Row, line, read_rows

FORMAT, VERSION = "handi-shards", 2
SETTINGS, PREPARED, INDEX, LEDGER = "settings.json", "prepared.json", "index.parquet", "ledger.jsonl"
PRIOR, STATISTICS, SHARDS = "prior_mask.png", "statistics.json", "shards"
BESIDE = (SETTINGS, INDEX, LEDGER, PRIOR, STATISTICS)  # files whose hashes PREPARED holds
JPEG_QUALITY = 95
BLOCK = 512  # of a tar
PLACE = ("shard", "offset", "bytes", "sha256")  # columns that say where a clip lies
NEEDED = ("id", "split", "action", "description", "paraphrases", "mirrors", *PLACE)  # columns for training
AGAIN = "run handi prepare again: it makes what is missing"
DELETE = f"delete it and {AGAIN}"  # of a shard: one that is there and as long as it was is taken for whole


def key_of(clip_id: str) -> str:
    """An id as the stem of a clip's members: WebDataset ends a stem at the first dot, ids may hold some."""
    return clip_id.replace(".", "~")


# ------------------------------------------------------------------------------------------- clips


def pack(clip_id: str, members: Mapping[str, bytes]) -> bytes:
    """A clip's piece of a tar: its members in order, by extension; the same bytes for the same members."""
    piece = io.BytesIO()
    for extension, content in members.items():
        info = tarfile.TarInfo(f"{key_of(clip_id)}.{extension}")
        info.size, info.mode = len(content), 0o644  # no time, no owner: they would differ from run to run
        piece.write(info.tobuf(tarfile.GNU_FORMAT))
        piece.write(content)
        piece.write(bytes(-len(content) % BLOCK))
    return piece.getvalue()


def unpack(piece: bytes, clip_id: str) -> dict[str, bytes]:
    """The members of a clip's piece of a tar, by extension. Raises: ValueError (damaged, another clip's).

    What `pack` writes is read without tarfile, which takes a third of the time of a training sample.
    """
    found: dict[str, bytes] = {}
    offset, long_name = 0, None
    while offset < len(piece):
        head = piece[offset : offset + BLOCK]
        if len(head) < BLOCK or sum(head) - sum(head[148:156]) + 8 * 32 != int(head[148:154], 8):
            raise ValueError(f"its members end at byte {offset} of {len(piece)}")
        size, kind = int(head[124:135], 8), head[156:157]
        content = piece[offset + BLOCK : offset + BLOCK + size]
        if len(content) < size:
            raise ValueError(f"its members end at byte {len(piece)} of {offset + BLOCK + size}")
        offset += BLOCK + size + -size % BLOCK
        if kind == tarfile.GNUTYPE_LONGNAME:
            long_name = content
            continue
        name = (long_name or head[:100]).rstrip(b"\0").decode()
        long_name = None
        stem, _, extension = name.partition(".")
        if stem != key_of(clip_id):
            raise ValueError(f"{name} is no member of it")
        found[extension] = content
    return found


def read_piece(folder: Path, row: Mapping[str, Any]) -> dict[str, bytes]:
    """The members of the clip at a row of the index, by extension, if they are what was written, to the bit.

    Raises: InputError where the shard is missing, cut off or changed.
    """
    name = f"{SHARDS}/{row['shard']}.tar"
    path = folder / name
    try:
        piece = read_range(folder, name, int(row["offset"]), int(row["bytes"]))
        if hashlib.sha256(piece).hexdigest() != row["sha256"]:
            raise ValueError("its content has changed")
        return unpack(piece, row["id"])
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"clip {row['id']} is damaged ({error})", where=path, hint=DELETE) from error


def encode_picture(picture: np.ndarray, kind: str) -> bytes:
    """An H×W×3 or H×W uint8 picture as the bytes of a jpg or png file."""
    options: list[int] = []
    if kind == "jpg":  # without halving the colours, which would fringe hands
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    channels = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(f".{kind}", channels, options)
    if not done:
        raise ValueError(f"cannot write a {kind} of {picture.shape}")
    return data.tobytes()


def decode_picture(data: bytes, *, grey: bool = False) -> np.ndarray:
    """H×W×3 RGB (or H×W) uint8 of a picture file's bytes. Raises: ValueError (damaged)."""
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if picture is None:
        raise ValueError("a picture cannot be decoded")
    return picture if grey else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def encode_array(array: np.ndarray) -> bytes:
    """An array as the bytes of an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_array(data: bytes, *names: str) -> Any:
    """The array of an npy file, or the mapping of an npz file, of these `names` or all.

    Raises: ValueError (damaged).
    """
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        return {name: loaded[name] for name in names or loaded.files}  # an npz is read when it is asked
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"an array cannot be read ({error})") from error


# ------------------------------------------------------------------------------------------- parts


def part_path(folder: Path, shard: str) -> Path:
    """A shard's part of the ledger."""
    return folder / SHARDS / f"{shard}.jsonl"


def part_text(key: str, tar_bytes: int, areas: np.ndarray, rows: Iterable[Row]) -> str:
    """A shard's part: a line about it, with H×W counts of how many areas hold each pixel, then its rows."""
    counts = encode_picture(areas.astype(np.uint16), "png").hex() if areas.any() else ""
    lines = "".join(map(line, rows))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return line({"key": key, "tar_bytes": tar_bytes, "sha256": digest, "areas": counts}) + lines


def part_is_whole(folder: Path, shard: str, key: str) -> bool:
    """Whether a shard is there, finished and of this key. Its clips' hashes are for `read_piece` to check."""
    try:
        head, _ = _split_part(folder, shard)
        _areas(head)
        size = size_of(folder, f"{SHARDS}/{shard}.tar")
        return bool(head["key"] == key and (size or 0) == head["tar_bytes"])
    except _DAMAGES:
        return False


def read_part(folder: Path, shard: str) -> tuple[np.ndarray | None, list[Row]]:
    """(H×W counts of its areas, None where there is none; its rows). Raises: InputError (damaged)."""
    try:
        head, lines = _split_part(folder, shard)
        return _areas(head), [parse_json(text, folder, checked=False) for text in lines.split("\n") if text]
    except _DAMAGES as error:
        where = part_path(folder, shard)
        raise InputError(f"is damaged ({error})", where=where, hint=AGAIN) from error


def _areas(head: dict[str, Any]) -> np.ndarray | None:
    """H×W counts in the line about a shard. Raises: one of _DAMAGES; a PNG has check sums of its own."""
    data = bytes.fromhex(head["areas"])
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.int64) if data else None


_DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError)  # PIL's among them


def _split_part(folder: Path, shard: str) -> tuple[dict[str, Any], str]:
    """(the line about the shard, the rows' lines). Raises: ValueError where they do not belong together."""
    first, _, lines = read_text(part_path(folder, shard)).partition("\n")
    head = parse_json(first, shard)
    if hashlib.sha256(lines.encode()).hexdigest() != head["sha256"]:
        raise ValueError("its lines are not those that were written")
    return head, lines


# ----------------------------------------------------------------------------------------- reading


def read_prepared(folder: str | Path) -> dict[str, Any]:
    """What a folder of prepared clips says of itself. Raises: InputError for none, or an unfinished one."""
    folder = local(folder)
    for name in (SETTINGS, PREPARED):
        if not (folder / name).is_file():
            what = "the preparation is not finished" if name == PREPARED else "holds no prepared clips"
            raise InputError(what, where=folder, hint="run handi prepare … --out " + str(folder))
    try:
        content = read_json(folder / PREPARED)
        found = content["format"], content["version"]
        if found == (FORMAT, VERSION):
            _check_prepared(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"is damaged ({type(error).__name__}: {error})"
        raise InputError(what, where=folder / PREPARED, hint=AGAIN) from error
    if found != (FORMAT, VERSION):
        raise InputError(
            f"has format {found[0]} {found[1]}, this handi reads {FORMAT} {VERSION}",
            where=folder / PREPARED,
            hint="update handi, or prepare it again",
        )
    return content


def read_unfinished(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """The clips of the shards that there are, while more may be written.

    Gives what `read_prepared` would, with "settings", "splits" and "area"; by split the rows as
    `read_clip_rows` gives them; and H×W float32, the mean area of the training clips. Raises: InputError for
    a folder without settings, or where not one clip is there.
    """
    import pyarrow

    folder = local(folder)
    if not (folder / SETTINGS).is_file():
        raise InputError("holds no prepared clips", where=folder, hint=f"run handi prepare … --out {folder}")
    settings = read_json(folder / SETTINGS)
    rows: dict[str, list[Row]] = {}
    areas = np.zeros(settings["size"], np.int64)
    for part in sorted((folder / SHARDS).glob("*.jsonl")):
        try:
            counts, lines = read_part(folder, part.stem)
        except InputError:
            continue  # of a shard that is just being made anew
        kept = [{name: row.get(name) for name in NEEDED} for row in lines if row["status"] == KEPT]
        rows.setdefault(part.stem.rpartition("-")[0], []).extend(kept)
        if counts is not None and part.stem.startswith("train-"):
            areas += counts
    splits: dict[str, dict[str, Any]] = {}
    for name, kept in rows.items():
        digest = hashlib.sha256("".join(f"{row['id']} {row['sha256']}\n" for row in kept).encode())
        splits[name] = {"kept": len(kept), "sha256": digest.hexdigest()}
    about = {"settings": settings, "splits": splits, "area": settings["truth"] or "hull"}
    mean = (areas / max(1, splits.get("train", {}).get("kept", 0))).astype(np.float32)
    return about, {name: pyarrow.Table.from_pylist(kept) for name, kept in rows.items() if kept}, mean


def _check_prepared(content: dict[str, Any]) -> None:
    """That what is read of it is there. Raises: LookupError, TypeError, ValueError, AttributeError."""
    settings = content["settings"]
    height, width = (int(side) for side in settings["size"])
    if int(settings["frames"]) < 1 or not isinstance(settings["first_frames"], bool):
        raise ValueError(f"settings {settings}")
    str(content["area"]), settings["fps"]
    if min(height, width) < 1 or settings["pictures"] not in ("jpg", "png", "none"):
        raise ValueError(f"settings {settings}")
    list(settings["models"].items())
    list(content["notes"])
    int(content["shards"])
    for split in content["splits"].values():
        for name in ("clips", "kept", "rejected", "bytes"):
            int(split[name])
        str(split["sha256"])


def hash_of_prepared(content: Mapping[str, Any]) -> str:
    """SHA-256 of what PREPARED says, but for this hash."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_ledger(folder: str | Path) -> Iterable[Row]:
    """The lines of a prepared folder's ledger, one at a time. Raises: InputError."""
    return read_rows(Path(folder).expanduser() / LEDGER)


def read_clip_rows(folder: str | Path, split: str | None = None) -> Any:
    """The rows of the index (of one split) as a pyarrow table, in order. Raises: InputError."""
    import pyarrow.parquet

    path = local(folder) / INDEX
    try:
        filters = [("split", "=", split)] if split else None
        table = pyarrow.parquet.read_table(path, filters=filters, page_checksum_verification=True)
        if missing := [name for name in NEEDED if name not in table.column_names]:
            raise ValueError(f"has no column {', '.join(missing)}")
        if holes := [name for name in ("id", *PLACE) if table[name].null_count]:
            raise ValueError(f"has rows without {', '.join(holes)}")
        return table
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot be read ({error})", where=path, hint=AGAIN) from error
