"""Questions put to a multimodal model. A new one is a new file and one line here."""

from typing import TYPE_CHECKING

from reelm import registry

if TYPE_CHECKING:
    from reelm.prompts.base import Prompt

PROMPTS = {
    "attributes": "reelm.prompts.attributes:Attributes",
    "caption": "reelm.prompts.caption:Caption",
    "content_summary": "reelm.prompts.content_summary:ContentSummary",  # a title to stand beside
    "details": "reelm.prompts.details:Details",  # of a video, in closed words
    "extraction": "reelm.prompts.extraction:Extraction",  # out of the texts beside a video
    "generated_videos": "reelm.prompts.generated_videos:GeneratedVideos",  # about users' notes
    "knowledge": "reelm.prompts.knowledge:Knowledge",  # along the factors that people choose by
    "preference_edges": "reelm.prompts.preference_edges:PreferenceEdges",  # likewise
    "preferences": "reelm.prompts.preferences:Preferences",  # likewise, along the same factors
    "rationale": "reelm.prompts.rationale:Rationale",  # likewise, in three steps
    "speech": "reelm.prompts.speech:Speech",  # what `reelm transcribe` hears
    "user_profile": "reelm.prompts.user_profile:UserProfile",  # likewise
    "visual_summary": "reelm.prompts.visual_summary:VisualSummary",  # short, for rankers that read
}


def find(name: str) -> "type[Prompt]":
    """The class of a prompt.

    Raises:
        UnknownName: no table lists it.
    """
    return registry.find("prompts", PROMPTS, name)
