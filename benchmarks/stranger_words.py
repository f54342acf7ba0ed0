"""What strangers write under a video: of the video, of something else, and of nothing.

Eight wordings of each kind and attribute, `{}` being a value; studies keep the last two from what
learns.
"""

TRUE: dict[str, tuple[str, ...]] = {
    "subject": (
        "that {} is adorable", "love the {} in this one", "the {} is the star here",
        "i came for the {} and stayed", "what a {} lol", "keep your eyes on the {}",
        "could look at this {} all day", "give the {} an award",
    ),
    "motion": (
        "look how it goes {}", "{} {} {} all the way lol", "the {} move gets me every time",
        "it keeps going {} and i cannot stop", "watch it {} at the end",
        "so hypnotic when it goes {}",
        "that {} thing it does is perfect", "why is it always {} in here",
    ),
    "scene": (
        "the {} in the background is so pretty", "filmed in the {} right", "this {} looks unreal",
        "i want to be in that {} now", "best {} shot so far", "wait is this the {}",
        "someone take me to this {}", "the {} behind it is lovely",
    ),
    "mood": (
        "this made me so {}", "such a {} clip", "why is this so {}", "the {} vibe here is real",
        "{} from start to end", "feeling {} after watching this", "it has such a {} feel",
        "who else got {} from this",
    ),
    "tempo": (
        "the {} beat here works", "it is so {} i had to replay it", "nice {} tempo in this",
        "a {} one for once", "{} music and i like it", "this track is {} in the best way",
        "the cuts are {} and good", "its {} rhythm fits",
    ),
    "instrument": (
        "those {} sounds are great", "who plays the {} here", "the {} part is stuck in my head",
        "turn it up for the {}", "nice {} in the back", "the {} made it",
        "i hear {} and i smile", "that {} solo though",
    ),
    "word": (
        "it says {} in big letters", "did you read {} on the screen", "the {} caption is gold",
        "why does it say {} lol", "{} written right across it", "the text {} made me laugh",
        "those letters spell {}", "{} pops up on screen",
    ),
}  # fmt: skip
"""Of the video itself."""

OTHER: dict[str, tuple[str, ...]] = {
    "subject": (
        "my {} at home is better", "yesterday i saw a {} outside", "selling a {} dm me",
        "your last one had a {} and was worse", "anyone else dreaming of a {}",
        "i drew a {} on my page", "my brother has a {} too", "should have been a {} instead",
    ),
    "motion": (
        "swipe {} for more", "i would go {} instead", "scroll {} to see mine",
        "my dog goes {} when it hears this", "next time let it go {}", "my life goes {} lately",
        "turn {} at my street", "prices go {} again",
    ),
    "scene": (
        "greetings from the {}", "i live near the {}", "your old {} video was better",
        "moving to the {} next year", "my trip to the {} is on my page",
        "next time go to the {} please",
        "wish you had picked the {}", "writing this from the {}",
    ),
    "mood": (
        "i am {} today because of school", "my day was {}", "be {} everyone",
        "was {} before i came here", "my ex was never {}", "the news are {}",
        "monday makes me {}", "your other clips are {}",
    ),
    "tempo": (
        "my wifi is {}", "make the next one {}", "shipping was {}", "my bus is {} again",
        "your last song was {}", "my phone got {}", "growing up is {}", "the queue was {} today",
    ),
    "instrument": (
        "i play the {} myself", "my {} lessons are on my page", "needs more {}",
        "wish it had {}", "my neighbour practises {} at night", "who wants {} sheets",
        "grandma taught me the {}", "there should be {} instead",
    ),
    "word": (
        "they should write {} on it", "my shirt says {}", "{} is my favourite word",
        "your other one said {}", "type {} if you agree", "why not write {} next time",
        "my sister yells {} a lot", "somebody sprayed {} on my door",
    ),
}  # fmt: skip
"""Of something else, in the same words."""

EMPTY = (
    "first", "wow", "who is here in 2026", "follow me back", "part two please", "so underrated",
    "the algorithm brought me here", "check my page", "notifications gang", "lol same",
    "tagging my best friend", "ok then", "can we talk about it", "no comment", "respect",
)  # fmt: skip
"""Of nothing."""
