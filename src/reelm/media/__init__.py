"""Reading video files: facts, frames at times, sound, and a compact store of what was decoded."""
