"""The tiny LLaVA that comes with the package: made for the rendered world, small enough for tests.

It was trained on rendered clips only. On real videos it answers in the rendered world's words,
whatever it sees; take another backend for those.
"""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import PositiveInt

from reelm.backends.base import BackendConfig
from reelm.backends.transformers import Transformers, TransformersConfig
from reelm.errors import BackendError

FOLDER = Path(__file__).parent / "pocket_weights"


class PocketConfig(BackendConfig):
    """Section [backend] for `pocket`."""

    device: str = "auto"
    """cpu, cuda …; auto takes an accelerator if there is one."""
    batch: PositiveInt = 32
    """Requests that are answered together."""


class Pocket(Transformers):
    """The transformers backend on the packaged checkpoint."""

    name: ClassVar[str] = "pocket"
    Config: ClassVar[type[BackendConfig]] = PocketConfig

    def __init__(self, config: PocketConfig | None = None, folder: Path = FOLDER) -> None:
        """Load the packaged checkpoint.

        Raises:
            BackendError: the package was built without it.
        """
        if not (folder / "config.json").is_file():
            raise BackendError(
                "model",
                f"{folder}: no checkpoint there. This copy of reelm was built without the pocket "
                "model; make one with `reelm tune`, or name another with --backend transformers.",
            )
        config = config or PocketConfig()
        super().__init__(
            TransformersConfig(model=str(folder), device=config.device, batch=config.batch)
        )

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"backend": self.name, "model": self.name}
