"""Methods × data sets: makes what videos are missing, scores what has not been scored, keeps both.

OUT/videos/DATA/METHOD/ID/                   clips that were generated here
OUT/results/DATA/METHOD/SCOPE-SUBSET/        results.json, and key.json: what it was made from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from handi import __version__
from handi.core.errors import HandiError, InputError
from handi.core.files import remove, replacing, sweep, writing
from handi.core.names import check_name, safe_name
from handi.core.reading import read_json
from handi.evaluation.areas import TrueAreas
from handi.evaluation.baselines import Spec
from handi.evaluation.cache import FeatureCache
from handi.evaluation.entries import Entry, TextKind, kinds_of_area
from handi.evaluation.evaluate import Built, Settings, build_metrics, evaluate, find_hands, require_any
from handi.evaluation.metrics.protocol import PROTOCOL
from handi.evaluation.metrics.results import read_results
from handi.evaluation.produce import Asking, produce
from handi.evaluation.sides import read_side

KEY = "key.json"


@dataclass
class Study:
    """What a table is made from. `say` is told of every clip that could not be made or scored; `lost` counts
    what a table lacks because of it."""

    data: dict[str, Path]  # name → folder or manifest of the true videos
    methods: list[Spec]
    out: Path
    settings: Settings = field(default_factory=Settings)
    seed: int = 0
    text: TextKind = "enriched"  # that clips are generated from, where they have one
    say: Callable[[str], None] = print
    lost: list[str] = field(default_factory=list)
    _built: Built | None = field(default=None, repr=False)
    _notes: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _made: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        sweep(self.out, depth=4)  # tables, results, videos/DATA/METHOD/ID
        features = FeatureCache(self.out / "features")
        areas = TrueAreas(lambda: find_hands(self.settings.device), features)
        self.asking = Asking(self.text, self.seed, areas)

    def check(self, *, scores: bool = True, areas: bool = False) -> None:
        """Find what is missing before anything is loaded or made: data, texts, methods, weights.

        scores, areas: whether metrics, and the clips' true motion areas, will be needed. Raises: HandiError.
        """
        for spec in self.methods:
            spec.check()
        for data in self.data:
            entries = self.entries(data)
            if not any(entry.prompt(self.text) for entry in entries.values()):
                raise InputError("none of its clips has a text to generate from", where=self.data[data])
            if areas and self.asking.areas is not None:
                self.asking.areas.require(entries.values())
        if scores:
            require_any(self.built)

    def lose(self, what: str) -> None:
        """Say, once, what the study lacks."""
        if what not in self.lost:
            self.lost.append(what)
            self.say(f"lost: {what}")

    def entries(self, data: str) -> dict[str, Entry]:
        """The clips of a data set that are used, by id. Raises: InputError."""
        return dict(list(read_side(self.data[data]).items())[: self.settings.clips])

    def videos(self, spec: Spec, data: str) -> Path:
        """The folder of a method's videos of a data set; missing ones are made. Raises: HandiError."""
        if spec.stored is not None:
            return spec.stored
        folder = self.out / "videos" / data / spec.name
        if (spec.name, data) in self._made:
            return folder
        method = spec.build()
        if method.peeks:
            self._notes[spec.name, data] = f"{spec.name} is given {method.peeks}"
        entries = self.entries(data)
        failures = produce(method, entries, folder, self.asking, what=f"{spec.name}, {data}")
        for id, error in sorted(failures.items()):
            self.say(f"not made: {spec.name}: {id}: {error}")
        if failures:
            self.lose(f"{len(failures)} of {len(entries)} clips of {data} by {spec.name} could not be made")
        self._made.add((spec.name, data))
        return folder

    def results(self, spec: Spec, data: str, *, scope: str = "full", subset: str = "all") -> dict[str, Any]:
        """The content of results.json; scored only where something it depends on has changed.

        Raises: HandiError.
        """
        pred, ref = self.videos(spec, data), self.data[data]
        settings = replace(self.settings, scope=scope, subset=subset)  # type: ignore[arg-type]
        folder = self.out / "results" / data / spec.name / f"{scope}-{subset}"
        key = {
            "handi": __version__,
            "protocol": PROTOCOL,
            "settings": asdict(settings),
            # A weight file that has come since, or is another one now, is a reason to score again.
            "skipped": self.built.skipped,
            "weights": {metric.name: metric.weights for metric in self.built.metrics},
            "area": kinds_of_area(read_side(ref).values()),
            "pred": fingerprint(read_side(pred)),
            "ref": fingerprint(read_side(ref)),
        }
        with suppress(HandiError, OSError, ValueError):
            if read_json(folder / KEY) == json.loads(json.dumps(key)):
                return self._counted(read_results(folder), spec, data)
        with writing(folder):  # or, killed in between, the new figures would pass for those of the old key
            remove(folder / KEY)
        self.say(f"score {spec.name} on {data} ({scope}, {subset})")
        found = evaluate(
            pred, ref, folder, settings, cache_folder=self.out / "features", say=self.say, built=self.built
        )
        with replacing(folder / KEY) as temporary:
            temporary.write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
        return self._counted(found, spec, data)

    def _counted(self, found: dict[str, Any], spec: Spec, data: str) -> dict[str, Any]:
        if gap := found["asked"] - found["n"]:
            self.lose(f"{gap} of {found['asked']} videos of {data} by {spec.name} could not be scored")
        return found

    @property
    def built(self) -> Built:
        """The metrics, loaded once for all methods."""
        if self._built is None:
            self._built = build_metrics(self.settings.metrics, self.settings.device)
        return self._built

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know: of the methods, what they were given, and what is lost."""
        texts = (
            [] if all(spec.stored for spec in self.methods) else [self._text_note(data) for data in self.data]
        )
        lost = [f"Lost: {what}." for what in self.lost]
        return list(dict.fromkeys([*self._notes.values(), *texts, *lost]))

    def _text_note(self, data: str) -> str:
        if self.text == "short":
            return f"Texts: videos of {data} are generated from the short action."
        entries = self.entries(data).values()
        enriched = sum(bool(entry.description) for entry in entries)
        return (
            f"Texts: videos of {data} are generated from the enriched text, which {enriched} of "
            f"{len(entries)} clips have, else from the short action; of stored videos it is not known."
        )


def parse_data(items: tuple[str, ...]) -> dict[str, Path]:
    """("epic-kitchens=DIR", "DIR") → name → path; a path alone is called by its folder's name.

    Raises: InputError for a name that is given twice.
    """
    data: dict[str, Path] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals:
            name, path = safe_name(Path(item).expanduser().resolve().stem), item
        check_name(name, "name of a data set")
        if name in data:
            raise InputError(f"two data sets are called {name!r}", mend="write NAME=FOLDER")
        data[name] = Path(path).expanduser()
    return data


def fingerprint(entries: Mapping[str, Entry]) -> str:
    """Equal as long as no file of a side has changed: names, sizes and times of change, and the texts."""
    digest = hashlib.sha256()
    for entry in entries.values():
        digest.update(repr((entry.id, entry.text, entry.description)).encode())
        area = None if entry.truth is None else entry.truth.with_suffix(".area.png")
        for path in (entry.video, entry.area_file, entry.context_file, entry.truth, area):
            if path is None:
                continue
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                with suppress(OSError):
                    stat = file.stat()
                    digest.update(repr((file.name, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()
