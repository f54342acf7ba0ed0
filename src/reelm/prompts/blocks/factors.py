"""Factors: what a micro-video is liked or passed over for, in the same words for videos and people.

Source: Xi et al. 2024, "Towards Open-World Recommendation with Knowledge Augmentation from Large
Language Models", arXiv:2306.10933, section 4.1: one list of factors for both questions, so that
the two answers speak of the same things. The list is ours, since theirs are of films and books.
"""

FACTORS = (
    "topic", "format", "creator", "action", "setting", "mood", "pace", "sound", "language",
    "on_screen_text", "novelty", "length",
)  # fmt: skip


def worded(factor: str, value: str) -> str:
    """A factor and its value in a phrase."""
    return f"{factor.replace('_', ' ')} {value}"
