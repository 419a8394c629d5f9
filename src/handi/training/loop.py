"""The loop: one training run from its recipe to a model folder, which can be stopped and resumed at any step.

    RUN/recipe.yaml             what was asked for, every entry
    RUN/start/                  the fresh model of a preset
    RUN/log.jsonl               every loss term (`training/track.py`)
    RUN/checkpoints/step-…      where to resume from (`training/state.py`)
    RUN/samples/step-….png      sample sheets (`training/sheets.py`)
    RUN/model/                  a complete model folder, written whenever the run ends or pauses

Everything random is a function of the seed and of a sample's place in the run. So a run that was killed and
resumed is, to the bit, the run that was not (one process, CPU), and several processes have the gradients
of one that takes their batches one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from accelerate.utils import gather_object
from torch import Tensor

from handi.core.errors import InputError
from handi.core.files import sweep, write_text, writing
from handi.core.progress import Progress
from handi.hands.detector import HandDetector
from handi.training import build, setup
from handi.training.augment import augmented, held_out
from handi.training.batch import Batch
from handi.training.ema import Ema
from handi.training.gather import gathered, pack_optimizer, restore, trainable, unpack_optimizer, whole
from handi.training.guards import Guard, StopSignal, most
from handi.training.module import HAND_TERMS, StepModule, balanced, gradient_norms, total_of
from handi.training.optim import choose_trained, learning_rate, make_optimizer
from handi.training.recipe import Recipe
from handi.training.samples import write_samples
from handi.training.state import FREE_KEYS, Checkpoints, Saved
from handi.training.track import Means, RunLog

Resume = Literal["auto", "resume", "fresh"]
STEP_STREAM, VALIDATION_STREAM, AUGMENT_STREAM = 2, 3, 5  # of random numbers; the clips' are 0 and 1
# Entries that may change when a run is resumed, beside those that `Checkpoints` knows.
FREE = (*FREE_KEYS, "run.device", "run.validation_clips", "run.accept_changes", "data.validation")
SAY_SECONDS = 30.0  # between two lines of progress where there is no terminal


def train(recipe: Recipe, *, resume: Resume = "auto", say: Callable[[str], None] = print) -> int:
    """Run a recipe to its last step, its minutes or a signal; gives the exit code.

    resume: "auto" resumes from the run's last checkpoint if there is one, "resume" insists on one, "fresh"
    sets an earlier run aside. Raises: HandiError.
    """
    return Run(recipe, resume, say).go()


class Run:
    """Everything that one run holds while it runs. `go` is the loop."""

    def __init__(self, recipe: Recipe, resume: Resume, say: Callable[[str], None]) -> None:
        self.begin = time.monotonic()
        self.recipe, self.folder = recipe, recipe.out
        self.arithmetic = build.arithmetic(recipe.run)
        self.accelerator = build.open_accelerator(recipe, self.arithmetic.precision)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.say = say if self.rank == 0 else lambda message: None
        setup.check_parts(recipe)  # packing clips may take an hour
        with self.accelerator.main_process_first():  # the first one packs, the others find it done
            self.clips, self.held_out = setup.open_data(recipe)
        self.batches = setup.training_batches(recipe, self.clips)
        if recipe.data.resident:
            self.batches.hold(self.accelerator.device)
        self.checkpoints, saved = self._claim_folder(resume)
        with self.accelerator.main_process_first():
            if recipe.model.preset is not None and saved is None and self.rank == 0:
                setup.make_start(recipe, self.clips, self.folder / "start")
            held_out = [] if self.held_out is None else [self.held_out.clips]
            text = not setup.has_text_states(recipe, [self.clips, *held_out])
            self.parts = setup.open_model(recipe, self.folder / "start", text=text)
        setup.check_areas(recipe, [self.clips, *held_out], self.parts)
        for note in setup.use_cached(recipe, [self.clips, *held_out], self.parts):
            self.say(f"note: {note}")
        networks = build.networks_of(recipe, self.parts)
        if recipe.stage == "stage1":
            networks.prior_mask = (
                saved.tensors("prior")["mask"] if saved else torch.from_numpy(self.clips.prior())
            )
        module = StepModule(networks, recipe.stage, recipe.loss)
        network, adapter = setup.NETWORK[recipe.stage], self.parts.adapter(recipe.stage)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.run.seed)  # of new adapters
            chosen = choose_trained(module, recipe.model, network, adapter)
        if recipe.run.checkpointing:
            build.enable_checkpointing(module)
        if self.arithmetic.compiled:
            build.compile_network(getattr(module, network), recipe.run.gradients_every > 0)
        trained = [p for p in module.parameters() if p.requires_grad]
        count = f"{sum(p.numel() for p in trained):,} weights in {len(chosen)} tensors"
        work = f"{len(self.clips)} clips, {recipe.run.steps} steps of {self.step_size}"
        self.say(f"{recipe.stage}: {count} are trained on {work}, in {self.arithmetic.why}")
        optimizer = make_optimizer(trained, recipe.optim, fused=self.accelerator.device.type == "cuda")
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.inner: StepModule = self.accelerator.unwrap_model(self.module)
        if self.inner.sharded and (recipe.run.sample_every or recipe.run.gradients_every):
            self.say("note: with FSDP2 there are no sample sheets and no gradient norms of single terms")
        named = {name: p for name, p in self.inner.named_parameters() if p.requires_grad}
        self.trained = list(named.values())
        self.ema = Ema(named, recipe.optim.ema) if recipe.optim.ema else None

        self.step = self.samples = 0  # done and seen, over all pieces of the run and all processes
        self.saved_step = -1
        if saved is not None:
            self._load(saved)
        if self.rank == 0:
            write_text(self.folder / "recipe.yaml", yaml.safe_dump(recipe.as_dict(), sort_keys=False))

    @property
    def step_size(self) -> int:
        """Samples of one step, over all processes."""
        return self.recipe.optim.batch * self.recipe.optim.accumulate * self.world

    # ---------------------------------------------------------------------------------------- the loop

    def go(self) -> int:
        """Train until the run's end, its minutes, or a signal; gives the exit code."""
        recipe, run, optim = self.recipe, self.recipe.run, self.recipe.optim
        guard = Guard(self.folder, self.rank, optim.explosion)
        means, since = Means(), time.monotonic()
        self.module.train()
        with ExitStack() as stack:
            stop = stack.enter_context(StopSignal())
            log = stack.enter_context(self._open_log()) if self.rank == 0 else None
            bar = Progress(recipe.stage, run.steps, "steps", done=self.step, every=SAY_SECONDS)
            bar = stack.enter_context(bar) if self.rank == 0 else bar
            stream = self.batches.stream(self._positions(), optim.batch, workers=recipe.data.workers)

            while self.step < run.steps and not stop.asked() and not self.out_of_time():
                number = self.step + 1
                measure = _due(number, run.gradients_every) and not self.inner.sharded
                passes = [
                    self.forward_backward(next(stream), part, measure=measure and part == 0)
                    for part in range(optim.accumulate)
                ]
                norm = self.accelerator.clip_grad_norm_(self.trained, optim.clip or float("inf"))
                norm = whole(norm)
                self._stop_if_bad(guard, number, passes, norm)
                rate = learning_rate(self.step, optim, run.steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.step = number
                self.samples += self.step_size
                if self.ema is not None:
                    self.ema.update(number)

                for _, terms in passes:
                    means.add(terms)
                means.add({"gradient": norm, "lr": rate})
                note = None
                if _due(number, run.log_every):
                    values = self._over_processes(means.take())
                    values["seconds_per_step"] = (time.monotonic() - since) / run.log_every
                    note, since = f"loss {values['total']:.4g}", time.monotonic()
                    if log is not None:
                        log.write(number, {"samples": self.samples, **values})
                if self.rank == 0:
                    bar.advance(1, note)
                score = self._validate(log) if _due(number, run.validate_every) else None
                if _due(number, run.sample_every) and not self.inner.sharded:
                    self._write_samples()
                if _due(number, run.save_every) or number == run.steps:
                    self._save(score)

            stream.close()
            if self.saved_step != self.step:
                self._save(None)
        if code := stop.exit_code:
            self.say(f"stopped at step {self.step} of {run.steps}; run it again to resume")
            return code
        self._write_model()
        more = "" if self.step == run.steps else f" of {run.steps}; run it again to resume"
        self.say(f"step {self.step}{more}: the model is in {self.folder / 'model'}")
        return 0

    def forward_backward(self, batch: Batch, part: int, *, measure: bool) -> tuple[Batch, dict[str, Tensor]]:
        """Forward and backward of part `part` of a step; gives the batch and its terms, for the log."""
        optim, accelerator = self.recipe.optim, self.accelerator
        batch = batch.to(accelerator.device)
        # By the place of its first sample in the run: the same noise however a step's samples are shared out
        # among processes and parts, so that several processes have the gradients of one.
        position = self.samples + (part * self.world + self.rank) * optim.batch
        chance = _seeded(accelerator.device, self.recipe.run.seed, AUGMENT_STREAM, position)
        batch = augmented(batch, self.recipe.data, chance)
        generator = _seeded(accelerator.device, self.recipe.run.seed, STEP_STREAM, position)
        last = part == optim.accumulate - 1
        with nullcontext() if last else accelerator.no_sync(self.module):
            terms = self.module(batch, generator)
            total = total_of(terms)
            logged = {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}
            if measure:
                scale = 1.0 if accelerator.scaler is None else accelerator.scaler.get_scale()
                norms = gradient_norms(terms, self.trained, scale=scale)
                logged |= {f"gradient/{name}": torch.tensor(norm) for name, norm in norms.items()}
                self._balance(norms)
            accelerator.backward(total / optim.accumulate)
        return batch, logged

    def _balance(self, norms: dict[str, float]) -> None:
        """Scale the hand loss by the measured gradients, from the next pass on, alike in all processes."""
        if (share := self.recipe.loss.hand.share) is None:
            return
        means = self._over_processes({name: norms.get(name, 0.0) for name in ("noise", *HAND_TERMS)})
        self.inner.hand_scale = balanced(self.inner.hand_scale, means, share)

    def _positions(self) -> Iterator[int]:
        """Where this process's batches begin, from the samples seen on: parts of a step, then steps."""
        batch = self.recipe.optim.batch
        position = self.samples + self.rank * batch
        while True:
            yield position
            position += self.world * batch

    def _stop_if_bad(
        self, guard: Guard, number: int, passes: list[tuple[Batch, dict[str, Tensor]]], norm: Tensor
    ) -> None:
        """Raises: BadBatch, in every process when one of them has one."""
        loss = sum(float(terms["total"]) for _, terms in passes) / len(passes)
        # With fp16 a gradient beyond its range is no mishap: the scaler leaves the step out and halves.
        why = guard.verdict(loss, None if self.accelerator.scaler is not None else float(norm))
        if most(1.0 if why else 0.0):
            raise guard.stop(why, number, [batch for batch, _ in passes], [terms for _, terms in passes])

    def out_of_time(self) -> bool:
        minutes = self.recipe.run.minutes
        return minutes is not None and most(time.monotonic() - self.begin) >= 60 * minutes

    def _over_processes(self, means: dict[str, float]) -> dict[str, float]:
        """The mean over all processes of each value."""
        if self.world == 1:
            return means
        every = gather_object([means])
        return {name: float(np.nanmean([each[name] for each in every if name in each])) for name in means}

    # ------------------------------------------------------------------------- validation and samples

    @torch.no_grad()
    def _validate(self, log: RunLog | None) -> float | None:
        """Held-out loss of the averaged weights, on the same samples and noise every time."""
        if self.held_out is None:
            return None
        size = self.recipe.optim.batch
        clips = min(self.recipe.run.validation_clips, len(self.held_out.clips))
        count = -(-clips // size)  # batches; the last one may begin again at the first clip
        rounds = -(-count // self.world)  # the same for every process, as FSDP2's must march together
        means = Means()
        with self._with_ema():
            self.module.eval()
            for turn in range(rounds):
                number = (turn * self.world + self.rank) % count
                batch = held_out(self.held_out.at(number * size, size).to(self.accelerator.device))
                generator = _seeded(batch.area.device, setup.VALIDATION_SEED, VALIDATION_STREAM, number)
                terms = self.module(batch, generator)
                means.add(terms | {"total": total_of(terms)})
            self.module.train()
        values = self._over_processes(means.take())
        if log is not None:
            log.write(self.step, {"samples": self.samples, **values}, kind="validate")
        self.say(f"step {self.step}: held-out loss {values['total']:.5g}")
        return values["total"]

    def _write_samples(self) -> None:
        """A sheet of held-out clips as the averaged weights make them (training clips, where none are)."""
        clips = self.clips if self.held_out is None else self.held_out.clips
        path = self.folder / "samples" / f"step-{self.step:08d}"
        with self._with_ema():
            self.module.eval()
            if self.rank == 0:
                parts = setup.finished(self.inner, self.parts, clips)
                with self.accelerator.autocast():
                    write_samples(
                        self.recipe.stage,
                        parts,
                        clips,
                        path,
                        count=self.recipe.run.samples,
                        detector=HandDetector.from_pretrained(),
                        text=self.recipe.data.shown_text,
                    )
            self.module.train()
        self.accelerator.wait_for_everyone()

    def _with_ema(self) -> Any:
        return nullcontext() if self.ema is None else self.ema.applied()

    # ----------------------------------------------------------------------------------- what is saved

    def _claim_folder(self, resume: Resume) -> tuple[Checkpoints, Saved | None]:
        """The run's checkpoints and the one to resume from. Raises: InputError."""
        if self.rank == 0:
            with writing(self.folder):
                if resume == "fresh" and (aside := set_aside(self.folder)):
                    self.say(f"note: the earlier run is now in {aside}")
                self.folder.mkdir(parents=True, exist_ok=True)
                sweep(self.folder, depth=1)
        self.accelerator.wait_for_everyone()
        checkpoints = Checkpoints(self.folder / "checkpoints", keep=self.recipe.run.keep)
        saved = checkpoints.latest()
        if saved is None and resume == "resume":
            raise InputError(
                "there is no checkpoint to resume from", where=self.folder, hint="leave --resume out"
            )
        if saved is not None:
            self.say(f"resuming from step {saved.step}, {saved.folder}")
            if not self.recipe.run.accept_changes:
                saved.check_recipe(self.recipe.as_dict(), free=FREE)
            if self.rank == 0:
                with writing(self.folder):
                    checkpoints.prune(saved.step)  # a run was killed before it could
        return checkpoints, saved

    def _open_log(self) -> RunLog:
        trackers, recipe = self.recipe.run.trackers, self.recipe.as_dict()
        return RunLog(self.folder / "log.jsonl", step=self.step, trackers=trackers, recipe=recipe)

    def _save(self, score: float | None) -> None:
        """Write a checkpoint of this step."""
        optimizer, rest = pack_optimizer(self.inner, self.optimizer)
        tensors = {"model": trainable(self.inner), "optimizer": optimizer}
        if self.ema is not None:
            tensors["ema"] = gathered(self.ema.values)
        if (prior := self.inner.networks.prior_mask) is not None and self.recipe.stage == "stage1":
            tensors["prior"] = {"mask": prior}
        facts = {
            "samples": self.samples,
            "clips": len(self.clips),
            "clips_hash": self.clips.fingerprint(),
            "optimizer": rest,
            "hand_scale": self.inner.hand_scale,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        self.checkpoints.save(self.step, tensors, recipe=self.recipe.as_dict(), facts=facts, score=score)
        self.saved_step = self.step

    def _load(self, saved: Saved) -> None:
        """Resume from a checkpoint."""
        facts = saved.facts
        named = {name: p for name, p in self.inner.named_parameters() if p.requires_grad}
        restore(named, saved.tensors("model"))
        if self.ema is not None:
            restore(self.ema.values, saved.tensors("ema"), "averaged weights")
        unpack_optimizer(self.inner, self.optimizer, saved.tensors("optimizer"), facts["optimizer"])
        if self.accelerator.scaler is not None and facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.step = self.saved_step = saved.step
        self.samples = facts["samples"]
        self.inner.hand_scale = facts.get("hand_scale", 1.0)
        if facts["clips_hash"] != self.clips.fingerprint():
            self.say(f"note: the training clips have changed: {len(self.clips)}, there were {facts['clips']}")

    def _write_model(self) -> None:
        """RUN/model: every part, the averaged weights in the trained ones. The run's networks are used up."""
        if self.ema is not None:
            self.ema.write()
        base = self.parts.card.base
        self.inner.put_together(trained=base is not None)
        if self.rank == 0:
            if self.recipe.model.lora_rank and base is None:
                network = setup.NETWORK[self.recipe.stage]
                setup.write_lora(self.inner, network, self.folder / "lora.safetensors")
            parts = setup.finished(self.inner, self.parts, self.clips)
            setup.write_model(parts, self.folder / "model")
        self.accelerator.wait_for_everyone()


def set_aside(folder: Path) -> Path | None:
    """Rename a run's folder to RUN.1, RUN.2, …; None where there is none."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return folder.rename(aside)


def _seeded(device: torch.device, *numbers: int) -> torch.Generator:
    """A device's generator of these numbers, and torch's own generators (dropout) seeded from it."""
    seed, other = (int(value) for value in np.random.SeedSequence(list(numbers)).generate_state(2))
    torch.manual_seed(other)
    return torch.Generator(device).manual_seed(seed)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
