"""What a rendered clip can show and play: closed vocabularies, and where each is to be seen."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": (
        "cat", "fish", "car", "rocket", "pizza", "guitar", "flower", "robot", "ghost", "ball",
    ),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "count": ("1", "2", "3"),
    "motion": ("still", "left", "right", "up", "down", "spin", "pulse", "bounce"),
    "scene": ("beach", "forest", "city", "space", "snow", "desert", "ocean", "stage"),
    "light": ("day", "sunset", "night"),
    "effect": ("none", "snowflakes", "confetti", "hearts", "bubbles", "sparkles"),
    "word": (
        "none", "WOW", "LOL", "DIY", "NEW", "EASY", "LIVE", "POV", "WIN", "FAIL", "TIPS", "MOOD",
        "RARE", "SALE", "VLOG", "ASMR",
    ),
    "instrument": ("piano", "synth", "drums", "strings", "flute", "none"),
    "tempo": ("slow", "medium", "fast", "none"),
    "mood": ("happy", "sad", "none"),
}  # fmt: skip
"""Each attribute's values. Their order is fixed: it is the order of columns and of answers."""

SEEN_IN: dict[str, str] = {
    "subject": "frame",
    "colour": "frame",
    "count": "frame",
    "motion": "motion",
    "scene": "frame",
    "light": "frame",
    "effect": "frame",
    "word": "frame",
    "instrument": "sound",
    "tempo": "sound",
    "mood": "sound",
}
"""What tells the attribute: one frame, several frames in order (motion), or the sound."""

RGB = tuple[int, int, int]
"""Red, green and blue, 0..255."""

Number = int | float

COLOURS: dict[str, RGB] = {
    "red": (226, 44, 52),
    "orange": (250, 140, 30),
    "yellow": (250, 218, 50),
    "green": (60, 180, 70),
    "blue": (50, 110, 235),
    "purple": (150, 70, 205),
    "pink": (250, 130, 190),
    "white": (245, 245, 245),
}
INK: RGB = (30, 26, 40)
WHITE: RGB = (255, 255, 255)


def blend(one: RGB, other: RGB, share: float) -> RGB:
    """`one` moved towards `other` by `share` (0..1)."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def lit(colour: RGB, light: str) -> RGB:
    """A scenery colour as it looks by day, at sunset (warmer) or at night (darker, bluer)."""
    red, green, blue = colour
    if light == "sunset":
        return min(255, red + 30), int(green * 0.78), int(blue * 0.70)
    if light == "night":
        return int(red * 0.36), int(green * 0.40), min(255, int(blue * 0.55) + 22)
    return colour
