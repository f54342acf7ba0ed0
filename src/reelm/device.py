"""Where torch computes."""


def best(asked: str) -> str:
    """What was asked for; for `auto` an accelerator, if there is one."""
    import torch  # here, not above: settings are read and `--help` is told without it

    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
