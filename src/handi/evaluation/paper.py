"""The figures that the paper prints (tables 1 to 4), and why ours can or cannot stand beside them."""

from __future__ import annotations

LABELS = {
    "lfdm": "LFDM",
    "aa": "AnimateAnything",
    "avdc": "AVDC",
    "pia": "PIA",
    "open_sora": "Open-Sora",
    "dynamicrafter": "DynamiCrafter",
    "cogvideox": "CogVideoX",
    "handi": "HANDI",
}
_ALIASES = {"animate_anything": "aa", "animateanything": "aa", "opensora": "open_sora", "ours": "handi",
            "cogvideo_x": "cogvideox", "dynami_crafter": "dynamicrafter"}  # fmt: skip

# Benchmark → (as tables head it, clips of its test split). The third: the tenth of the first that moves most.
BENCHMARKS = {
    "epic-kitchens": ("EpicKitchens", 8857),
    "ego4d": ("Ego4D", 9931),
    "motion-intensive": ("Motion Intensive", 886),
}

# Table 1: parameters in billions, seconds per video. Device, batch and steps are not given; HANDI's
# parameters are twice AnimateAnything's, so VAE and text encoder are in there twice.
TABLE1: dict[str, tuple[float, float]] = {
    "lfdm": (0.108, 3.57),
    "aa": (1.837, 5.74),
    "avdc": (0.229, 66.23),
    "pia": (1.483, 13.8),
    "open_sora": (1.484, 44.0),
    "dynamicrafter": (1.876, 9.32),
    "cogvideox": (4.978, 108.41),
    "handi": (3.674, 8.64),
}

# Columns of tables 2 and 3: figure of results.json → heading. BLIP is the large model's. The paper does not
# say how HS-Err counts a hand that is missed; its values fit `matched`.
COLUMNS: dict[str, str] = {
    "hs_err_matched": "HS-Err",
    "fid": "FID",
    "clip_gt": "CLIP_GT",
    "fvd": "FVD",
    "egovlp": "EgoVLP",
    "clip_cs": "CLIP_Cs",
    "clip_tx": "CLIP_Tx",
    "blip_large": "BLIP",
}
BETTER = {"hs_err_matched": "lower", "fid": "lower", "fvd": "lower"}  # of all others more is better

_Row = tuple[float, ...]  # the eight columns


# Open-Sora's CLIP_GT on EpicKitchens is printed as 93.823; it is meant as 0.93823.
TABLE2: dict[str, dict[str, _Row]] = {
    "epic-kitchens": {
        "lfdm": (0.01987, 39.37, 0.9241, 129.80, 0.354, 0.9826, 28.37, 0.235),
        "aa": (0.01908, 5.49, 0.9588, 171.29, 0.338, 0.9843, 29.97, 0.295),
        "avdc": (0.01969, 140.34, 0.8918, 81.39, 0.197, 0.9582, 24.66, 0.116),
        "pia": (0.01826, 24.70, 0.9446, 212.88, 0.361, 0.9849, 30.06, 0.294),
        "open_sora": (0.01968, 135.34, 0.93823, 124.52, 0.187, 0.9573, 24.46, 0.186),
        "dynamicrafter": (0.01716, 43.56, 0.9306, 175.79, 0.348, 0.9131, 28.22, 0.288),
        "cogvideox": (0.01981, 127.51, 0.9362, 121.06, 0.214, 0.9677, 25.13, 0.176),
        "handi": (0.01512, 5.27, 0.9590, 101.89, 0.377, 0.9896, 31.14, 0.298),
    },
    "ego4d": {
        "lfdm": (0.02127, 50.67, 0.9204, 126.71, 0.535, 0.9821, 26.93, 0.221),
        "aa": (0.02393, 21.83, 0.9647, 129.60, 0.642, 0.9894, 28.56, 0.260),
        "avdc": (0.02117, 144.91, 0.8816, 107.82, 0.261, 0.9722, 24.17, 0.155),
        "pia": (0.02393, 34.62, 0.9457, 104.38, 0.603, 0.9746, 29.15, 0.219),
        "open_sora": (0.02142, 141.90, 0.8716, 117.87, 0.252, 0.9753, 24.12, 0.172),
        "dynamicrafter": (0.02203, 57.21, 0.9386, 181.24, 0.336, 0.9489, 26.67, 0.231),
        "cogvideox": (0.03079, 187.20, 0.8962, 165.18, 0.201, 0.9900, 28.22, 0.147),
        "handi": (0.01939, 21.51, 0.9651, 103.15, 0.664, 0.9873, 28.63, 0.263),
    },
    "motion-intensive": {
        "lfdm": (0.02053, 56.95, 0.9254, 137.44, 0.303, 0.9825, 28.39, 0.210),
        "aa": (0.01764, 23.93, 0.9591, 115.14, 0.368, 0.9845, 30.07, 0.276),
        "avdc": (0.02143, 148.11, 0.8933, 85.97, 0.204, 0.9579, 24.60, 0.102),
        "pia": (0.01940, 40.97, 0.9448, 217.59, 0.330, 0.9719, 30.09, 0.280),
        "handi": (0.01663, 23.79, 0.9589, 114.52, 0.371, 0.9849, 31.12, 0.327),
    },
}

# (mask, HRL) in the paper's order of rows; masks are called as in recipes (`MaskRecipe`).
CELLS: tuple[tuple[str, str], ...] = (
    ("full", "off"), ("generated", "off"), ("full", "on"), ("generated", "on"),
    ("prior", "on"), ("prior", "off"), ("true", "off"), ("true", "on"),
)  # fmt: skip
MASKS = {"full": "×", "generated": "Stage 1", "prior": "Prior", "true": "GT"}
HRL = {"off": "×", "on": "✓"}

# Scope → a row for each of CELLS.
TABLE3: dict[str, tuple[_Row, ...]] = {
    "area-mask": (
        (0.02067, 13.516, 0.9551, 172.56, 0.211, 0.9677, 27.862, 0.261),
        (0.01949, 13.023, 0.9549, 122.31, 0.214, 0.9650, 26.840, 0.271),
        (0.01771, 13.440, 0.9549, 169.99, 0.339, 0.9780, 27.863, 0.269),
        (0.01504, 10.692, 0.9563, 100.52, 0.390, 0.9753, 28.041, 0.283),
        (0.01701, 12.530, 0.9551, 132.19, 0.355, 0.9848, 27.909, 0.275),
        (0.02149, 11.335, 0.9539, 116.09, 0.352, 0.9714, 28.011, 0.262),
        (0.01804, 10.847, 0.9547, 101.53, 0.367, 0.9755, 28.023, 0.272),
        (0.01762, 9.816, 0.9536, 114.44, 0.372, 0.9631, 28.102, 0.281),
    ),
    "full": (
        (0.01908, 5.497, 0.9588, 171.29, 0.338, 0.9843, 29.970, 0.295),
        (0.01940, 5.570, 0.9589, 124.42, 0.197, 0.9881, 29.949, 0.296),
        (0.01760, 5.384, 0.9589, 168.85, 0.338, 0.9889, 29.929, 0.294),
        (0.01512, 5.272, 0.9590, 101.89, 0.377, 0.9896, 30.055, 0.298),
        (0.01670, 5.285, 0.9588, 137.01, 0.354, 0.9869, 30.045, 0.297),
        (0.02146, 5.613, 0.9589, 161.48, 0.341, 0.9748, 30.025, 0.296),
        (0.01935, 5.287, 0.9589, 102.43, 0.380, 0.9842, 30.050, 0.297),
        (0.01738, 5.194, 0.9587, 113.57, 0.382, 0.9748, 30.096, 0.295),
    ),
}

# Table 4: BLIP large, BLIP base.
TABLE4_COLUMNS = {"blip_large": "BLIP large", "blip_base": "BLIP base"}
TABLE4: dict[str, dict[str, tuple[float, float]]] = {
    "epic-kitchens": {
        "lfdm": (0.235, 0.223),
        "aa": (0.295, 0.298),
        "avdc": (0.116, 0.106),
        "pia": (0.294, 0.299),
        "handi": (0.298, 0.335),
    },
    "ego4d": {
        "lfdm": (0.221, 0.219),
        "aa": (0.260, 0.264),
        "avdc": (0.155, 0.161),
        "pia": (0.219, 0.260),
        "handi": (0.263, 0.306),
    },
}


def method_key(name: str) -> str | None:
    """Which of the paper's methods a name means, or None."""
    key = name.lower().replace("-", "_").replace(" ", "_")
    key = _ALIASES.get(key, key)
    return key if key in LABELS else None


def benchmark_key(name: str) -> str | None:
    """Which of the paper's benchmarks the name of a data set means, or None."""
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key.startswith("epic") or key == "ek":
        return "epic-kitchens"
    return "ego4d" if key.startswith("ego4d") else None


def differences(data: str, n: int, benchmark: str, *, authors_weights: bool) -> list[str]:
    """Why a figure on n clips of `data` and the paper's on `benchmark` are not comparable; [] if they are."""
    label, clips = BENCHMARKS[benchmark]
    named = benchmark_key(data)
    found = []
    if named is None or (named != benchmark and benchmark != "motion-intensive"):
        found.append(f"other data: {data} ({n} clips), the paper's is {label}")
    elif n != clips:
        found.append(f"{n} clips of {label}, the paper's are {clips}")
    if not authors_weights:
        found.append("weights that are not the authors'")
    return found
