"""The hand detector Υ: MediaPipe Hands with its own weights, batched, on any device, differentiable."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.core.types import Hands
from handi.hands.crops import crop
from handi.hands.joints import JOINTS_A_HAND, assign_slots
from handi.hands.networks import HandNetworks, LiteRTNetworks, Reading, TorchNetworks, litert_installed
from handi.hands.regions import (
    HAND_INPUT,
    MAX_HANDS,
    Region,
    associate,
    find_palms,
    palm_region,
    project,
    tracked_region,
)
from handi.hands.weights import Complexity, HandWeights, load_hand_weights

Mode = Literal["image", "video"]
Backend = Literal["auto", "torch", "litert"]

NO_HAND_LOGIT = -100.0  # presence of an empty slot: finite, so that a loss on logits stays finite


class Track:
    """What video mode carries from frame to frame: the regions where hands are expected next."""

    def __init__(self, regions: Sequence[Region] = ()) -> None:
        self.regions = list(regions)


class HandDetector:
    """Palm detection, then 21 landmarks per hand, at most two hands (the Υ of paper §2.1 and Eq. 2).

    `detect` finds hands; `landmarks` reads given regions and is differentiable with respect to the frames.
    Left and right are those of the person in ordinary footage. MediaPipe's labels are for mirrored selfies
    and are swapped here; say `mirrored=True` for such pictures.
    """

    def __init__(
        self,
        weights: HandWeights,
        *,
        detection_confidence: float = 0.5,
        presence_confidence: float = 0.5,
        mirrored: bool = False,
        backend: Backend = "auto",
        threads: int | None = None,
    ) -> None:
        self.weights = weights
        self.detection_confidence = detection_confidence  # palms below it are ignored
        self.presence_confidence = presence_confidence  # regions not above it hold no hand
        self.mirrored = mirrored
        self.backend = backend
        self.threads = threads or torch.get_num_threads()
        self._torch: dict[torch.device, TorchNetworks] = {}
        self._litert: tuple[int, LiteRTNetworks] | None = None

    @classmethod
    def from_pretrained(
        cls, complexity: Complexity = "full", *, path: str | Path | None = None,
        detection_confidence: float = 0.5, presence_confidence: float = 0.5, mirrored: bool = False,
        backend: Backend = "auto", threads: int | None = None,
    ) -> HandDetector:  # fmt: skip
        """Build the detector from MediaPipe's weights, found as `weights.load_hand_weights` says.

        Raises: ModelError (weights that cannot be obtained, or are not what they should be).
        """
        return cls(
            load_hand_weights(complexity, path=path),
            detection_confidence=detection_confidence,
            presence_confidence=presence_confidence,
            mirrored=mirrored,
            backend=backend,
            threads=threads,
        )

    # ------------------------------------------------------------------------------------- finding

    @torch.no_grad()
    def detect(
        self,
        frames: np.ndarray | Tensor,
        *,
        mode: Mode = "image",
        track: Track | None = None,
        chunk: int = 32,
    ) -> Hands:
        """Find the hands of B frames: uint8 B×H×W×3, or float B×3×H×W in [0, 1], on any device.

        `mode="image"` takes each frame for itself. `mode="video"` follows hands from frame to frame, as
        MediaPipe does: palms are looked for only while fewer than two hands are followed. A `track` kept
        between calls continues a video that comes in pieces. `chunk` frames are worked on at a time.
        """
        frames = _tensor(frames) if isinstance(frames, np.ndarray) else frames
        height, width = _check(frames)
        networks = self._networks(frames.device)
        found: list[list[_Found]] = []
        for start in range(0, len(frames), chunk):
            part = _as_uint8(frames[start : start + chunk])
            if mode == "image":
                found += self._each(networks, part)
            elif mode == "video":
                track = track if track is not None else Track()
                found += self._follow(networks, part, track)
            else:
                raise ValueError(f"mode must be 'image' or 'video', not {mode!r}")
        return self._pack(found, height, width, networks, frames.device)

    def _each(self, networks: HandNetworks, frames: Tensor) -> list[list[_Found]]:
        """Image mode: all palms of the chunk, then all hands of the chunk."""
        height, width = frames.shape[1:3]
        rows, regions = [], []
        for row, output in enumerate(networks.palms(frames)):
            for region in self._palm_regions(output, height, width):
                rows.append(row)
                regions.append(region)
        found: list[list[_Found]] = [[] for _ in frames]
        for row, hand in zip(rows, self._read(networks, frames, rows, regions), strict=True):
            if hand is not None:
                found[row].append(hand)
        return found

    def _follow(self, networks: HandNetworks, frames: Tensor, track: Track) -> list[list[_Found]]:
        """Video mode: frame by frame, as the regions come from the frame before."""
        height, width = frames.shape[1:3]
        found, ahead = [], None
        for row in range(len(frames)):
            regions = []
            searching = len(track.regions) < MAX_HANDS
            if searching:
                output = ahead() if ahead is not None else networks.start_palms(frames[row])()
                regions = self._palm_regions(output, height, width)
            ahead = None
            if searching and row + 1 < len(frames):
                # A frame after one without two hands most often needs its palms too: start on them now.
                ahead = networks.start_palms(frames[row + 1])
            regions = associate([*regions, *track.regions])
            read = self._read(networks, frames, [row] * len(regions), regions)
            found.append([hand for hand in read if hand is not None])
            track.regions = [tracked_region(hand.landmarks, height, width) for hand in found[-1]]
        return found

    def _palm_regions(self, output: tuple[np.ndarray, np.ndarray], height: int, width: int) -> list[Region]:
        palms = find_palms(*output, height, width, self.detection_confidence)
        return associate([palm_region(palm, height, width) for palm in palms])

    def _read(
        self, networks: HandNetworks, frames: Tensor, rows: Sequence[int], regions: Sequence[Region]
    ) -> list[_Found | None]:
        """The hand in each region; None where there is none."""
        if not regions:
            return []
        height, width = frames.shape[1:3]
        reading = networks.hands(frames, rows, [region.square(height, width) for region in regions])
        logits = reading.presence.cpu().numpy()
        presence, right = (
            1 / (1 + np.exp(-logits.astype(np.float64))),
            self.rightness(reading).cpu().numpy(),
        )
        landmarks = reading.landmarks.cpu().numpy()
        return [
            _Found(project(landmarks[i], region, height, width), logits[i], presence[i], right[i], region)
            if presence[i] > self.presence_confidence
            else None
            for i, region in enumerate(regions)
        ]

    def rightness(self, reading: Reading) -> Tensor:
        """N probabilities of a right hand: MediaPipe calls it left, as it expects mirrored pictures."""
        score = reading.right.sigmoid()
        return 1 - score if self.mirrored else score

    def _pack(
        self, found: list[list[_Found]], height: int, width: int, networks: HandNetworks, device: torch.device
    ) -> Hands:
        """Put the hands of each frame into their slots."""
        count = len(found)
        joints = torch.zeros(count, 2, JOINTS_A_HAND, 2)
        logits = torch.full((count, 2), NO_HAND_LOGIT)
        right, visible = torch.zeros(count, 2), torch.zeros(count, 2, dtype=torch.bool)
        rois = torch.zeros(count, 2, 4)
        for row, hands in enumerate(found):
            for number, slot in assign_slots([h.presence for h in hands], [h.right for h in hands]):
                hand = hands[number]
                joints[row, slot] = torch.from_numpy(hand.landmarks)
                logits[row, slot], right[row, slot] = float(hand.logit), float(hand.right)
                rois[row, slot] = torch.from_numpy(hand.region.square(height, width))
                visible[row, slot] = True
        return Hands(
            joints.view(count, 2 * JOINTS_A_HAND, 2).to(device),
            logits.to(device),
            right.to(device),
            rois.to(device),
            visible.to(device),
            (height, width),
            self._label(networks),
        )

    # ------------------------------------------------------------------------------------- reading

    def landmarks(self, frames: np.ndarray | Tensor, rois: Tensor, *, features: bool = False) -> Hands:
        """Read given regions of B frames (types as in `detect`): differentiable with respect to float frames.

        `rois` is B×2×4 as in `Hands.rois`; a slot whose side is 0 is left empty, the others give joints
        whatever their presence: weigh them. Slots are those of `rois`, not of the handedness that is read.
        `features=True` adds the landmark network's activations at 56, 28, 14 and 7 px, each N×C×h×w over
        the N regions that are not empty, in the order of frames and slots.
        """
        if isinstance(frames, np.ndarray):
            frames = _tensor(frames)
        height, width = _check(frames)
        if not frames.is_floating_point():
            frames = frames.permute(0, 3, 1, 2)
        if rois.shape != (len(frames), 2, 4):
            raise ValueError(f"rois must be {len(frames)}×2×4, not {'×'.join(map(str, rois.shape))}")
        networks = self._torch_on(frames.device)
        squares = rois.detach().to(frames.device, torch.float32).reshape(-1, 4)
        taken = (squares[:, 2] > 0).nonzero()[:, 0]
        joints = frames.new_zeros(2 * len(frames), JOINTS_A_HAND, 2, dtype=torch.float32)
        logits = joints.new_full((len(joints),), NO_HAND_LOGIT)
        right = joints.new_zeros(len(joints))
        maps: tuple[Tensor, ...] = ()
        if len(taken):
            pictures = crop(frames, taken // 2, squares[taken].cpu().numpy(), HAND_INPUT, "edge")
            reading = networks.read(pictures, features=features)
            points = _to_frame(reading.landmarks, squares[taken])
            joints = joints.index_copy(0, taken, points / points.new_tensor([width, height]))
            logits = logits.index_copy(0, taken, reading.presence)
            right = right.index_copy(0, taken, self.rightness(reading))
            maps = reading.features
        logits = logits.view(-1, 2)
        return Hands(
            joints.view(len(frames), 2 * JOINTS_A_HAND, 2),
            logits,
            right.view(-1, 2),
            squares.view(-1, 2, 4),
            logits.detach().sigmoid() > self.presence_confidence,
            (height, width),
            self._label(networks),
            maps,
        )

    # ------------------------------------------------------------------------------------ backends

    def _networks(self, device: torch.device) -> HandNetworks:
        """The backend for frames on a device: LiteRT on a CPU where it is installed, else torch."""
        on_cpu = device.type == "cpu"
        if self.backend == "litert" and not on_cpu:
            raise ValueError(f"the litert backend runs on the CPU, the frames are on {device}")
        if self.backend == "litert" or (self.backend == "auto" and on_cpu and litert_installed()):
            if self._litert is None or self._litert[0] != os.getpid():  # threads do not survive a fork
                self._litert = os.getpid(), LiteRTNetworks(self.weights, self.threads)
            return self._litert[1]
        return self._torch_on(device)

    def _torch_on(self, device: torch.device) -> TorchNetworks:
        if device not in self._torch:
            self._torch[device] = TorchNetworks(self.weights, device)
        return self._torch[device]

    def modules_on(self, device: torch.device) -> list[torch.nn.Module]:
        """The networks that `landmarks` and `detect` run in torch on a device: to be counted or moved."""
        networks = self._torch_on(device)
        return [networks.palm_net, networks.hand_net]

    def _label(self, networks: HandNetworks) -> str:
        return f"{networks.name}, {self.weights.complexity}"


@dataclass(frozen=True)
class _Found:
    """One hand of one frame."""

    landmarks: np.ndarray  # 21×2 in [0, 1] of the frame, float32
    logit: float  # of its presence
    presence: float
    right: float  # probability of a right hand
    region: Region


def _to_frame(landmarks: Tensor, squares: Tensor) -> Tensor:
    """Landmarks N×21×2 in px of the network's picture, and the N×4 squares it shows → px of the frame."""
    points = landmarks / HAND_INPUT - 0.5
    centre, side, rotation = squares[:, None, :2], squares[:, None, 2:3], squares[:, 3:4]
    cos, sin = rotation.cos(), rotation.sin()
    x = cos * points[..., 0] - sin * points[..., 1]
    y = sin * points[..., 0] + cos * points[..., 1]
    return centre + side * torch.stack([x, y], dim=-1)


def _tensor(frames: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # of arrays that cannot be written to, such as PIL's: no one writes
        warnings.simplefilter("ignore")
        return torch.from_numpy(np.ascontiguousarray(frames))


def _check(frames: Tensor) -> tuple[int, int]:
    """(H, W). Raises: InputError for anything but uint8 B×H×W×3 or float B×3×H×W with pixels."""
    if frames.ndim == 4 and frames.numel():
        if frames.dtype == torch.uint8 and frames.shape[3] == 3:
            return frames.shape[1], frames.shape[2]
        if frames.is_floating_point() and frames.shape[1] == 3:
            return frames.shape[2], frames.shape[3]
    kind, shape = str(frames.dtype).removeprefix("torch."), "×".join(map(str, frames.shape))
    raise InputError(f"frames must be uint8 B×H×W×3 or float B×3×H×W, not {kind} {shape}")


def _as_uint8(frames: Tensor) -> Tensor:
    """Frames as B×H×W×3 uint8 on the device where they are; floats are rounded as a file would round them."""
    if frames.is_floating_point():
        frames = frames.detach().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return frames.contiguous()
