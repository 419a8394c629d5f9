"""Methods × data sets: generates missing clips, scores what has not been scored, keeps both.

OUT/videos/DATA/METHOD/ID/                   clips that were generated here
OUT/results/DATA/METHOD/SCOPE-SUBSET/        results.json, and key.json: what it was made from
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from handi import __version__
from handi.core.errors import HandiError, InputError
from handi.core.executors import HERE, Executor, Serial
from handi.core.files import remove, sweep, write_json, writing
from handi.core.inputs import check_seed
from handi.core.names import check_name, safe_name
from handi.core.reading import read_json
from handi.evaluation.clips import ClipOptions, generate_clips
from handi.evaluation.features import FeatureCache
from handi.evaluation.folder import read_videos
from handi.evaluation.methods import Spec
from handi.evaluation.methods.base import Origin
from handi.evaluation.metrics.protocol import PROTOCOL
from handi.evaluation.pairs import TrueAreas
from handi.evaluation.results import read_results
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.evaluation.scoring import LoadedMetrics, load_metrics, own_metrics
from handi.evaluation.videos import Entry, TextKind, fingerprint, kinds_of_area

KEY = "key.json"


@dataclass
class Study:
    """What a table is made from. `say` reports every clip that could not be generated or scored; `lost`
    collects what a table lacks because of it."""

    data: dict[str, Path]  # name → folder or manifest of the true videos
    methods: list[Spec]
    out: Path
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0
    text: TextKind = "enriched"  # that clips are generated from, if they have one
    say: Callable[[str], None] = print
    executor: Executor = HERE  # who generates and scores
    lost: list[str] = field(default_factory=list)
    origins: dict[tuple[str, str], Origin] = field(default_factory=dict)  # (method, data) → of what was built
    _notes: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _generated: set[tuple[str, str]] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        sweep(self.out, depth=4)  # tables, results, videos/DATA/METHOD/ID
        self.areas = TrueAreas(self.config.device, FeatureCache(self.out / "features"))
        self.sampling = ClipOptions(self.text, self.seed, self.areas)

    def check(self, *, scores: bool = True, areas: bool = False) -> None:
        """Find what is missing before anything is loaded or generated: data, texts, methods, weights.

        scores, areas: whether metrics, and the clips' true motion areas, will be needed. Raises: HandiError.
        """
        self.config.check()
        check_seed(self.seed)
        for spec in self.methods:
            spec.check()
        for data in self.data:
            entries = self.entries(data)
            if not any(entry.prompt(self.text) for entry in entries.values()):
                raise InputError("none of its clips has a text to generate from", where=self.data[data])
            if areas:
                self.areas.require(entries.values())
        if scores:
            self.metrics.require_any()

    def lose(self, what: str) -> None:
        """Report, once, what the study lacks."""
        if what not in self.lost:
            self.lost.append(what)
            self.say(f"lost: {what}")

    def exit_code(self, *, scored: bool) -> int:
        """1 if anything is lost, else 0. Raises: InputError if nothing at all was scored."""
        if not scored:
            raise InputError("nothing could be scored", where=self.out, hint="see the table's notes")
        return 1 if self.lost else 0

    def entries(self, data: str) -> dict[str, Entry]:
        """The clips of a data set that are used, by id. Raises: InputError."""
        return dict(list(read_videos(self.data[data]).items())[: self.config.limit])

    def folder_of(self, spec: Spec, data: str) -> Path:
        """The folder of a method's videos of a data set, whether they are there or not."""
        return self.out / "videos" / data / spec.name if spec.stored is None else spec.stored

    def videos(self, spec: Spec, data: str) -> Path:
        """The folder of a method's videos of a data set; missing ones are generated. Raises: HandiError."""
        folder = self.folder_of(spec, data)
        if spec.stored is not None or (spec.name, data) in self._generated:
            return folder
        method = spec.build(None if self.here else "cpu")
        self.origins[spec.name, data] = method.origin
        if method.uses_ground_truth:
            self._notes[spec.name, data] = f"{spec.name} is given {method.uses_ground_truth}"
        entries = self.entries(data)
        failures = generate_clips(
            method, entries, folder, self.sampling,
            what=f"{spec.name}, {data}", shared=None if self.here else (spec, self.executor),
        )  # fmt: skip
        for id, error in sorted(failures.items()):
            self.say(f"not made: {spec.name}: {id}: {error}")
        if failures:
            self.lose(f"{len(failures)} of {len(entries)} clips of {data} by {spec.name} could not be made")
        self._generated.add((spec.name, data))
        return folder

    def results(self, spec: Spec, data: str, *, scope: str = "full", subset: str = "all") -> dict[str, Any]:
        """The content of results.json; scored only if something that it depends on has changed.

        Raises: HandiError.
        """
        pred, ref = self.videos(spec, data), self.data[data]
        config = replace(self.config, scope=scope, subset=subset)  # type: ignore[arg-type]
        folder = self.out / "results" / data / spec.name / f"{scope}-{subset}"
        key = {
            "handi": __version__,
            "protocol": PROTOCOL,
            "settings": asdict(config),
            # A weight file that is new, or another one now, is a reason to score again.
            "skipped": self.metrics.skipped,
            "weights": {metric.name: metric.weights for metric in self.metrics.metrics},
            "own": own_metrics(config.metrics),
            "area": kinds_of_area(read_videos(ref).values()),
            "pred": fingerprint(read_videos(pred).values()),
            "ref": fingerprint(read_videos(ref).values()),
        }
        with suppress(HandiError, OSError, ValueError):
            if read_json(folder / KEY) == json.loads(json.dumps(key)):
                return self._counted(read_results(folder), spec, data)
        with writing(folder):  # killed in between, a run must not leave new figures beside an old key
            remove(folder / KEY)
        self.say(f"score {spec.name} on {data} ({scope}, {subset})")
        found = evaluate(
            pred, ref, folder, config, cache_folder=self.out / "features", say=self.say,
            loaded=self.metrics, executor=self.executor,
        )  # fmt: skip
        write_json(folder / KEY, key, indent=1)
        return self._counted(found, spec, data)

    def _counted(self, found: dict[str, Any], spec: Spec, data: str) -> dict[str, Any]:
        if gap := found["asked"] - found["n"]:
            self.lose(f"{gap} of {found['asked']} videos of {data} by {spec.name} could not be scored")
        return found

    @cached_property
    def metrics(self) -> LoadedMetrics:
        """The metrics, loaded once for all methods."""
        return load_metrics(self.config.metrics, self.config.device if self.here else "cpu")

    @property
    def here(self) -> bool:
        """Whether this process does all the work."""
        return isinstance(self.executor, Serial)

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know: the truth that methods are given, texts, losses."""
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
            raise InputError(f"two data sets are called {name!r}", hint="write NAME=FOLDER")
        data[name] = Path(path).expanduser()
    return data
