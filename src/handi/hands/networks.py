"""Run the palm and the landmark network on frames: in torch on any device, or in LiteRT on a CPU.

Both read the same bytes and agree to rounding. LiteRT is two to three times as fast on a CPU and has no
gradient; torch batches on a GPU and is differentiable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from handi.core.errors import ModelError
from handi.hands.crops import LEVEL, Border, crop, crop_uint8
from handi.hands.regions import HAND_INPUT, PALM_INPUT, WHOLE_FRAME
from handi.hands.tflite import Graph, TFLiteModule, read_graph, with_outputs
from handi.hands.weights import HandWeights

PalmOutput = tuple[np.ndarray, np.ndarray]  # boxes 2016×18, logits 2016


@dataclass(frozen=True)
class Reading:
    """What the landmark network says of N regions."""

    landmarks: Tensor  # N×21×2, (x, y) in px of the network's picture
    presence: Tensor  # N, logit
    right: Tensor  # N, logit; of a right hand in footage that is not mirrored
    features: tuple[Tensor, ...] = ()


class HandNetworks(Protocol):
    """What the detector needs of a backend. Frames are B×H×W×3 uint8 on the backend's device."""

    name: str

    def palms(self, frames: Tensor) -> list[PalmOutput]: ...
    def start_palms(self, frame: Tensor) -> Callable[[], PalmOutput]: ...
    def hands(self, frames: Tensor, rows: Sequence[int], squares: Sequence[np.ndarray]) -> Reading: ...


def _logit_outputs(graph: Graph) -> list[int]:
    """The output tensors with presence and handedness taken before their sigmoid: logits do not saturate."""
    producers = {number: graph.producer(number) for number in graph.outputs}
    return [op.inputs[0] if op.name == "LOGISTIC" else number for number, op in producers.items()]


def _points(landmarks: Tensor) -> Tensor:
    return landmarks.view(-1, 21, 3)[..., :2]


# ------------------------------------------------------------------------------------------- torch


class TorchNetworks:
    """The networks as torch modules on one device."""

    def __init__(self, weights: HandWeights, device: torch.device) -> None:
        palm, hand = (read_graph(data, where=weights.source) for data in (weights.palm, weights.landmark))
        # Channels last halves the palm network's time on a CPU.
        self.palm_net = TFLiteModule(palm).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.hand_net = TFLiteModule(hand, _logit_outputs(hand)).to(device)
        self.device, self.name = device, f"torch on {device}"
        adds = {hand.shapes[op.output][1]: op.output for op in hand.operations if op.name == "ADD"}
        self.feature_taps = tuple(adds.values())  # the last block at 56, 28, 14 and 7 px

    @torch.no_grad()
    def palms(self, frames: Tensor) -> list[PalmOutput]:
        square = WHOLE_FRAME.square(*frames.shape[1:3])
        pictures = self._crop(frames, range(len(frames)), [square] * len(frames), PALM_INPUT, "zero")
        with flushing_denormals():
            boxes, logits = self.palm_net(pictures.contiguous(memory_format=torch.channels_last))
        return list(zip(boxes.cpu().numpy(), logits[..., 0].cpu().numpy(), strict=True))

    def start_palms(self, frame: Tensor) -> Callable[[], PalmOutput]:
        return lambda: self.palms(frame[None])[0]

    @torch.no_grad()
    def hands(self, frames: Tensor, rows: Sequence[int], squares: Sequence[np.ndarray]) -> Reading:
        return self.read(self._crop(frames, rows, squares, HAND_INPUT, "edge"))

    def read(self, pictures: Tensor, *, features: bool = False) -> Reading:
        """The landmark network on N×3×224×224 in [0, 1]; differentiable."""
        with flushing_denormals():
            outputs = self.hand_net(pictures, taps=self.feature_taps if features else ())
        landmarks, presence, right, _ = outputs[:4]
        return Reading(_points(landmarks), presence[:, 0], right[:, 0], tuple(outputs[4:]))

    def _crop(
        self, frames: Tensor, rows: Sequence[int], squares: Sequence[np.ndarray], side: int, border: Border
    ) -> Tensor:
        if self.device.type == "cpu":
            pixels = frames.numpy()
            cuts = [
                crop_uint8(pixels[row], cut, side, border) for row, cut in zip(rows, squares, strict=True)
            ]
            return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2) * float(LEVEL)
        place = torch.as_tensor(list(rows), device=self.device)
        return crop(frames.permute(0, 3, 1, 2), place, np.stack(squares), side, border)


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Treat numbers below 1e-38 as zero: real frames make many, and a CPU is slow on each."""
    before = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


# ------------------------------------------------------------------------------------------ litert


def litert_installed() -> bool:
    return find_spec("ai_edge_litert") is not None


class LiteRTNetworks:
    """The networks in LiteRT, a frame or region per thread: each thread has interpreters of its own.

    Several single-threaded interpreters side by side beat one with several threads, as the layers are small.
    """

    def __init__(self, weights: HandWeights, threads: int) -> None:
        if not litert_installed():
            raise ModelError("LiteRT is not installed", hint="run pip install 'handi[litert]'")
        self.weights = weights
        graph = read_graph(weights.landmark, where=weights.source)
        self.hand_bytes = with_outputs(weights.landmark, graph, _logit_outputs(graph))
        self.name = f"litert on cpu, {threads} thread{'s' if threads > 1 else ''}"
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="handi-litert")
        self.local = threading.local()

    def palms(self, frames: Tensor) -> list[PalmOutput]:
        return list(self.pool.map(self._palm, frames.numpy()))

    def start_palms(self, frame: Tensor) -> Callable[[], PalmOutput]:
        future: Future[PalmOutput] = self.pool.submit(self._palm, frame.numpy())
        return future.result

    def hands(self, frames: Tensor, rows: Sequence[int], squares: Sequence[np.ndarray]) -> Reading:
        pixels = frames.numpy()
        outputs = list(self.pool.map(self._hand, (pixels[row] for row in rows), squares))
        landmarks, presence, right = (torch.from_numpy(np.stack(part)) for part in zip(*outputs, strict=True))
        return Reading(_points(landmarks), presence, right)

    def _palm(self, frame: np.ndarray) -> PalmOutput:
        picture = crop_uint8(frame, WHOLE_FRAME.square(*frame.shape[:2]), PALM_INPUT, "zero")
        boxes, logits = self._run("palm", self.weights.palm, picture)
        return boxes[0], logits[0, :, 0]

    def _hand(self, frame: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32]:
        picture = crop_uint8(frame, square, HAND_INPUT, "edge")
        landmarks, presence, right, _ = self._run("hand", self.hand_bytes, picture)
        return landmarks[0], presence[0, 0], right[0, 0]

    def _run(self, which: str, data: bytes, picture: np.ndarray) -> list[np.ndarray]:
        """One network of this thread on a square uint8 picture; outputs in the file's order."""
        if not hasattr(self.local, which):
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
            setattr(self.local, which, interpreter)
        interpreter = getattr(self.local, which)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], (picture * LEVEL)[None])
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
