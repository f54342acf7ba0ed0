"""Processes that train one model together."""

import torch


class Here:
    """This process among those that train together; one alone as a rule."""

    def __init__(self, device: str) -> None:
        """`device`: auto, or cpu where an accelerator is not wanted."""
        from accelerate import PartialState  # peft brings it

        self._state = PartialState(cpu=device == "cpu")
        self.device = torch.device(self._state.device or "cpu")
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self.first = self._state.is_main_process

    def wait(self) -> None:
        """Until all processes are here."""
        self._state.wait_for_everyone()

    def summed(self, *values: float | int) -> list[float]:
        """The sum of each value over all processes."""
        if self.count == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return total.tolist()
